"""Seconds and memory of one training step: keras_taps on three backends and eager PyTorch.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --group quick
    python benchmarks/training_step.py --configurations cnn7-16-mnist-taps3-s8-b32

Random images, after annealing; step_configurations.py explains the names. Each implementation runs
in a process of its own, with its own backend and its own peak memory. All processes of a
configuration stay alive and take turns, a few steps at a time over several rounds, so that a noisy
minute of the machine hits all of them; while one computes the others wait. The first step of a
turn is not counted: it finds caches and thread pools cold.

A step of keras_taps is one call of `train_on_batch`: the same compiled step that `fit` runs, plus
the hand-over of one batch and of the metrics as numbers, which also waits until the step is done.
The eager step ends with the loss as a number, for the same reason. Both include the optimiser.

"products" is the machine's ceiling: the convolutions and matrix products of the step alone, each
by the fastest of the libraries' primitives, times the calls that step_products.py counts. They
are measured in turns of the same rounds.

Results are written after each configuration; one that the file holds from the same commit,
machine, versions and settings is skipped, any other replaced. An epoch on real data is timed by
`short_training.py --timing`, certification by certification.py.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import primitives
from provenance import RESULTS, provenance, read_json, threads, write_json
from step_configurations import GROUPS, TAU_RATIO, parse
from step_products import count_calls

PRODUCTS = "products"
IMPLEMENTATIONS = ("tensorflow", "jax", "torch", "eager-torch", PRODUCTS)
MOST_STEPS = 20  # in one turn


def peak_mebibytes():
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def accelerator():
    """Name and peak memory of the accelerator this process computes on; empty without one."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch and torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
        return {"device": torch.cuda.get_device_name(), "peak_device_mib": peak}
    if jax and jax.default_backend() != "cpu":
        (device, *_) = jax.devices()
        peak = device.memory_stats()["peak_bytes_in_use"] / 2**20
        return {"device": device.device_kind, "peak_device_mib": peak}
    return {}


def random_batch(configuration):
    """Images in [0, 1] and labels."""
    random = np.random.default_rng(0)
    size = configuration.batch
    images = random.uniform(size=(size, *configuration.image_shape)).astype("float32")
    return images, random.integers(0, configuration.classes, size).astype("int32")


def keras_step(configuration, x, y):
    """A function that runs one training step of keras_taps and returns None."""
    import keras

    import keras_taps as kt

    network = getattr(kt.networks, configuration.network)(
        configuration.image_shape,
        configuration.classes,
        width=configuration.width,
        **configuration.network_options,
    )
    options = dict(configuration.options)
    if configuration.is_small_box:
        options["tau_ratio"] = TAU_RATIO
    if configuration.points:
        options["classifier_relus"] = configuration.classifier_relus
        options["attack_steps"] = configuration.attack_steps
    method = kt.training.METHODS[configuration.method]
    model = method(network, eps=configuration.eps, **options)
    model.compile(keras.optimizers.Adam(5e-4, epsilon=1e-8, global_clipnorm=10.0))
    return lambda: model.train_on_batch(x, y)


def eager_step(configuration, x, y):
    """A function that runs one eager PyTorch training step, always for all classes."""
    import eager_torch
    import torch

    height, columns, channels = configuration.image_shape
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = getattr(eager_torch, configuration.network)(
        configuration.width,
        (channels, height, columns),
        configuration.classes,
        **configuration.network_options,
    ).to(device)
    optimizer = eager_torch.adam(network)
    images = torch.tensor(x.transpose(0, 3, 1, 2).copy(), device=device)
    batch = images, torch.tensor(y, device=device).long(), configuration.eps
    loss, options = eager_torch.ibp_loss, {}
    if configuration.is_small_box:
        options["tau_ratio"] = TAU_RATIO
    if configuration.points:
        loss = eager_torch.taps_loss
        options["classifier_relus"] = configuration.classifier_relus
        options["steps"] = configuration.attack_steps
    return lambda: eager_torch.training_step(network, optimizer, loss, *batch, **options)


def work(implementation, name):
    """Worker: read numbers of steps from stdin, answer with lines of JSON on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def answer(**content):
        print(json.dumps(content), file=answers, flush=True)

    configuration = parse(name)
    kind, _, library = implementation.partition(":")
    if kind == PRODUCTS:
        calls = count_calls(configuration)
        answer(
            products=[
                {**asdict(product), "pass": direction, "calls": number, "flop": product.flop}
                for (product, direction), number in calls.items()
            ]
        )
        for _ in sys.stdin:
            answer(seconds=[primitives.fastest(library, *call) for call in calls])
        return
    if kind == "eager-torch":
        import torch  # noqa: F401

        prepare = eager_step
    else:
        import keras_taps.training  # noqa: F401  # with Keras and its backend

        prepare = keras_step
    baseline = peak_mebibytes()
    step = prepare(configuration, *random_batch(configuration))
    answer(baseline_mib=baseline, threads=threads())
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        answer(seconds=seconds, peak_mib=peak_mebibytes(), **accelerator())


class Worker:
    """A process that holds one implementation of one configuration.

    Args:
        implementation: One of `IMPLEMENTATIONS`; of products with a colon and the library.
        name: Name of the configuration.
        variables: Environment variables of the process.
    """

    def __init__(self, implementation, name, variables=None):
        self.name = implementation
        # Processes share a GPU, so none may take all of its memory.
        environment = {
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "JAX_ENABLE_COMPILATION_CACHE": "false",  # first steps compile
            **os.environ,
            **(variables or {}),
        }
        if implementation in ("tensorflow", "jax", "torch"):
            environment["KERAS_BACKEND"] = implementation
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", implementation, name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.facts = self._read()

    def run(self, steps):
        """Run steps and return `{seconds, peak_mib}`; one of each product if this holds them."""
        print(steps, file=self.process.stdin, flush=True)
        return self._read()

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The worker of {self.name} ended with {self.process.wait()}.")
        return json.loads(line)


def measure(name, implementations, settings):
    """Results of one configuration: `{results, ceiling}`, a result for each implementation."""
    workers, meters = [], []
    try:
        for implementation in implementations:
            if implementation == PRODUCTS:
                libraries = settings["libraries"]
                meters = [Worker(f"{PRODUCTS}:{library}", name) for library in libraries]
            else:
                workers.append(Worker(implementation, name))
        first = [worker.run(1)["seconds"][0] for worker in workers]
        slowest = max([worker.run(1)["seconds"][0] for worker in workers], default=1.0)
        steps = settings["steps"] or int(min(MOST_STEPS, max(1, settings["turn_s"] / slowest)))
        turns, measured = [[] for _ in workers], [[] for _ in meters]
        for _ in range(settings["rounds"]):
            for worker, answers in zip([*workers, *meters], [*turns, *measured], strict=True):
                answers.append(worker.run(1 + steps))
        results = [
            summary(worker, begin, answers)
            for worker, begin, answers in zip(workers, first, turns, strict=True)
        ]
        return {"results": results, "ceiling": ceiling(meters, measured, settings["libraries"])}
    finally:
        for worker in [*workers, *meters]:
            worker.close()


def summary(worker, first, answers):
    """Figures of one implementation."""
    seconds = [answer.pop("seconds")[1:] for answer in answers]
    flat = np.concatenate(seconds)
    return {
        "implementation": worker.name,
        "first_step_s": first,
        "median_s": float(np.median(flat)),
        "minimum_s": float(np.min(flat)),
        "quartiles_s": [float(np.quantile(flat, q)) for q in (0.25, 0.75)],
        **worker.facts,
        **answers[-1],
        "seconds": seconds,
    }


def ceiling(meters, measured, libraries):
    """Seconds and GFLOP of the products alone: of each the fastest library's median."""
    if not meters:
        return None
    medians = np.array(
        [np.median([answer["seconds"] for answer in answers], axis=0) for answers in measured]
    )
    products = []
    for index, product in enumerate(meters[0].facts["products"]):
        best = int(np.argmin(medians[:, index]))
        found = {"seconds": float(medians[best, index]), "library": libraries[best]}
        products.append({**product, **found})
    return {
        "seconds": sum(p["calls"] * p["seconds"] for p in products),
        "gflop": sum(p["calls"] * p["flop"] for p in products) / 1e9,
        "products": products,
    }


def is_measured(measurements, name, settings, origin):
    """Whether a configuration was measured before under the same conditions."""
    same = ("commit", "cpu", "usable_cores", "versions", "environment")
    return not origin["package_modified"] and any(
        old["configuration"]["name"] == name
        and old["settings"] == settings
        and not old["provenance"]["package_modified"]
        and all(old["provenance"][key] == origin[key] for key in same)
        for old in measurements
    )


def report(name, found):
    """Print the figures of one configuration."""
    products = found["ceiling"]
    for result in found["results"]:
        share = f"  of ceiling {products['seconds'] / result['median_s']:.0%}" if products else ""
        print(
            f"{name:32} {result['implementation']:12} median {result['median_s']:8.4f} s  "
            f"minimum {result['minimum_s']:8.4f} s  first {result['first_step_s']:7.2f} s  "
            f"peak {result['peak_mib']:6.0f} MiB (after import {result['baseline_mib']:.0f}){share}"
        )
    if products:
        print(
            f"{name:32} {PRODUCTS:12} {products['seconds']:15.4f} s  {products['gflop']:.1f} GFLOP"
        )
    sys.stdout.flush()


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", choices=GROUPS, default="default")
    parser.add_argument("--configurations", nargs="+", metavar="NAME", help="instead of a group")
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS)
    parser.add_argument(
        "--libraries",
        nargs="+",
        choices=primitives.LIBRARIES,
        default=["torch", "tensorflow"],  # on CPUs JAX computes gradients of convolutions slowly
        help="whose primitives are the ceiling; with a GPU give those that use it",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each implementation (3)")
    parser.add_argument("--turn", type=float, default=4.0, help="seconds of a turn, about (4)")
    parser.add_argument("--steps", type=int, help="counted steps a turn, instead of --turn")
    parser.add_argument("--output", type=Path, help="JSON file; none by default if quick")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work(*options.worker)
        return
    output = options.output
    if output is None and (options.configurations or options.group != "quick"):
        output = RESULTS / "training_step.json"
    names = options.configurations or GROUPS[options.group]
    implementations = options.implementations or list(IMPLEMENTATIONS)
    settings = {
        "implementations": implementations,
        "libraries": options.libraries,
        "rounds": options.rounds,
        "turn_s": None if options.steps else options.turn,
        "steps": options.steps,
    }
    origin = provenance()
    measurements = read_json(output, {"measurements": []})["measurements"] if output else []
    failed = []
    for configuration in map(parse, names):
        name = configuration.name
        if is_measured(measurements, name, settings, origin):
            print(f"{name:32} is measured already", flush=True)
            continue
        try:
            found = measure(name, implementations, settings)
        except RuntimeError as error:  # out of memory, for instance: the others can still run
            print(f"{name:32} failed: {error}", file=sys.stderr, flush=True)
            failed.append(name)
            continue
        report(name, found)
        # In place of an older measurement, whose rows would be of another machine or commit.
        measurements = [m for m in measurements if m["configuration"]["name"] != name]
        measurements.append(
            {
                "configuration": asdict(configuration),
                "settings": settings,
                "provenance": {**origin, "date": provenance()["date"]},
                **found,
            }
        )
        if output:
            write_json(output, {"measurements": measurements})
    if failed:
        sys.exit(f"Not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()

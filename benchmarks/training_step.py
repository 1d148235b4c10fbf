"""Seconds and memory of one training step: keras_taps on three backends and eager PyTorch.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --quick

CNN7 on random images of MNIST's shape, after annealing. Each implementation runs in a process of
its own, with its own backend and its own peak memory. All processes of a configuration stay alive
and take turns, a few steps at a time over several rounds, so that a noisy minute of the machine
hits all of them; while one computes the others wait. The first step of a turn is not counted: it
finds caches and thread pools cold.

A step of keras_taps is one call of `train_on_batch`: the same compiled step that `fit` runs, plus
the hand-over of one batch and of the metrics as numbers, which also waits until the step is done.
The eager step ends with the loss as a number, for the same reason. Both include the optimiser.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from provenance import RESULTS, provenance, threads, write_json

IMPLEMENTATIONS = ("tensorflow", "jax", "torch", "eager-torch")
CONFIGURATIONS = {  # name: arguments of the method, steps in one turn
    "IBP": ({"method": "ibp"}, 20),
    "TAPS, 1 ReLU": ({"method": "taps", "classifier_relus": 1}, 8),
    "TAPS, 3 ReLUs": ({"method": "taps", "classifier_relus": 3}, 4),
}
EPS, CLASSES = 0.1, 10


def peak_mebibytes():
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def random_batch(size):
    """Images `(size, 28, 28, 1)` in [0, 1] and labels."""
    random = np.random.default_rng(0)
    images = random.uniform(size=(size, 28, 28, 1)).astype("float32")
    return images, random.integers(0, CLASSES, size).astype("int32")


def keras_step(task, x, y):
    """A function that runs one training step of keras_taps."""
    import keras

    import keras_taps as kt

    network = kt.networks.cnn7(x.shape[1:], CLASSES, width=task["width"])
    if task["method"] == "ibp":
        model = kt.IBPModel(network, eps=EPS)
    else:
        options = {k: task[k] for k in ("classifier_relus", "attack_steps")}
        model = kt.TAPSModel(network, eps=EPS, **options)
    model.compile(keras.optimizers.Adam(5e-4, epsilon=1e-8, global_clipnorm=10.0))
    return lambda: model.train_on_batch(x, y)


def eager_step(task, x, y):
    """A function that runs one eager PyTorch training step."""
    import eager_torch
    import torch

    network = eager_torch.cnn7(task["width"], (1, 28, 28), CLASSES)
    optimizer = eager_torch.adam(network)
    batch = torch.tensor(x.transpose(0, 3, 1, 2).copy()), torch.tensor(y).long(), EPS
    loss, options = eager_torch.ibp_loss, {}
    if task["method"] == "taps":
        loss = eager_torch.taps_loss
        options = {"classifier_relus": task["classifier_relus"], "steps": task["attack_steps"]}
    return lambda: eager_torch.training_step(network, optimizer, loss, *batch, **options)


def work(task):
    """Worker: read numbers of steps from stdin, answer with lines of JSON on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def answer(**content):
        print(json.dumps(content), file=answers, flush=True)

    if task["implementation"] == "eager-torch":
        import torch  # noqa: F401

        prepare = eager_step
    else:
        import keras_taps  # noqa: F401

        prepare = keras_step
    baseline = peak_mebibytes()
    step = prepare(task, *random_batch(task["batch"]))
    answer(baseline_mib=baseline, threads=threads())
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        answer(seconds=seconds, peak_mib=peak_mebibytes())


class Worker:
    """A process that holds one implementation of one configuration."""

    def __init__(self, task):
        self.name = task["implementation"]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
        if self.name != "eager-torch":
            environment["KERAS_BACKEND"] = self.name
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(task)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.facts = self._read()

    def run(self, steps):
        """Run steps and return `{seconds, peak_mib}`."""
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


def measure(name, implementations, steps, rounds, task):
    """Results of one configuration, one dictionary an implementation."""
    workers, results = [], []
    try:
        for implementation in implementations:
            workers.append(Worker({**task, "implementation": implementation}))
        first = [worker.run(1)["seconds"][0] for worker in workers]
        turns = [[] for _ in workers]
        for _ in range(rounds):
            for worker, answers in zip(workers, turns, strict=True):
                answers.append(worker.run(1 + steps))
        for worker, begin, answers in zip(workers, first, turns, strict=True):
            seconds = [answer["seconds"][1:] for answer in answers]
            flat = np.concatenate(seconds)
            results.append(
                {
                    "configuration": name,
                    "implementation": worker.name,
                    "first_step_s": begin,
                    "median_s": float(np.median(flat)),
                    "minimum_s": float(np.min(flat)),
                    "quartiles_s": [float(np.quantile(flat, q)) for q in (0.25, 0.75)],
                    "peak_mib": answers[-1]["peak_mib"],
                    **worker.facts,
                    "seconds": seconds,
                }
            )
    finally:
        for worker in workers:
            worker.close()
    return results


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test: width 2, 2 steps")
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS)
    parser.add_argument("--configurations", nargs="+", choices=CONFIGURATIONS)
    parser.add_argument("--width", type=int, help="width of CNN7 (16)")
    parser.add_argument("--batch", type=int, help="images a batch (64)")
    parser.add_argument("--attack-steps", type=int, help="steps of the latent attack, < 20 (8)")
    parser.add_argument("--rounds", type=int, help="turns of each implementation (3)")
    parser.add_argument("--steps", type=int, help="counted steps a turn (20, 8 and 4)")
    parser.add_argument("--output", type=Path, help="JSON file; none by default with --quick")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work(options.worker)
        return
    quick = options.quick
    settings = {
        "width": options.width or (2 if quick else 16),
        "batch": options.batch or (8 if quick else 64),
        "attack_steps": options.attack_steps or (2 if quick else 8),
    }
    rounds = options.rounds or (1 if quick else 3)
    output = options.output or (None if quick else RESULTS / "training_step.json")
    content = {
        "provenance": provenance(),
        "settings": {**settings, "eps": EPS, "rounds": rounds},
        "results": [],
    }
    for name in options.configurations or CONFIGURATIONS:
        method, steps = CONFIGURATIONS[name]
        steps = options.steps or (2 if quick else steps)
        found = measure(
            name,
            options.implementations or IMPLEMENTATIONS,
            steps,
            rounds,
            {**settings, **method},
        )
        for result in found:
            print(
                f"{name:14} {result['implementation']:12} "
                f"median {result['median_s']:8.4f} s  minimum {result['minimum_s']:8.4f} s  "
                f"first {result['first_step_s']:7.2f} s  peak {result['peak_mib']:6.0f} MiB "
                f"(after import {result['baseline_mib']:.0f})",
                flush=True,
            )
        content["results"] += found
        if output:
            write_json(output, content)


if __name__ == "__main__":
    main()

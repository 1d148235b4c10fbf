"""What the other systems of the paper cost: seconds and memory of a training step and a validation.

    python benchmarks/other_systems.py --backend tensorflow
    python benchmarks/other_systems.py --backend jax --cases convex-10-cnn3 colt-1-cnn5

Random images of MNIST's shape, ten classes, untrained networks; the phase after the ramp. Each case
runs in a process of its own, so that its peak of memory is its own. A record replaces an older one
of the same case and backend. Run them on a quiet machine.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from provenance import RESULTS, add_record, provenance, threads
from short_training import train
from training_step import peak_mebibytes

IMAGE, CLASSES, EPS, STEPS = (28, 28, 1), 10, 0.1, 6
SLIM = {"width": 16}
NEVER = 10**6  # steps of a ramp that does not end here


class Case(NamedTuple):
    """What is trained for some steps.

    Args:
        network: Name of a function of `keras_taps.networks`.
        method: Name of a training method.
        options: Of the method.
        own: Options of the network.
        batch: Images a step.
        evaluated: Whether an evaluation is timed.
        ramp: Steps of the ramp; 0 for the phase after it.
    """

    network: str
    method: str
    options: dict
    own: dict = SLIM
    batch: int = 256
    evaluated: bool = True
    ramp: int = 0


def _cases():
    methods = {
        "ibp": {},
        "ibp-r": {"warmup_weight": 0.0, "stability": 1e-3},
        "diffai": {"warmup_weight": 0.0},
    }
    stages = (
        {"warmup_weight": 0.0, "stage": 0, "stability": 1e-3},
        {"warmup_weight": 0.0, "stage": 1},
    )
    for network in ("cnn3", "cnn5"):
        for method, options in methods.items():
            yield f"{method}-{network}", Case(network, method, options)
        for options in stages:
            stage = options["stage"]
            yield (
                f"colt-{stage}-{network}",
                Case(network, "colt", {"warmup_weight": 0.0, **options}),
            )
    for count in (10, 50):
        options = {"warmup_weight": 0.0, "projections": count}
        yield f"colt-2-{count}-cnn5", Case("cnn5", "colt", {**options, "stage": 2})
        yield f"convex-{count}-cnn3", Case("cnn3", "convex", options)
        if count == 10:  # exact bounds of CNN5 take minutes a batch
            yield f"convex-{count}-cnn5", Case("cnn5", "convex", options, evaluated=False)
    options = {"warmup_weight": 0.0, "abstraction": "hbox"}
    yield "diffai-hbox-cnn3", Case("cnn3", "diffai", options, batch=16)
    for width in (64, 128, 256):
        own = {"width": width, "depth": 4, "keep": 0.8}
        for norm, ramp in (("p", NEVER), ("infinity", 0)):
            case = Case("distance_net", "sortnet", {}, own, batch=128, ramp=ramp)
            yield f"sortnet-{width}-{norm}", case


CASES = dict(_cases())


def measure(case):
    """The record of one case on the backend of this process."""
    import keras

    import keras_taps as kt

    chosen = CASES[case]
    random = np.random.default_rng(0)
    x = random.uniform(size=(chosen.batch, *IMAGE)).astype("float32")
    y = random.integers(0, CLASSES, chosen.batch)
    keras.utils.set_random_seed(0)
    network = getattr(kt.networks, chosen.network)(IMAGE, CLASSES, **chosen.own)
    model = kt.training.METHODS[chosen.method](network, EPS, seed=0, **chosen.options)
    model.compile(keras.optimizers.Adam(1e-4, epsilon=1e-10))
    model.set_annealing(0, chosen.ramp)
    seconds, _ = train(model, x, y, 0, {"batch_size": chosen.batch, "steps": STEPS})
    found = {"first_step_s": seconds[0], "step_s": float(np.median(seconds[1:]))}
    found["training_mib"] = peak_mebibytes()
    if chosen.evaluated:
        for _ in range(2):  # the first traces
            began = time.perf_counter()
            model.evaluate(x, y, batch_size=chosen.batch, verbose=0)
            found["evaluation_s"] = time.perf_counter() - began
        found["evaluation_mib"] = peak_mebibytes()
    return {
        "case": case,
        "backend": keras.backend.backend(),
        "network": f"{chosen.network}, width {chosen.own['width']}",
        "method": chosen.method,
        "options": {**chosen.options, "ramp": bool(chosen.ramp)},
        "batch": chosen.batch,
        **found,
        "threads": threads(),
    }


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--output", type=Path, default=RESULTS / "other_systems.json")
    parser.add_argument("--here", action="store_true", help="print one case's record as JSON")
    options = parser.parse_args(arguments)
    environment = {**os.environ, "KERAS_BACKEND": options.backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if options.here:
        print(json.dumps(measure(options.cases[0])))
        return
    for case in options.cases:
        command = [sys.executable, __file__, "--here", "--cases", case]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{case} ended with {done.returncode}; what it said is above.")
        record = {**json.loads(done.stdout.splitlines()[-1]), "provenance": provenance()}
        print(case, f"{record['step_s']:.3f} s a step", flush=True)
        add_record(options.output, record, ("case", "backend"))


if __name__ == "__main__":
    main()

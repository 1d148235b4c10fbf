"""What the other systems of the paper cost: seconds and memory of a training step and a validation.

    python benchmarks/other_systems.py --backend tensorflow
    python benchmarks/other_systems.py --backend jax --cases convex-10 convex-50

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

import numpy as np
from provenance import RESULTS, add_record, provenance, threads
from short_training import train
from training_step import peak_mebibytes

IMAGE, CLASSES, EPS, STEPS = (28, 28, 1), 10, 0.1, 6
LINES = {"warmup_weight": 0.0}
RAMP = 10**6  # steps, of which none is the last
# Name: (network, its options, method, options, batch, whether an evaluation is timed, ramp).
CASES = {
    f"{name}-{network}": (network, {"width": 16}, method, options, 256, True, 0)
    for name, method, options in (
        ("ibp", "ibp", {}),
        ("ibp-r", "ibp-r", {**LINES, "stability": 1e-3}),
        ("colt-0", "colt", {**LINES, "stage": 0, "stability": 1e-3}),
        ("colt-1", "colt", {**LINES, "stage": 1}),
        ("diffai", "diffai", LINES),
    )
    for network in ("cnn3", "cnn5")
}
CASES |= {
    f"colt-2-{count}-cnn5": (
        *("cnn5", {"width": 16}, "colt", {**LINES, "stage": 2, "projections": count}),
        *(256, True, 0),
    )
    for count in (10, 50)
}
CASES |= {
    f"convex-{count}-{network}": (
        *(network, {"width": 16}, "convex", {**LINES, "projections": count}),
        *(256, network == "cnn3", 0),  # exact bounds of CNN5 take minutes a batch
    )
    for count, network in ((10, "cnn3"), (50, "cnn3"), (10, "cnn5"))
}
CASES["diffai-hbox-cnn3"] = (
    *("cnn3", {"width": 16}, "diffai", {**LINES, "abstraction": "hbox"}),
    *(16, True, 0),
)
CASES |= {
    f"sortnet-{width}-{norm}": (
        *("distance_net", {"width": width, "depth": 4, "keep": 0.8}, "sortnet", {}),
        *(128, True, ramp),
    )
    for width in (64, 128, 256)
    for norm, ramp in (("p", RAMP), ("infinity", 0))
}


def measure(case):
    """The record of one case on the backend of this process."""
    import keras

    import keras_taps as kt

    network, own, method, options, batch, evaluated, ramp = CASES[case]
    random = np.random.default_rng(0)
    x = random.uniform(size=(batch, *IMAGE)).astype("float32")
    y = random.integers(0, CLASSES, batch)
    keras.utils.set_random_seed(0)
    made = getattr(kt.networks, network)(IMAGE, CLASSES, **own)
    model = kt.training.METHODS[method](made, EPS, seed=0, **options)
    model.compile(keras.optimizers.Adam(1e-4, epsilon=1e-10))
    model.set_annealing(0, ramp)
    seconds, _ = train(model, x, y, 0, {"batch_size": batch, "steps": STEPS})
    found = {"first_step_s": seconds[0], "step_s": float(np.median(seconds[1:]))}
    found["training_mib"] = peak_mebibytes()
    if evaluated:
        for _ in range(2):  # the first traces
            began = time.perf_counter()
            model.evaluate(x, y, batch_size=batch, verbose=0)
            found["evaluation_s"] = time.perf_counter() - began
        found["evaluation_mib"] = peak_mebibytes()
    return {
        "case": case,
        "backend": keras.backend.backend(),
        "network": f"{network}, width {own['width']}",
        "method": method,
        "options": {**options, "ramp": bool(ramp)},
        "batch": batch,
        **found,
        "threads": threads(),
        "provenance": provenance(),
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
        record = json.loads(done.stdout.splitlines()[-1])
        record["provenance"] = provenance()
        print(case, f"{record['step_s']:.3f} s a step", flush=True)
        add_record(options.output, record, ("case", "backend"))


if __name__ == "__main__":
    main()

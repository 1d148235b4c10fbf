"""Seconds of training steps on a GPU, of JAX and PyTorch beside the eager PyTorch step.

    python benchmarks/gpu_steps.py steps.json --seconds 200
    python benchmarks/gpu_steps.py steps.json --tiny

The workers are those of training_step.py. All implementations of a configuration compile at the
same time, since XLA compiles on the CPU for most of a minute; then they take turns on the card,
so that none is measured while another computes. TensorFloat-32, in which a GPU multiplies float32
numbers with 10 bits of mantissa, is on and off by the libraries' own variables; in a third mode it
is on and attacks search in bfloat16. Results are written after each configuration; what does not
fit into the seconds is named and left out.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from provenance import write_json
from step_configurations import parse
from training_step import PRODUCTS, Worker, ceiling, summary

TF32 = {  # by variables of the libraries; on is what JAX does unasked, PyTorch in convolutions
    "off": {"NVIDIA_TF32_OVERRIDE": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest"},
    "on": {
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
        "JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32",
    },
}
COARSE = "on, search in bfloat16"  # which the eager step does not have
IMPLEMENTATIONS = ("jax", "torch", "eager-torch")
# In order of importance, each in all modes before the next.
CONFIGURATIONS = (
    "cnn7-64-mnist-taps1-s8-b256",
    "cnn7-64-mnist-taps3-s8-b256",
    "cnn7-64-mnist-ibp-b256",
    "cnn7-64-mnist-sabr-b256",
    "cnn7-64-mnist-staps1-s8-b256",
    "cnn7-64-mnist-taps1-s8-b128-c200-estimators=4",
    "cnn7-64-mnist-taps1-s8-b128-c200-chunk_size=50",
)
TINY = ("cnn3-2-mnist-taps1-s2-b8-c20-chunk_size=5",)
STEPS, ROUNDS = 6, 3
MOST_CLASSES = 100


def tf32(mode):
    """'on' or 'off': the setting of the card in a mode."""
    return mode.split(",")[0]


def start(name, modes, implementations):
    """Workers of a configuration `{(implementation, tf32): Worker or the error's text}`, compiled.

    Each has run two steps; the seconds of the first are in its `first`.
    """
    own = parse(name)
    attacks = own.is_small_box or own.attack_steps
    keys = [
        (i, mode)
        for mode in modes
        for i in implementations
        if mode != COARSE or (attacks and i != "eager-torch")
    ]

    def begin(key):
        implementation, mode = key
        try:
            coarse = "-search_dtype=bfloat16" * (mode == COARSE)
            worker = Worker(implementation, name + coarse, TF32[tf32(mode)])
            worker.first = worker.run(1)["seconds"][0]
            worker.run(1)
            return worker
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(len(keys)) as pool:
        return dict(zip(keys, pool.map(begin, keys), strict=True))


def measure(name, modes, implementations, steps, rounds, deadline):
    """Results of one configuration: a row for each implementation and mode that ran."""
    workers = start(name, modes, implementations)
    alive = {key: w for key, w in workers.items() if isinstance(w, Worker)}
    failed = [
        {"implementation": i, "tf32": mode, "error": workers[i, mode]}
        for i, mode in workers.keys() - alive.keys()
    ]
    meters, products = {}, {}
    try:
        turns = {key: [] for key in alive}
        for _ in range(rounds):
            for key, worker in list(alive.items()):
                if time.time() < deadline or not turns[key]:
                    turns[key].append(worker.run(1 + steps))
        for worker in alive.values():  # the products need room
            worker.close()
        for mode in map(tf32, modes):
            if mode in meters:
                continue
            meters[mode] = Worker(f"{PRODUCTS}:torch", name, TF32[mode])
            products[mode] = ceiling([meters[mode]], [[meters[mode].run(1)]], ["torch"])
        rows = [
            {"tf32": key[1], **summary(worker, worker.first, turns[key])}
            for key, worker in alive.items()
        ]
        return {"results": rows, "failed": failed, "ceiling": products}
    finally:
        for worker in [*alive.values(), *meters.values()]:
            worker.close()


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=200, help="for all of it (200)")
    parser.add_argument("--tiny", action="store_true", help="small networks, for a CPU")
    options = parser.parse_args(arguments)
    deadline = time.time() + options.seconds
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    measurements, left_out, longest = [], [], 0.0
    for name in TINY if options.tiny else CONFIGURATIONS:
        began = time.time()
        # The longest so far is what the next may take: none is begun that could not end.
        if measurements and began + longest > deadline:
            left_out.append(name)
            continue
        how = (("off",), 1, 1) if options.tiny else (("off", "on", COARSE), STEPS, ROUNDS)
        modes, steps, rounds = how
        if parse(name).classes > MOST_CLASSES:  # a card cannot hold two eager steps of them
            modes = modes[-2:]
        found = measure(name, modes, IMPLEMENTATIONS, steps, rounds, deadline)
        longest = max(longest, time.time() - began)
        measurements.append({"configuration": asdict(parse(name)), **found})
        write_json(options.output, {"measurements": measurements, "left_out": left_out})
        for row in found["results"]:
            of = found["ceiling"][tf32(row["tf32"])]["seconds"] / row["median_s"]
            print(
                f"{name:48} {row['implementation']:12} TF32 {row['tf32']:3} {row['median_s']:.4f} s"
                f"  first {row['first_step_s']:.0f} s  {row.get('peak_device_mib', np.nan):.0f} MiB"
                f"  of ceiling {of:.0%}",
                flush=True,
            )
        for row in found["failed"]:
            print(f"{name} {row['implementation']} TF32 {row['tf32']}: {row['error']}", flush=True)
    write_json(options.output, {"measurements": measurements, "left_out": left_out})
    if not measurements or any(not m["results"] for m in measurements):
        sys.exit("A configuration has no result; what its workers said is above.")


if __name__ == "__main__":
    main()

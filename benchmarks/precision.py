"""Seconds of a latent attack's products in float32 and in lower precision, library by library.

    python benchmarks/precision.py

One point for each wrong class of a batch, CNN7: forward and input gradient of each hidden layer
after the split. It says whether a search in lower precision can pay on this machine at all.
"""

import argparse
import os
import sys
from pathlib import Path

from provenance import RESULTS, provenance, write_json

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from primitives import LIBRARIES, fastest
from step_configurations import parse
from step_products import count_calls

DTYPES = ("float32", "bfloat16", "float16")


def attack_products(name):
    """Products of the latent attack and their passes, `[(Product, pass)]`."""
    configuration = parse(name)
    points = configuration.batch * configuration.points
    calls = count_calls(configuration)
    return [(p, way) for p, way in calls if p.batch == points and way != "weight"]


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configuration", default="cnn7-16-mnist-taps3-s8", metavar="NAME")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "precision.json")
    options = parser.parse_args(arguments)
    records = []
    for product, way in attack_products(options.configuration):
        kind = "convolution" if product.is_convolution else "matrix product"
        for library in options.libraries:
            seconds = {dtype: [] for dtype in DTYPES}
            for _ in range(options.rounds):
                for dtype in DTYPES:
                    seconds[dtype].append(fastest(library, product, way, dtype))
            medians = {dtype: sorted(s)[len(s) // 2] for dtype, s in seconds.items()}
            record = {"kind": kind, "pass": way, "library": library, "seconds": medians}
            records.append({**record, "weights": product.weights, "batch": product.batch})
            print(kind, way, library, {d: f"{s:.5f}" for d, s in medians.items()}, flush=True)
    write_json(
        options.output,
        {
            "configuration": options.configuration,
            "rounds": options.rounds,
            "provenance": provenance(),
            "records": records,
        },
    )


if __name__ == "__main__":
    sys.exit(main())

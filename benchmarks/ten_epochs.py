"""Recipes of ten epochs on MNIST: train, measure, certify; one seed.

    TFDS_DATA_DIR=... python benchmarks/ten_epochs.py mnist-0.1-cnn3-ibp-r mnist-0.1-cnn3-colt

Each is a run of `keras-taps train` in a folder below `build/ten_epochs`; if interrupted, the same
command resumes it. Its `metrics.json` and what the verifier proves of the first images become
`results/runs/NAME.json`. Beside recipes there are the rows of `CHANGED`, which change one; a
teacher is trained first.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from provenance import RESULTS, read_json, write_json
from short_settings import SETTINGS
from short_training import prove

RUNS = RESULTS.parent.parent / "build" / "ten_epochs"
TEACHER = "mnist-0.1-cnn3-pgd"
# Name of a row: the recipe that it changes, and how. The recipe's 50 projections would take hours.
CHANGED = {
    "mnist-0.1-cnn3-cc-dist": ("mnist-0.1-cnn3-cc-ibp", {"teacher": TEACHER}),
    "mnist-0.1-cnn3-ad-cert": ("mnist-0.1-cnn3-mtl-ibp", {"teacher": TEACHER}),
    "mnist-0.1-cnn3-convex-10": ("mnist-0.1-cnn3-convex", {"projections": 10}),
}


def train(name, runs, backend):
    """A whole run by the command line of the package, resumed if it was begun; its folder."""
    folder, (recipe, changes) = runs / name, CHANGED.get(name, (name, {}))
    if (folder / "metrics.json").exists():
        return folder
    if "teacher" in changes:
        changes = {**changes, "teacher": train(TEACHER, runs, backend) / "best.keras"}
    begun = ["--resume", str(folder)]
    if not folder.exists():
        sets = [part for each in changes.items() for part in ("--set", "{}={}".format(*each))]
        begun = [recipe, "--out", str(folder), *sets]
    command = [sys.executable, "-m", "keras_taps", "train", "--backend", backend, *begun]
    subprocess.run(command, check=True)
    return folder


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+", help="names of `keras-taps recipes`, or of `CHANGED`")
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of run folders")
    parser.add_argument("--output", type=Path, default=RESULTS / "runs", help="folder of results")
    options = parser.parse_args(arguments)
    os.environ["KERAS_BACKEND"] = options.backend  # Keras reads it when it is imported
    import keras_taps as kt

    for name in options.recipes:
        path = options.output / f"{name}.json"
        if "certified" in (read_json(path) or {}):
            print(name, "is there already", flush=True)
            continue
        folder = train(name, options.runs, options.backend)
        metrics = read_json(folder / "metrics.json")
        settings = {**SETTINGS, "eps": metrics["eps"]}
        test = kt.datasets.load(metrics["dataset"], validation=0).test
        proofs = prove(folder / metrics["model"], test, settings)
        write_json(path, {**metrics, "certified": proofs})
        print(name, proofs["images"], proofs["certified"], proofs["unknown"], flush=True)


if __name__ == "__main__":
    main()

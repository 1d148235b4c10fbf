"""How long a user waits before anything happens: imports and help, in new processes.

    python benchmarks/startup.py
    python benchmarks/startup.py --before COMMIT --backends tensorflow --rounds 9

Each round runs every command once, the same commands also with the package as it was in another
commit, and Keras alone. A first round fills the caches and is not counted.
"""

import argparse
import io
import itertools
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from provenance import RESULTS, ROOT, provenance, write_json

BEFORE = "a46710c7e6f3f9e34e0d1567749b531d0b8a0ca5"  # the last that imported all at once
KERAS = "import keras"
COMMANDS = {
    "import keras_taps": ("-c", "import keras_taps"),
    "keras_taps.TAPSModel": ("-c", "import keras_taps; keras_taps.TAPSModel"),
    "keras-taps --help": ("-m", "keras_taps", "--help"),
    "keras-taps train --help": ("-m", "keras_taps", "train", "--help"),
}


def extract(commit, folder):
    """Write the package of a commit into a folder."""
    command = ["git", "-C", str(ROOT), "archive", commit, "keras_taps"]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(folder, filter="data")


def seconds(arguments, backend, tree):
    """Wall time of a new interpreter that finds the package in `tree`."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(tree)}
    command = [sys.executable, *arguments]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=tree)
    return time.perf_counter() - began


def measure(backends, rounds, trees):
    """Records of every backend and command, with the seconds of each round.

    Args:
        backends: List of names.
        rounds: Counted rounds.
        trees: Dictionary from "before" and "after" to folders with the package.
    """
    jobs = [("after", KERAS, ("-c", KERAS))]
    jobs += [(tree, *job) for job, tree in itertools.product(COMMANDS.items(), trees)]
    found = {(backend, *job[:2]): [] for backend in backends for job in jobs}
    for number in range(rounds + 1):
        for backend, (tree, name, arguments) in itertools.product(backends, jobs):
            spent = seconds(arguments, backend, trees[tree])
            if number:
                found[backend, tree, name].append(spent)
        print(f"round {number} of {rounds}", flush=True)
    return [
        {
            "backend": backend,
            "package": None if name == KERAS else tree,
            "command": name,
            "median_s": statistics.median(times),
            "minimum_s": min(times),
            "seconds": times,
        }
        for (backend, tree, name), times in found.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT")
    parser.add_argument("--output", type=Path, default=RESULTS / "startup.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        extract(arguments.before, folder)
        trees = {"before": Path(folder), "after": ROOT}
        records = measure(arguments.backends, arguments.rounds, trees)
    content = {"before": arguments.before, "records": records, "provenance": provenance()}
    write_json(arguments.output, content)


if __name__ == "__main__":
    main()

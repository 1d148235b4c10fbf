"""Properties of the VNN competition, one by one: verdict, stage and seconds against what is known.

    python benchmarks/competition.py --folder DIR
    python benchmarks/competition.py --only mnistfc --timeout 60

DIR, or else the environment variable VNNLIB_DIR, holds `verdicts.csv` with the columns benchmark,
onnx, vnnlib, verdict and best_seconds, and the files it names. A record is added as soon as it is
complete; the same command resumes it.
"""

import argparse
import csv
import os
from pathlib import Path

from provenance import RESULTS, provenance, read_json, write_json


def run(folder, row, timeout):
    """Verify one property; return the record."""
    from keras_taps.verification.cascade.verify import verify
    from keras_taps.verification.formats.onnx_reader import read_onnx
    from keras_taps.verification.formats.vnnlib import read_vnnlib

    network = read_onnx(folder / row["onnx"])
    answer = verify(network.graph, read_vnnlib(folder / row["vnnlib"], network), timeout)
    return {
        **{name: row[name] for name in ("benchmark", "onnx", "vnnlib")},
        "expected": row["verdict"],
        "verdict": answer.verdict,
        "stage": answer.stage,
        "checked": answer.checked,
        "seconds": answer.seconds,
        "best_seconds": float(row["best_seconds"]),
        "timeout": timeout,
        "provenance": provenance(),
    }


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=os.environ.get("VNNLIB_DIR"))
    parser.add_argument("--only", help="rows whose benchmark has this name")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--output", type=Path, default=RESULTS / "competition.json")
    options = parser.parse_args(arguments)
    if not options.folder:
        parser.error("name the folder of the properties: --folder DIR, or set VNNLIB_DIR")
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with open(options.folder / "verdicts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    records = read_json(options.output, [])
    done = {(record["onnx"], record["vnnlib"]) for record in records}
    for row in rows:
        wanted = options.only in (None, row["benchmark"])
        if not wanted or (row["onnx"], row["vnnlib"]) in done:
            continue
        record = run(options.folder, row, options.timeout)
        print(
            *(record[k] for k in ("vnnlib", "expected", "verdict", "stage", "seconds")), flush=True
        )
        records.append(record)
        write_json(options.output, records)


if __name__ == "__main__":
    main()

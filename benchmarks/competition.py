"""Properties of the VNN competition, one by one: verdict, stage and seconds against what is known.

    python benchmarks/competition.py --folder DIR
    python benchmarks/competition.py --only acasxu --timeout 60
    python benchmarks/competition.py --hard --options "--branching babsr"

DIR, or else the environment variable VNNLIB_DIR, holds `verdicts.csv` and `verdicts2.csv` with the
columns benchmark, onnx, vnnlib, verdict and best_seconds, and the files they name. Each row is a
run of `keras-taps verify` in a process of its own with one thread, whose clock counts seconds of
CPU: what else runs on the machine changes nothing. It is ended if it is much too late. A record is
added as soon as it is complete; the same command resumes it.

`--hard` runs the rows again that `competition.json` decides by branch and bound or not at all, with
options of `keras-taps verify`, for `competition_tried.json`.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from provenance import RESULTS, provenance, read_json, write_json

LISTS = ("verdicts.csv", "verdicts2.csv")
VERIFY = """
import time
time.perf_counter = time.process_time  # the timeout is one of CPU
from keras_taps.cli import main
main()
"""
GRACE = 30  # seconds of CPU after the timeout at which a process is ended
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ALONE = {**dict.fromkeys(THREADS, "1"), "TF_NUM_INTRAOP_THREADS": "1"}


def verify(folder, row, timeout, options=()):
    """What `keras-taps verify` answers on one row, as JSON, and what it costs.

    Returns:
        Dictionary: `verdict` ('sat', 'unsat', 'unknown', 'timeout'; 'refused' for a network or
        property that is not read, 'killed' after the grace period), `stage`, `checked`, `ended`,
        `wall_s` and `cpu_s` of the whole process, imports included.
    """
    command = [sys.executable, "-c", VERIFY, "verify", "--json", "--timeout", str(timeout)]
    command += [*options, str(folder / row["onnx"]), str(folder / row["vnnlib"])]

    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (int(timeout + GRACE),) * 2)

    before, began = _cpu(), time.perf_counter()
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **ALONE}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=limit)
    if run.returncode < 0:
        answer = {"verdict": "killed"}
    elif run.returncode:
        answer = {"verdict": "refused", "ended": run.stderr.strip().splitlines()[-1:]}
    else:
        answer = json.loads(run.stdout)
    return {
        **{name: answer.get(name) for name in ("verdict", "stage", "checked", "ended")},
        "wall_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(_cpu() - before, 2),
    }


def row_of(record):
    """What makes a record that of a row."""
    return record["onnx"], record["vnnlib"]


def _cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=os.environ.get("VNNLIB_DIR"))
    parser.add_argument("--only", help="rows whose benchmark has this name")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--hard", action="store_true", help="only rows that need splits")
    parser.add_argument("--options", default="", help="of `keras-taps verify`, in one string")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    if not options.folder:
        parser.error("name the folder of the properties: --folder DIR, or set VNNLIB_DIR")
    folder = Path(options.folder)
    known = RESULTS / "competition.json"
    output = options.output or (RESULTS / "competition_tried.json" if options.hard else known)
    hard = {row_of(r) for r in read_json(known, []) if r["stage"] in (None, "bab")}
    records = read_json(output, [])
    done = {row_of(record) for record in records if record.get("what", "") == options.options}
    own = ["--backend", options.backend] if options.backend else []
    own += options.options.split()
    for name in LISTS:
        with open(folder / name, newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            wanted = options.only in (None, row["benchmark"])
            wanted = wanted and (not options.hard or row_of(row) in hard)
            if not wanted or row_of(row) in done:
                continue
            record = {
                "list": name,
                **{key: row[key] for key in ("benchmark", "onnx", "vnnlib")},
                "expected": row["verdict"],
                **({"what": options.options} if options.hard else {}),
                **verify(folder, row, options.timeout, own),
                "best_seconds": float(row["best_seconds"]),
                "timeout": options.timeout,
                "provenance": provenance(),
            }
            shown = ("vnnlib", "expected", "verdict", "stage", "cpu_s", "wall_s")
            print(*(record[key] for key in shown), flush=True)
            records.append(record)
            write_json(output, records)


if __name__ == "__main__":
    main()

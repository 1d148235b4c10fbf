"""Images that cost a verifier seconds, minutes or more on networks of certified training.

    TFDS_DATA_DIR=... python benchmarks/hard_set.py collect --model benchmarks/models/NAME.keras
    python benchmarks/hard_set.py draw
    TFDS_DATA_DIR=... python benchmarks/hard_set.py export --out build/hard

`collect` certifies MNIST test images with one thread and a clock of the seconds of CPU of this
process; if interrupted, the same command goes on. `draw` takes images that neither an attack nor
interval bounds decide, as many from each bin of those seconds and from each network as there are,
evenly by place in the test set. `export` writes a folder of ONNX and VNN-LIB files for each
network, as the competition has them, to be solved by any verifier.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from provenance import RESULTS, provenance, read_json, write_json

SECONDS = (1, 10, 100)
CHEAP = ("natural", "ibp", "attack", "crown-ibp")
REPORTS = RESULTS.parent.parent / "build" / "hard_set"
SIZE = 60


def bin_of(record):
    """Number of the bin of a record: 0 up to the first limit, ..., last: undecided."""
    if record["verdict"] == "unknown":
        return len(SECONDS)
    return sum(record["seconds"] > limit for limit in SECONDS)


def collect(options):
    """Certify; the report is the record."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    time.perf_counter = time.process_time  # before it is imported from there
    import keras_taps as kt

    x, y = kt.datasets.load("mnist", validation=0).test
    x, y = x[: options.count], y[: options.count]

    def show(report, total):
        print(len(report.records), "of", total, report.accuracies(), flush=True)

    out = REPORTS / f"{Path(options.model).stem}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    kt.certify(options.model, x, y, options.eps, timeout=options.timeout, out=out, progress=show)
    write_json(out.with_suffix(".json"), {"timeout": options.timeout, **provenance()})


def draw(options):
    """Choose from the reports; write the results."""
    from keras_taps.verification import Report

    reports = sorted(REPORTS.glob("*.jsonl"))
    chosen, found = [], {}
    share = -(-SIZE // (len(reports) * (len(SECONDS) + 1)))
    for path in reports:
        report = Report.load(path)
        dear = [record for record in report.records if record["stage"] not in CHEAP]
        bins = [[r for r in dear if bin_of(r) == number] for number in range(len(SECONDS) + 1)]
        found[path.stem] = {
            "images": len(report.records),
            "accuracies": report.accuracies(),
            "bins": [len(each) for each in bins],
            **read_json(path.with_suffix(".json")),
        }
        for number, records in enumerate(bins):
            records = sorted(records, key=lambda record: record["index"])
            step = max(len(records) / share, 1)
            for place in range(min(share, len(records))):
                record = records[int(place * step)]
                names = ("index", "label", "verdict", "stage", "seconds")
                chosen.append(
                    {"model": path.stem, "bin": number, **{name: record[name] for name in names}}
                )
    write_json(
        options.output,
        {"eps": options.eps, "limits": SECONDS, "networks": found, "images": chosen},
    )


def export(options):
    """A folder of the competition for each network, by the command line of the package."""
    content = read_json(options.output)
    for name in content["networks"]:
        images = [record for record in content["images"] if record["model"] == name]
        command = [sys.executable, "-m", "keras_taps", "export"]
        command += [str(RESULTS.parent / "models" / f"{name}.keras")]
        command += ["--dataset", "mnist", "--eps", str(content["eps"])]
        command += ["--folder", str(options.out / name), "--timeout", str(SECONDS[-1])]
        for record in images:
            command += ["--index", str(record["index"])]
        subprocess.run(command, check=True)


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("collect", "draw", "export"))
    parser.add_argument("--model", type=Path, help="of `collect`: .keras file")
    parser.add_argument("--count", type=int, default=2000, help="first test images to certify")
    parser.add_argument("--timeout", type=float, default=SECONDS[-1], help="seconds of CPU")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--out", type=Path, default=Path("build/hard"), help="of `export`")
    parser.add_argument("--output", type=Path, default=RESULTS / "hard_set.json")
    options = parser.parse_args(arguments)
    {"collect": collect, "draw": draw, "export": export}[options.action](options)


if __name__ == "__main__":
    main()

"""The report of a certification: one record an input, in a file that survives interruption."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from keras_taps.files import write_atomically

FORMAT = "keras_taps certification report 1"
CERTIFIED, FALSIFIED, UNKNOWN = "certified", "falsified", "unknown"
MISCLASSIFIED = "misclassified"
VERDICTS = (CERTIFIED, FALSIFIED, UNKNOWN, MISCLASSIFIED)
_GROWS = {"count": "inputs", "timeout": "seconds an input"}  # when a later run goes on
_FREE = ("provenance", "data", *_GROWS)  # of the data inputs are compared one by one


@dataclass(repr=False)
class Report:
    """Verdicts on a set of inputs.

    Args:
        header: What the verdicts are about: network hash, eps, stages, versions.
        records: List of dictionaries, one an input: `index`, `input`, `label`, `predicted`,
            `verdict`, `stage`, `bound`, `checked`, `seconds`, `stage_seconds`.
        path: File it was read from or is written to, or `None`.

    Example:

    >>> record = {"index": 0, "verdict": "certified", "stage": "ibp", "seconds": 0.1}
    >>> Report({"eps": 0.1, "count": 1}, [record]).accuracies()["certified"]
    1.0
    """

    header: dict
    records: list
    path: Path | None = None

    @property
    def verdicts(self):
        """Array of verdicts, in the order of the indices."""
        return np.array([record["verdict"] for record in self._sorted()])

    def _sorted(self):
        return sorted(self.records, key=lambda record: record["index"])

    def __repr__(self):
        shares, header = self.accuracies(), self.header
        return (
            f"Report({shares['count']} of {header.get('count', shares['count'])} inputs, "
            f"eps {header.get('eps')}, certified {shares['certified']:.2%}, "
            f"unknown {shares['unknown']:.2%})"
        )

    def counterexample(self, index):
        """The input that breaks the network near one of the images.

        Args:
            index: Of the image; its verdict must be 'falsified'.

        Returns:
            float64 array with the shape of an image.

        Raises:
            ValueError: If the verdict is another one, or the report was not written to a file.
            FileNotFoundError: If the file of the counterexample is gone.
        """
        verdicts = {record["index"]: record["verdict"] for record in self.records}
        if verdicts.get(index) != "falsified":
            raise ValueError(
                "`index` must be that of a falsified input. "
                f"Received: {index!r}, {verdicts.get(index, 'not in the report')}"
            )
        if self.path is None:
            raise ValueError("Counterexamples are kept beside a report: give `out` to `certify`.")
        path = files_of(self.path) / f"counterexample-{index:06d}.npz"
        if not path.is_file():
            raise FileNotFoundError(f"There is no counterexample '{path}'.")
        with np.load(path) as file:
            return file["point"]

    def accuracies(self):
        """Shares of the inputs decided so far, in [0, 1].

        Returns:
            Dictionary: `natural` (classified correctly), `certified` (proved robust),
            `adversarial` (not broken by any attack, at least `certified`), `unknown`, `count`.
        """
        counts, total = Counter(record["verdict"] for record in self.records), len(self.records)
        share = {name: counts[name] / total if total else 0.0 for name in VERDICTS}
        return {
            "natural": 1.0 - share["misclassified"] if total else 0.0,
            "adversarial": share["certified"] + share["unknown"],
            "certified": share["certified"],
            "unknown": share["unknown"],
            "count": total,
        }

    def certified_by(self):
        """Shares of the inputs that are certified by the end of each stage, in [0, 1].

        They add up: 'crown-ibp' counts what 'ibp' certified before it, and the last stage all that
        is certified. A stage that only attacks adds nothing.

        Returns:
            Dictionary from each stage to a share, in the order of the stages.

        Example:

        >>> rows = [("certified", "ibp"), ("certified", "bab"), ("unknown", None)]
        >>> records = [{"index": i, "verdict": v, "stage": s} for i, (v, s) in enumerate(rows)]
        >>> report = Report({"stages": ["ibp", "crown-ibp", "bab"]}, records)
        >>> {stage: round(share, 2) for stage, share in report.certified_by().items()}
        {'ibp': 0.33, 'crown-ibp': 0.33, 'bab': 0.67}
        """
        counts = (row["certified"] for name, row in self.stages().items() if name != "natural")
        total = max(len(self.records), 1)
        names = self.header.get("stages", ())
        return {name: n / total for name, n in zip(names, accumulate(counts), strict=True)}

    def stages(self):
        """Dictionary from each stage to its decisions and seconds.

        Returns:
            `{stage: {"certified": n, "falsified": n, "seconds": s}}` in the order of the stages.
        """
        names = ["natural", *self.header.get("stages", ())]
        found = {name: {"certified": 0, "falsified": 0, "seconds": 0.0} for name in names}
        for record in self.records:
            if record["verdict"] in ("certified", "falsified"):
                found[record["stage"]][record["verdict"]] += 1
            for stage, seconds in record.get("stage_seconds", {}).items():
                found[stage]["seconds"] += seconds
        return found

    @property
    def unchecked(self):
        """Number of certified inputs that the float64 checker has not confirmed."""
        return sum(
            record["verdict"] == "certified" and not record["checked"] for record in self.records
        )

    def summary(self):
        """The report as text: accuracies, what each stage decided, and what is proved."""
        shares = self.accuracies()
        lines = [
            f"{shares['count']} of {self.header.get('count', shares['count'])} inputs, "
            f"eps {self.header.get('eps')}, network {self.header.get('network', '')[:12]}",
            f"natural {shares['natural']:.2%}  adversarial {shares['adversarial']:.2%}  "
            f"certified {shares['certified']:.2%}  unknown {shares['unknown']:.2%}",
            f"{'stage':<14}{'certified':>10}{'falsified':>10}{'seconds':>10}",
        ]
        for name, row in self.stages().items():
            lines.append(
                f"{name:<14}{row['certified']:>10}{row['falsified']:>10}{row['seconds']:>10.1f}"
            )
        if self.unchecked:
            lines.append(
                f"{self.unchecked} certified inputs rest on floating-point arithmetic that the "
                "float64 checker has not confirmed."
            )
        elif shares["certified"]:
            lines.append("Every certified input was confirmed by the float64 checker.")
        return "\n".join(lines)

    def save(self, path):
        """Write the report as JSON lines: the header, then one record a line."""
        text = "".join(json.dumps(line) + "\n" for line in (self.header, *self._sorted()))
        write_atomically(path, lambda temporary: temporary.write_text(text))

    @classmethod
    def load(cls, path):
        """Read a report.

        A last line that an interruption cut short is left out.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no report.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no report '{path}'.")
        lines = path.read_text(errors="replace").split("\n")
        whole = lines[:-1]  # what follows the last end of line was not finished
        try:
            header, *records = (json.loads(line) for line in whole)
            if header["format"] != FORMAT:
                raise KeyError(header["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is not a certification report ({error!r}).") from error
        return cls(header, records, path)


class ReportWriter:
    """Appends records to a report file, each flushed to the disk; goes on with one that is there.

    A report may grow: more inputs behind those that it has, or more seconds for each. With more
    seconds the inputs that were left unknown are open again.

    Args:
        path: File, or `None` to keep the report in memory alone.
        header: What the report is about; it must be that of an existing file, or a larger one.
        knows: Tells of a record of the file whether it is about one of the inputs.

    Attributes:
        report: `Report` of everything so far.

    Raises:
        ValueError: If the file is about something else, such as another network, eps or data, or
            about more.
    """

    def __init__(self, path, header, knows=lambda record: True):
        self.path = None if path is None else Path(path)
        self.report = Report(header, [], self.path)
        if self.path is None:
            return
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"`out` must be the path of a file. Received: '{self.path}'")
        if self.path.exists() and self.path.stat().st_size:
            self._go_on(header, knows)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.report.save(self.path)

    def _go_on(self, header, knows):
        found = Report.load(self.path)
        before = {name: found.header.get(name) for name in header}
        for name, value in header.items():
            if name not in _FREE and before[name] != value:
                old, new = _brief(before[name]), _brief(value)
                self._refuse(f"about another {name}: it has {old}. Received: {new}")
        for name, what in _GROWS.items():
            if before[name] > header[name]:
                self._refuse(f"about {before[name]} {what}. Received: {header[name]}")
        if not all(map(knows, found.records)):
            self._refuse("about other images or labels than those received")
        if before["timeout"] < header["timeout"]:
            found.records = [each for each in found.records if each["verdict"] != "unknown"]
        found.header = {**header, "provenance": before["provenance"]}
        self.report = found
        found.save(self.path)  # without a line that was cut short

    def _refuse(self, reason):
        raise ValueError(
            f"Report '{self.path}' is {reason}. Choose another file (--out), or delete this one."
        )

    def forget(self, records):
        """Take records out, so that their inputs are open again."""
        if records:
            gone = {record["index"] for record in records}
            kept = [each for each in self.report.records if each["index"] not in gone]
            self.report.records = kept
            self.report.save(self.path)

    def add(self, records):
        """Append records."""
        self.report.records.extend(records)
        if self.path is not None:
            with open(self.path, "a") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
                file.flush()
                os.fsync(file.fileno())


def _brief(value):
    """A value for a message; of a hash the beginning is enough."""
    is_hash = isinstance(value, str) and len(value) == 64
    return f"{value[:12]}..." if is_hash else repr(value)


def files_of(report):
    """Folder of the files that belong to the report with this path."""
    report = Path(report)
    return report.with_name(report.stem + ".files")


def input_hash(x):
    """Hexadecimal SHA-256 of one input: which one a record is about."""
    return hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()


def merge_reports(reports):
    """One report from the shards of a test set.

    Args:
        reports: List of `Report` with the same header but for `shard`.

    Raises:
        ValueError: If they are about different things or share inputs.
    """
    if not reports:
        raise ValueError("`reports` must hold at least one report.")
    own = {"shard", "count", "provenance"}
    first = {name: value for name, value in reports[0].header.items() if name not in own}
    records = []
    for report in reports:
        header = {name: value for name, value in report.header.items() if name not in own}
        if header != first:
            differing = next(
                name for name in {*first, *header} if first.get(name) != header.get(name)
            )
            raise ValueError(
                f"The reports are about different things: `{differing}` is "
                f"{first.get(differing)!r} and {header.get(differing)!r}."
            )
        records += report.records
    indices = [record["index"] for record in records]
    if len(set(indices)) < len(indices):
        raise ValueError("The reports share inputs: is one of them given twice?")
    count = sum(report.header["count"] for report in reports)
    whole = {**reports[0].header, "shard": None, "count": count}
    return Report(whole, sorted(records, key=lambda record: record["index"]))

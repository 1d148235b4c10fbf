"""The report of a certification: one record an input, in a file that survives interruption.

Reading, counting and merging stand in one long file, because they agree on one form of a line.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from keras_taps.domain import UNIT, Domain
from keras_taps.files import write_atomically
from keras_taps.radii import radii_of, radii_text
from keras_taps.verification.certificate.schema import (
    CERTIFIED,
    FALSIFIED,
    MISCLASSIFIED,
    NATURAL,
    UNKNOWN,
    VERDICTS,
    read_header,
    read_record,
)


@dataclass(repr=False)
class Report:
    """Verdicts on a set of inputs.

    Args:
        header: What the verdicts are about: network hash, eps, domain, stages, versions.
        records: List of dictionaries, one an input: `index`, `input`, `label`, `predicted`,
            `verdict`, `stage`, `bound`, `checked`, `seconds`, `stage_seconds`; and `eps`, if that
            of the header is `None`.
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
    def verdicts(self) -> np.ndarray:
        """Array of verdicts, in the order of the indices."""
        return np.array([record["verdict"] for record in self._sorted()])

    def _sorted(self):
        return sorted(self.records, key=lambda record: record["index"])

    def __repr__(self):
        shares, header = self.accuracies(), self.header
        return (
            f"Report({shares['count']} of {header.get('count', shares['count'])} inputs, "
            f"{self._boxes}, certified {shares['certified']:.2%}, "
            f"unknown {shares['unknown']:.2%})"
        )

    @property
    def _boxes(self):
        """The boxes that it is about, as text; pixels go without saying."""
        each = " for each input its own" if self.header.get("eps", 0) is None else ""
        text = f"eps {radii_text(radii_of(self))}{each}"
        domain = Domain.of(self.header.get("domain", UNIT))
        return text if domain is UNIT else f"{text}, inputs in {domain}"

    def counterexample(self, index: int) -> np.ndarray:
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
        if verdicts.get(index) != FALSIFIED:
            raise ValueError(
                "`index` must be that of a falsified input. "
                f"Received: {index!r}, {verdicts.get(index, 'not in the report')}"
            )
        if self.path is None:
            raise ValueError("Counterexamples are kept beside a report: give `out` to `certify`.")
        path = file_of(files_of(self.path), index, FALSIFIED)
        if not path.is_file():
            raise FileNotFoundError(f"There is no counterexample '{path}'.")
        with np.load(path) as file:
            return file["point"]

    def accuracies(self) -> dict[str, float]:
        """Shares of the inputs decided so far, in [0, 1].

        Returns:
            Dictionary: `natural` (classified correctly), `certified` (proved robust in real
            arithmetic), `certified_as_deployed` (proved of the float32 network too, however it
            rounds), `adversarial` (not broken by any attack, at least `certified`), `unknown`,
            `count`.
        """
        counts, total = Counter(record["verdict"] for record in self.records), len(self.records)
        share = {name: counts[name] / total if total else 0.0 for name in VERDICTS}
        return {
            "natural": 1.0 - share[MISCLASSIFIED] if total else 0.0,
            "adversarial": share[CERTIFIED] + share[UNKNOWN],
            "certified": share[CERTIFIED],
            "certified_as_deployed": self._deployed / total if total else 0.0,
            "unknown": share[UNKNOWN],
            "count": total,
        }

    @property
    def _deployed(self):
        records = self.records
        return sum(r["verdict"] == CERTIFIED and r.get("deployed", False) for r in records)

    def certified_by(self) -> dict[str, float]:
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
        counts = (row["certified"] for name, row in self.stages().items() if name != NATURAL)
        total = max(len(self.records), 1)
        names = self.header.get("stages", ())
        return {name: n / total for name, n in zip(names, accumulate(counts), strict=True)}

    def stages(self) -> dict[str, dict[str, float]]:
        """Dictionary from each stage to its decisions and seconds.

        Returns:
            `{stage: {"certified": n, "falsified": n, "seconds": s}}` in the order of the stages.
        """
        names = [NATURAL, *self.header.get("stages", ())]
        found = {name: {"certified": 0, "falsified": 0, "seconds": 0.0} for name in names}
        for record in self.records:
            if record["verdict"] in (CERTIFIED, FALSIFIED):
                found[record["stage"]][record["verdict"]] += 1
            for stage, seconds in record.get("stage_seconds", {}).items():
                found[stage]["seconds"] += seconds
        return found

    @property
    def unchecked(self) -> int:
        """Number of certified inputs that the float64 checker has not confirmed."""
        return sum(
            record["verdict"] == CERTIFIED and not record["checked"] for record in self.records
        )

    @property
    def solver_certified(self) -> int:
        """Number of unknown inputs that the exact solver alone says are robust."""
        return sum(record.get("solver") == CERTIFIED for record in self.records)

    def summary(self) -> str:
        """The report as text: accuracies, what each stage decided, and what is proved."""
        shares = self.accuracies()
        lines = [
            f"{shares['count']} of {self.header.get('count', shares['count'])} inputs, "
            f"{self._boxes}, network {self.header.get('network', '')[:12]}",
            f"natural {shares['natural']:.2%}  adversarial {shares['adversarial']:.2%}  "
            f"certified {shares['certified']:.2%}  unknown {shares['unknown']:.2%}",
            f"{'stage':<14}{'certified':>10}{'falsified':>10}{'seconds':>10}",
        ]
        for name, row in self.stages().items():
            lines.append(
                f"{name:<14}{row['certified']:>10}{row['falsified']:>10}{row['seconds']:>10.1f}"
            )
        if self.solver_certified:
            lines.append(
                f"{self.solver_certified} of the unknown inputs are robust by the word of the "
                "exact solver alone, which the float64 checker could not confirm."
            )
        if self.unchecked:
            lines.append(
                f"{self.unchecked} certified inputs rest on floating-point arithmetic that the "
                "float64 checker has not confirmed."
            )
        elif shares["certified"]:
            lines.append("Every certified input was confirmed by the float64 checker.")
        if self.header.get("trusts"):
            lines.append(
                "Every proof rests on what was said of functions of one's own: "
                f"{', '.join(self.header['trusts'])}."
            )
        elif shares["certified"]:
            lines.append(
                f"As deployed in float32, whatever the order of sums: "
                f"{shares['certified_as_deployed']:.2%} certified."
            )
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write the report as JSON lines: the header, then one record a line."""
        text = "".join(json.dumps(line) + "\n" for line in (self.header, *self._sorted()))
        write_atomically(path, lambda temporary: temporary.write_text(text))

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """Read a report.

        A last line that an interruption cut short is left out. What an older version took for
        certified by the word of the exact solver alone is unknown.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no report, has a line that is no record, or an input twice.
        """
        header, records = read_report(path)
        twice = named_twice(records)
        if twice:
            raise ValueError(
                f"'{path}' has {len(twice)} inputs twice, such as input {twice[0]}: the same "
                "`certify` as before decides them again."
            )
        return cls(header, records, Path(path))


def read_report(path):
    """Header and records of a report, as the lines have them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no report, or has a line that is no record.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no report '{path}'.")
    first, *lines = path.read_text(errors="replace").split("\n")
    try:
        if not lines:
            raise ValueError("it has no whole line")
        header = read_header(first)
    except ValueError as error:
        raise ValueError(f"'{path}' is not a certification report: {error}.") from error
    records = []
    for number, line in enumerate(lines[:-1], start=2):  # the last was not finished, or is empty
        try:
            records.append(read_record(line, header))
        except ValueError as error:
            raise ValueError(f"'{path}' is damaged: line {number}: {error}.") from error
    return header, records


def named_twice(records):
    """Sorted list of the indices that several records have."""
    counts = Counter(record["index"] for record in records)
    return sorted(index for index, count in counts.items() if count > 1)


def files_of(report):
    """Folder of the files that belong to the report with this path."""
    report = Path(report)
    return report.with_name(report.stem + ".files")


def file_of(folder, index, verdict):
    """Path of the file of what shows a verdict on an input."""
    kind = {CERTIFIED: "certificate", FALSIFIED: "counterexample"}.get(verdict, "image")
    return folder / f"{kind}-{index:06d}.npz"


def input_hash(x):
    """Hexadecimal SHA-256 of one input, its shape and float32 values: which a record is about."""
    return array_hash(np.asarray(x, "<f4"))


def array_hash(*arrays):
    """Hexadecimal SHA-256 of little-endian arrays: of each its type, its shape and its values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {list(array.shape)}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def merge_reports(reports: Sequence[Report]) -> Report:
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

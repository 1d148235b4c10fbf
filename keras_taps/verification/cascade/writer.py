"""A report that grows on the disk, and survives a kill."""

import json
import os
from pathlib import Path

from keras_taps.verification.certificate.report import Report, named_twice, read_report
from keras_taps.verification.certificate.schema import UNKNOWN

_GROWS = {"count": "inputs", "timeout": "seconds an input"}  # when a later run goes on
_FREE = ("provenance", "data", *_GROWS)  # of the data inputs are compared one by one


class ReportWriter:
    """Appends records to a report file, each flushed to the disk; goes on with one that is there.

    A report may grow: more inputs after those that it has, or more seconds for each. With more
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
        found = Report(*read_report(self.path), self.path)
        before = {name: found.header.get(name) for name in header}
        for name, value in header.items():
            if name not in _FREE and before[name] != value:
                old, new = _brief(before[name]), _brief(value)
                self._refuse(f"about another {name}: it has {old}. Received: {new}")
        for name, what in _GROWS.items():
            if before[name] is not None and before[name] > header[name]:
                self._refuse(f"about {before[name]} {what}. Received: {header[name]}")
        if not all(map(knows, found.records)):
            self._refuse("about other images, labels or radii than those received")
        if before["timeout"] < header["timeout"]:
            found.records = [each for each in found.records if each["verdict"] != UNKNOWN]
        twice = set(named_twice(found.records))  # of two processes: those inputs are open again
        found.records = [each for each in found.records if each["index"] not in twice]
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
    if value is None:
        return "one of its own for each input"
    is_hash = isinstance(value, str) and len(value) == 64
    return f"{value[:12]}..." if is_hash else repr(value)

"""One process writes a report; what two wrote is repaired."""

import json
import threading

import pytest

from keras_taps.processes import FolderInUse, one_writer
from keras_taps.verification import Report, certify, recheck
from keras_taps.verification.certificate.report import files_of
from tests.verification.problems import COUNT, EPS, tiny

pytestmark = pytest.mark.once


def test_a_report_that_another_process_writes(tmp_path):
    out, free, held = tmp_path / "report.jsonl", threading.Event(), threading.Event()

    def hold():
        with one_writer(files_of(out), "It"):
            held.set()
            free.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        with pytest.raises(FolderInUse, match=r"report.jsonl' is in use: process \d+ on"):
            certify(*tiny(), EPS, stages=["ibp"], out=out)
        assert not out.exists()
    finally:
        free.set()
        thread.join()
    assert len(certify(*tiny(), EPS, stages=["ibp"], out=out).records) == COUNT


def test_records_that_came_twice(tmp_path):
    """Of two processes of an earlier version: nobody reads shares off, the same call repairs."""
    out, call = tmp_path / "report.jsonl", (*tiny(), EPS)
    options = {"stages": ["ibp", "crown-ibp"], "out": out, "certificates": True}
    honest = certify(*call, **options).accuracies()
    header, *records = out.read_text().splitlines(keepends=True)
    other = {**json.loads(records[-1]), "seconds": 1.0}
    out.write_text("".join([header, *records, *records[:5], json.dumps(other) + "\n"]))
    with pytest.raises(ValueError, match="has 6 inputs twice"):
        Report.load(out)
    assert len(recheck(out).twice) == 6
    report = certify(*call, **options)
    assert sorted(record["index"] for record in report.records) == list(range(COUNT))
    assert report.accuracies() == Report.load(out).accuracies() == honest
    assert recheck(out).holds

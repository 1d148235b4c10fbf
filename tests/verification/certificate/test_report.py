"""The report file: shares, text, interruption, merging."""

import json

import numpy as np
import pytest

from keras_taps.verification.cascade.writer import ReportWriter
from keras_taps.verification.certificate.report import Report, merge_reports
from keras_taps.verification.certificate.schema import FORMAT

HEADER = {"format": FORMAT, "network": "a" * 64, "eps": 0.1, "domain": [0, 1], "count": 5,
          "stages": ["ibp", "crown"], "shard": None, "timeout": 1,
          "provenance": {"backend": "one"}}  # fmt: skip


def record(index, verdict="certified", stage="ibp", checked=True):
    return {"index": index, "input": "b" * 64, "label": 1, "predicted": int(stage != "natural"),
            "verdict": verdict, "stage": stage, "bound": None, "checked": checked,
            "seconds": 0.5, "stage_seconds": {"ibp": 0.5}}  # fmt: skip


RECORDS = [
    {**record(3), "deployed": True},
    record(0, "misclassified", "natural", False),
    record(1, "falsified", "crown"),
    record(2, "unknown", None, False),
    record(4, "certified", "crown"),
]


def test_accuracies():
    found = Report(HEADER, RECORDS).accuracies()
    assert found.pop("count") == 5
    assert found == pytest.approx(
        {
            "natural": 0.8,
            "adversarial": 0.6,
            "certified": 0.4,
            "certified_as_deployed": 0.2,
            "unknown": 0.2,
        }
    )
    assert Report(HEADER, []).accuracies()["natural"] == 0


def test_verdicts_in_the_order_of_inputs():
    assert Report(HEADER, RECORDS).verdicts.tolist() == [
        "misclassified", "falsified", "unknown", "certified", "certified"
    ]  # fmt: skip


def test_stages_and_summary():
    report = Report(HEADER, RECORDS)
    stages = report.stages()
    assert stages["ibp"] == {"certified": 1, "falsified": 0, "seconds": 2.5}
    assert stages["crown"] == {"certified": 1, "falsified": 1, "seconds": 0.0}
    assert "certified 40.00%" in report.summary()
    assert "Every certified input was confirmed" in report.summary()
    loose = Report(HEADER, [*RECORDS[1:], record(3, checked=False)])
    assert loose.unchecked == 1
    assert "1 certified inputs rest on floating-point arithmetic" in loose.summary()


def test_certified_by_adds_up_the_stages():
    """Each stage counts what was certified before it; the last counts all, attacks nothing."""
    stages = ["ibp", "attack", "crown-ibp", "bab"]
    records = [record(i, "certified", s) for i, s in enumerate(["bab", "ibp", "crown-ibp", "ibp"])]
    report = Report({**HEADER, "stages": stages}, [*records, record(4, "falsified", "attack")])
    found = report.certified_by()
    assert found == pytest.approx({"ibp": 0.4, "attack": 0.4, "crown-ibp": 0.6, "bab": 0.8})
    assert list(found) == stages
    assert found["bab"] == report.accuracies()["certified"]
    assert Report(HEADER, []).certified_by() == {"ibp": 0, "crown": 0}


def test_save_and_load(tmp_path):
    Report(HEADER, RECORDS).save(tmp_path / "report.jsonl")
    found = Report.load(tmp_path / "report.jsonl")
    assert found.header == HEADER
    assert [r["index"] for r in found.records] == [0, 1, 2, 3, 4]


def test_counterexamples_are_found_beside_the_report(tmp_path):
    path = tmp_path / "report.jsonl"
    report = write(path).report
    with pytest.raises(FileNotFoundError, match=r"counterexample-000001\.npz"):
        report.counterexample(1)
    (tmp_path / "report.files").mkdir()
    np.savez(tmp_path / "report.files" / "counterexample-000001.npz", point=np.ones(2))
    assert report.counterexample(1).tolist() == [1.0, 1.0]
    for index, reason in ((3, "certified"), (9, "not in the report")):
        with pytest.raises(ValueError, match=f"Received: {index}, {reason}"):
            report.counterexample(index)
    with pytest.raises(ValueError, match="give `out`"):
        Report(HEADER, RECORDS).counterexample(1)


def test_short_text():
    assert repr(Report(HEADER, RECORDS)) == (
        "Report(5 of 5 inputs, eps 0.1, certified 40.00%, unknown 20.00%)"
    )


def write(path):
    writer = ReportWriter(path, HEADER)
    writer.add(RECORDS[:2])
    writer.add(RECORDS[2:])
    return writer


def test_cut_anywhere(tmp_path):
    """Whatever a kill leaves, whole lines are kept, and the next run goes on behind them."""
    path = tmp_path / "folder" / "report.jsonl"
    write(path)
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for size in range(start, len(whole), 7):
        path.write_bytes(whole[:size])
        known = whole[start:size].count(b"\n")
        assert len(Report.load(path).records) == known
        writer = ReportWriter(path, HEADER)
        writer.add(RECORDS[known:])
        assert json.loads(path.read_text().partition("\n")[0]) == HEADER
        assert sorted(r["index"] for r in Report.load(path).records) == [0, 1, 2, 3, 4]


def test_goes_on_only_with_the_same_header(tmp_path):
    path = tmp_path / "report.jsonl"
    write(path)
    assert len(ReportWriter(path, {**HEADER, "provenance": {}}).report.records) == 5
    for name in ("eps", "network", "stages"):
        with pytest.raises(ValueError, match=f"about another {name}.*Choose another file"):
            ReportWriter(path, {**HEADER, name: "other"})


def test_a_report_grows(tmp_path):
    """More inputs or seconds; what was unknown is open again when there are more seconds."""
    path = tmp_path / "report.jsonl"
    write(path)
    assert len(ReportWriter(path, {**HEADER, "count": 6}).report.records) == 5
    writer = ReportWriter(path, {**HEADER, "count": 6, "timeout": 2, "data": "c" * 64})
    assert [r["index"] for r in writer.report.records] == [0, 1, 3, 4]
    found = Report.load(path)
    assert (found.header["count"], found.header["timeout"]) == (6, 2)
    assert len(found.records) == 4
    grown = {**found.header, "provenance": {}}
    for name, value, message in [("count", 5, "about 6 inputs"), ("timeout", 1, "about 2 seconds")]:
        with pytest.raises(ValueError, match=f"{message}.*Received: {value}.*Choose another file"):
            ReportWriter(path, {**grown, name: value})
    with pytest.raises(ValueError, match="other images, labels or radii"):
        ReportWriter(path, grown, knows=lambda record: record["index"] < 4)
    assert len(Report.load(path).records) == 4


def test_in_memory():
    writer = ReportWriter(None, HEADER)
    writer.add(RECORDS)
    assert writer.report.records == RECORDS


@pytest.mark.parametrize("text", ["", "no json\n", "{}\n", "[1]\n", '{"format": "other"}\n', "1\n"])
def test_files_that_are_no_reports(tmp_path, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match="not a certification report"):
        Report.load(tmp_path / "file")


def test_merge():
    """Shards of unequal size: the whole has as many inputs as all of them."""
    first = Report({**HEADER, "shard": "1/2", "count": 3}, RECORDS[:3])
    second = Report({**HEADER, "shard": "2/2", "count": 2, "provenance": {}}, RECORDS[3:])
    merged = merge_reports([second, first])
    assert merged.header["count"] == 5
    assert merged.header["shard"] is None
    assert [r["index"] for r in merged.records] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="share inputs"):
        merge_reports([first, first])
    with pytest.raises(ValueError, match=r"`eps` is 0\.1 and 0\.2"):
        merge_reports([first, Report({**second.header, "eps": 0.2}, [])])
    with pytest.raises(ValueError, match="at least one"):
        merge_reports([])

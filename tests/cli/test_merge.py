"""`keras-taps merge`: shards become one report, with their files."""

import json

import pytest

from keras_taps.verification.certificate.report import Report
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once


def test_shards_become_one_report(capsys, shards, tmp_path):
    whole = tmp_path / "new" / "all.jsonl"
    code, out, err = call(capsys, "merge", whole, *shards)
    assert code == 0, err
    assert "without shards" not in out
    report = Report.load(whole)
    assert [record["index"] for record in report.records] == list(range(8))
    assert report.header["count"] == 8
    files = [file.name for path in shards for file in path.with_suffix(".files").glob("*.npz")]
    assert {path.name for path in whole.with_suffix(".files").glob("*.npz")} == set(files)
    code, out, _ = call(capsys, "recheck", whole, "--json")
    assert (code, json.loads(out)["without"]) == (0, 0)
    refused(capsys, "is there already", "merge", whole, *shards)


def test_a_missing_shard_is_named(capsys, shards, tmp_path):
    code, out, _ = call(capsys, "merge", tmp_path / "half.jsonl", shards[0])
    assert code == 0
    assert "without shards 2/2" in out


def test_bad_input(capsys, shards, tmp_path):
    (tmp_path / "junk.jsonl").write_text("{}\n")
    command = ("merge", tmp_path / "all.jsonl")
    refused(capsys, "There is no report", *command, tmp_path / "none.jsonl")
    refused(capsys, "not a certification report", *command, tmp_path / "junk.jsonl")
    refused(capsys, "given twice", *command, shards[0], shards[0])
    assert not (tmp_path / "all.jsonl").exists()

"""`keras-taps recheck`: proofs that hold, and one that does not."""

import json
import shutil

import numpy as np
import pytest

from keras_taps import datasets
from keras_taps.verification import certify
from keras_taps.verification.certificate.report import Report
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once


def test_proofs_are_confirmed_or_rejected(capsys, stock, softmax, shards, tmp_path):
    path = tmp_path / "report.jsonl"
    shutil.copy(shards[0], path)
    folder = shutil.copytree(shards[0].with_suffix(".files"), path.with_suffix(".files"))
    code, out, err = call(capsys, "recheck", path, "--model", stock, "--json")
    assert code == 0, err
    found = json.loads(out)
    verdicts = [record["verdict"] for record in Report.load(path).records]
    assert found["confirmed"] == sum(v in ("certified", "falsified") for v in verdicts) > 0
    assert (found["rejected"], found["without"]) == ({}, 0)
    refused(capsys, "softmax", "recheck", path, "--model", softmax)

    changed, lost, *_ = sorted(folder.glob("certificate-*.npz"))
    with np.load(changed) as file:
        content = dict(file)
    np.savez(changed, **{**content, "x": 1 - content["x"]})
    lost.unlink()
    code, out, _ = call(capsys, "recheck", path)
    assert code == 1
    assert "rejected                  1" in out
    assert "without certificate       1" in out
    assert f"image {int(changed.stem[-6:])}: " in out


def test_a_report_without_proofs(capsys, stock, tmp_path):
    x, y = (part[:4] for part in datasets.load("digits").test)
    certify(stock, x, y, 0.001, stages=["ibp", "crown-ibp"], out=tmp_path / "report.jsonl")
    code, out, _ = call(capsys, "recheck", tmp_path / "report.jsonl")
    assert code == 1
    assert "No proof was kept" in out


def test_bad_input(capsys, tmp_path):
    (tmp_path / "junk.jsonl").write_text("{}\n")
    (tmp_path / "certification-0.1.jsonl").write_text("{}\n")
    refused(capsys, "with certification-0.1.jsonl", "recheck", tmp_path)
    refused(capsys, "There is no report", "recheck", tmp_path / "none.jsonl")
    refused(capsys, "not a certification report", "recheck", tmp_path / "junk.jsonl")

"""`keras-taps recheck`: proofs that hold, and one that does not."""

import json
import re

import numpy as np
import pytest

from keras_taps import datasets
from keras_taps.verification import certify
from keras_taps.verification.certificate.report import Report
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once


@pytest.fixture
def report(stock, tmp_path):
    """Path of a report on 6 digits with all its files."""
    x, y = (part[:6] for part in datasets.load("digits").test)
    path = tmp_path / "report.jsonl"
    certify(stock, x, y, 0.03, stages=["ibp", "attack", "crown-ibp"], out=path, certificates=True)
    return path


def test_all_is_confirmed(capsys, stock, softmax, report):
    own = ["--model", stock, "--dataset", "digits", "--eps", "0.03"]
    code, out, err = call(capsys, "recheck", report, *own, "--limit", "6", "--json")
    assert code == 0, err
    found, shares = json.loads(out), Report.load(report).accuracies()
    counts = {"images": 6, "records": 6, "confirmed": 6, "missing": 0, "without": 0, "twice": []}
    assert {name: found[name] for name in counts} == counts
    assert found["rejected"] == {}
    for name in ("natural", "certified", "certified_as_deployed"):
        assert found[name] == shares[name] > 0
    with pytest.warns(UserWarning, match="softmax"):
        refused(capsys, "The report is about network", "recheck", report, "--model", softmax)
    refused(capsys, "Received: eps='0.02'", "recheck", report, "--eps", "0.02")


def test_radii_of_a_file(capsys, stock, tmp_path):
    """One for each image, from the attack to the receiver; others are not taken for them."""
    eps, file, report = np.linspace(0.01, 0.06, 6), tmp_path / "radii.npy", tmp_path / "r.jsonl"
    np.save(file, eps)
    own = (stock, "--dataset", "digits", "--limit", "6", "--eps", file)
    code, out, err = call(capsys, "attack", *own, "--steps", "1", "--restarts", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["eps"] == eps.tolist()
    options = ("--stages", "ibp,attack", "--certificates", "--plot", "--out", report)
    code, out, err = call(capsys, "certify", *own, *options)
    assert code == 0, err
    assert "eps 0.01 to 0.06 for each input its own" in out
    code, out, err = call(capsys, "recheck", report, "--model", *own, "--json")
    assert code == 0, err
    assert json.loads(out)["eps"] == {str(i): each for i, each in enumerate(eps)}
    code, out, err = call(capsys, "recheck", report, "--model", *own[:-1], "0.03")
    assert code == 1
    assert "it is about eps 0.01, not 0.03" in out
    np.save(file, eps[:5])
    refused(capsys, "one radius for each of 6 inputs", "recheck", report, "--model", *own)
    file.write_text("0.1")
    refused(capsys, "--eps must be a radius or an .npy file", "certify", *own)


def test_images_that_are_missing(capsys, stock, report):
    code, out, _ = call(capsys, "recheck", report, "--model", stock, "--dataset", "digits")
    assert code == 1
    assert "NOT every claim" in out
    code, out, _ = call(capsys, "recheck", report, "--dataset", "digits", "--partial")
    assert code == 0
    assert "PARTIAL" in out


def test_proofs_that_are_changed_or_gone(capsys, report):
    folder = report.with_suffix(".files")
    changed, lost, *_ = sorted(folder.glob("certificate-*.npz"))
    with np.load(changed) as file:
        content = dict(file)
    np.savez(changed, **{**content, "x": 1 - content["x"]})
    code, out, _ = call(capsys, "recheck", report)
    assert code == 1
    assert re.search("rejected +1\n", out)
    assert f"image {int(changed.stem[-6:])}: " in out
    np.savez(changed, **content)
    lost.unlink()
    code, out, _ = call(capsys, "recheck", report)
    assert code == 1
    assert re.search("without proof +1\n", out)
    assert call(capsys, "recheck", report, "--partial")[0] == 0


def test_a_report_without_proofs(capsys, stock, tmp_path):
    x, y = (part[:4] for part in datasets.load("digits").test)
    certify(stock, x, y, 0.001, stages=["ibp", "crown-ibp"], out=tmp_path / "report.jsonl")
    for more in ([], ["--partial"]):
        code, out, _ = call(capsys, "recheck", tmp_path / "report.jsonl", *more)
        assert code == 1
        assert "with --certificates keeps them" in out


def test_bad_input(capsys, tmp_path):
    (tmp_path / "junk.jsonl").write_text("{}\n")
    (tmp_path / "certification-0.1.jsonl").write_text("{}\n")
    refused(capsys, "with certification-0.1.jsonl", "recheck", tmp_path)
    refused(capsys, "There is no report", "recheck", tmp_path / "none.jsonl")
    refused(capsys, "not a certification report", "recheck", tmp_path / "junk.jsonl")

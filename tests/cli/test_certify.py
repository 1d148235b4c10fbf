"""`keras-taps certify`: reports, resumption, curves, radii, refusals."""

import csv
import errno
import json
import re

import numpy as np
import pytest

from keras_taps import datasets
from keras_taps.cli.certify import _stages, report_path
from keras_taps.cli.output import console
from keras_taps.cli.target import radius_name
from keras_taps.verification.certificate.report import Report
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once

QUICK = ("--dataset", "digits", "--limit", 8, "--stages", "ibp,crown-ibp", "--batch-size", 8)


def test_a_report_is_written_and_gone_on_with(capsys, stock, tmp_path):
    out = tmp_path / "new" / "report.jsonl"
    command = ("certify", stock, *QUICK, "--eps", "2/255", "--out", out, "--certificates")
    code, printed, err = call(capsys, *command)
    assert code == 0, err
    report = Report.load(out)
    assert len(report.records) == 8
    assert report.header["eps"] == 2 / 255
    assert f"certified {report.accuracies()['certified']:.1%}" in printed
    assert report.accuracies()["certified"] > 0
    assert list(out.with_name("report.files").glob("certificate-*.npz"))

    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:4]) + lines[4][:10])
    assert "resumes after 3 of 8 images" in call(capsys, *command)[1]
    verdicts = [record["verdict"] for record in Report.load(out).records]
    assert verdicts == [record["verdict"] for record in report.records]

    code, printed, _ = call(capsys, *command, "--json")
    found = json.loads(printed)
    assert found["accuracies"] == report.accuracies()
    assert list(found["stages"]) == ["natural", "ibp", "crown-ibp"]
    assert found["unchecked"] == 0

    another = ("certify", stock, *QUICK, "--eps", 0.1, "--out", out)
    refused(capsys, "is about another eps", *another)


def test_a_curve_has_a_report_and_pictures_for_each_radius(capsys, stock, tmp_path):
    out = tmp_path / "curve.jsonl"
    command = ("certify", stock, *QUICK, "--eps", "0.01,0.05", "--out", out, "--plot", "--no-check")
    code, printed, err = call(capsys, *command)
    assert code == 0, err
    assert "has not confirmed" in printed
    for name in ("0.01.jsonl", "0.05.jsonl", "0.01-bounds.png", "0.05-bounds.png"):
        assert (tmp_path / f"curve-{name}").stat().st_size
    for name in ("stages", "curve"):
        assert (tmp_path / f"curve-0.01-{name}.png").read_bytes().startswith(b"\x89PNG")
    code, printed, _ = call(capsys, *command, "--json")
    assert [entry["header"]["eps"] for entry in json.loads(printed)] == [0.01, 0.05]


def test_a_run_folder_knows_data_radius_and_place(capsys, run_folder):
    code, _, err = call(capsys, "certify", run_folder, "--limit", 4, "--stages", "ibp")
    assert code == 0, err
    assert Report.load(run_folder / "certification-0.1.jsonl").header["count"] == 4


def test_images_of_your_own(capsys, stock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = (part[:6] for part in datasets.load("digits").test)
    np.savez("mine.npz", x=np.round(255 * x).astype("uint8"), y=y)
    np.savez("other.npz", images=x, y=y)
    np.savez("names.npz", x=x, y=y.astype(str))
    command = ("certify", stock, "--eps", 0.01, "--stages", "ibp,crown-ibp", "--dataset")
    code, out, err = call(capsys, *command, "mine.npz", "--json")
    assert code == 0, err
    assert json.loads(out)["header"]["count"] == 6
    refused(capsys, "must hold the arrays `x`, images, and `y`", *command, "other.npz")
    refused(capsys, "`y` must hold whole numbers", *command, "names.npz")
    refused(capsys, "There is no file 'none.npz'", *command, "none.npz")


def test_several_models_make_one_table_and_one_picture(capsys, stock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 120)
    for name in ("a", "b"):
        (tmp_path / f"{name}.keras").write_bytes(stock.read_bytes())
    command = ("certify", "a.keras", "b.keras", *QUICK, "--eps", "0.01,0.05", "--plot")
    code, printed, err = call(capsys, *command)
    assert code == 0, err
    rows = {row[0]: row[1:] for row in _rows(printed)}
    assert list(rows) == [f"{m}.keras, eps {eps}" for m in "ab" for eps in ("0.01", "0.05")]
    report = Report.load("b-certification-0.05.jsonl")
    shares = report.accuracies()
    found = [shares["natural"], shares["adversarial"], *report.certified_by().values()]
    found += [shares["certified"], shares["certified_as_deployed"], shares["unknown"]]
    assert rows["b.keras, eps 0.05"] == [f"{100 * share:.2f}" for share in found]
    assert (tmp_path / "a-certification-0.01-models.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*-curve.png"))

    code, printed, _ = call(capsys, *command, "--json")
    entries = [(entry["target"], entry["header"]["eps"]) for entry in json.loads(printed)]
    assert entries == [(f"{m}.keras", eps) for m in "ab" for eps in (0.01, 0.05)]
    assert list(json.loads(printed)[0]["certified_by"]) == ["ibp", "crown-ibp"]


def _rows(printed):
    """Cells of the rows of a printed table, which two spaces or more divide."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    return [row for row in cells if ", eps " in row[0] and len(row) > 2]


def test_branch_and_bound(capsys, stock, tmp_path):
    """What interval bounds leave open is decided, and the proofs hold when they are repeated."""
    out = tmp_path / "r.jsonl"
    command = ("certify", stock, "--dataset", "digits", "--limit", 6, "--batch-size", 8)
    command += ("--stages", "ibp,bab", "--eps", 0.1, "--out", out, "--certificates")
    command += ("--branching", "babsr", "--memory", 0.25)
    code, printed, err = call(capsys, *command, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert found["header"]["branching"] == "babsr"
    assert list(found["stages"]) == ["natural", "ibp", "bab"]
    assert sum(found["stages"]["bab"][name] for name in ("certified", "falsified")) > 0
    assert found["accuracies"]["unknown"] == 0
    code, printed, _ = call(capsys, "recheck", out, "--json")
    assert (code, json.loads(printed)["without"]) == (0, 0)


def test_exact_ends_with_integer_programming():
    assert _stages(None, True)[-2:] == ("bab", "milp")
    assert _stages("ibp, bab", True) == ("ibp", "bab", "milp")
    assert _stages("ibp,milp,bab", True) == ("ibp", "bab", "milp")
    assert _stages("ibp,milp,bab", False) == ("ibp", "milp", "bab")
    assert _stages(None, False) is None


def test_radii(capsys, stock, tmp_path):
    out = tmp_path / "radii.csv"
    command = ("certify", stock, *QUICK, "--radius", "--eps", 0.1, "--tolerance", 0.03)
    code, printed, err = call(capsys, *command, "--out", out)
    assert code == 0, err
    assert "median" in printed
    with open(out) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert 0 < max(float(row["radius"]) for row in rows) <= 0.1
    code, printed, _ = call(capsys, *command, "--out", tmp_path / "radii.json", "--json")
    found = json.loads(printed)
    assert found["mean"] == pytest.approx(sum(float(row["radius"]) for row in rows) / 8)
    assert len(json.loads((tmp_path / "radii.json").read_text())) == 8


def test_names_of_reports(tmp_path):
    class Subject:
        name, run = "net", object()

        def folder(self):
            return tmp_path

    assert radius_name(2 / 255) == "2_255"
    assert radius_name(51 / 255) == "0.2"
    path = report_path(Subject(), 2 / 255, None, "1/4", several=True)
    assert path == tmp_path / "certification-2_255-shard-1-of-4.jsonl"
    Subject.run = None
    path = report_path(Subject(), 0.1, None, None, several=False)
    assert path == tmp_path / "net-certification-0.1.jsonl"


def test_a_full_disk_ends_with_1(capsys, stock, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("keras_taps.verification.cascade.writer.os.fsync", full)
    command = ("certify", stock, *QUICK, "--eps", 0.01, "--out", tmp_path / "r.jsonl")
    refused(capsys, "No space left", *command, code=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.keras",), "There is no model file"),
        (("{tmp}",), "run folder"),
        (("{tmp}/junk.keras",), "cannot be loaded as a Keras model"),
        (("{stock}",), "needs --dataset, a name or an .npz"),
        (("{stock}", "--dataset", "digits"), "needs --eps"),
        (("{stock}", "--dataset", "digitz", "--eps", "0.1"), "Did you mean 'digits'"),
        (("{stock}", "--eps", "abc"), "a fraction such as 2/255. Received: eps='abc'"),
        (("{stock}", "--dataset", "digits", "--eps", "2"), "write 2 / 255, not 2"),
        (("{stock}", "--limit", "0"), "`limit`"),
        (("{stock}", "--stages", "ibp,magic"), "`--stages` must be one of"),
        (("{stock}", "--backend", "mxnet"), "Received: --backend='mxnet'"),
        (("{stock}", "--radius", "--plot"), "--radius writes no report"),
        (("{stock}", "--dataset", "digits", "--radius", "--out", "x.txt"), ".csv or .json"),
        (("{stock}", "--dataset", "digits", "--radius", "--eps", "0"), "`--eps`"),
        (("{stock}", "--dataset", "digits", "--eps", "0.1", "--shard", "3/2"), "`shard`"),
        (("{stock}", "{stock}", "--out", "r.jsonl"), "--out takes one run or model. Received: 2"),
        (("{stock}", "{stock}", "--radius"), "--radius takes one run or model"),
        (("{stock}", "{stock}", "--dataset", "digits", "--eps", "0.1"), "would share the report"),
        (("{stock}", "nowhere.keras", "--dataset", "digits"), "There is no model file"),
        (("{stock}", "--branching", "best"), "'kfsb'. Received: --branching='best'"),
        (("{stock}", "--memory", "0"), "`--memory` must be a number in (0, inf)"),
        (("{stock}", "--memory", "inf"), "`--memory`"),
        (("{stock}", "--memory", "4G"), "Invalid value for '--memory'"),
    ],
)
def test_bad_input(capsys, tmp_path, monkeypatch, stock, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk.keras").write_text("junk")
    places = {"tmp": tmp_path, "stock": stock}
    refused(capsys, message, "certify", *(a.format(**places) for a in arguments))


def test_places_that_cannot_be_written_to(capsys, stock, tmp_path):
    (tmp_path / "file").write_text("")
    command = ("certify", stock, *QUICK, "--eps", 0.1, "--out")
    refused(capsys, "is not a folder", *command, tmp_path / "file" / "r.jsonl", code=1)
    refused(capsys, "is a folder", *command, tmp_path, code=1)

"""`keras-taps reproduce`: a list, a tiny target, and what is refused."""

import importlib.util
import json

import pytest

from keras_taps.reproduction import SCALES, TARGETS
from tests.cli.helpers import call, refused
from tests.reproduction.helpers import SCALE, target

pytestmark = pytest.mark.once


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(TARGETS, "tiny", target())
    monkeypatch.setitem(SCALES, "tiny", SCALE)


def test_target(capsys, tmp_path, tiny):
    arguments = ("reproduce", "tiny", "--scale", "tiny", "--out", tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 0, err
    assert "tiny 1/2: digits 0.1 IBP, seed 0" in out
    assert "Nearly nothing." in out
    assert f"In {tmp_path / 'tiny' / 'tiny'}: results.json, results.csv" in " ".join(out.split())
    code, out, _ = call(capsys, *arguments, "--json")
    assert code == 0
    assert len(json.loads(out)["records"]) == 2
    refused(capsys, "is not empty", *arguments, "--no-resume")
    code, out, _ = call(capsys, "reproduce", "list", *arguments[2:], "--json")
    (row,) = [row for row in json.loads(out) if row["target"] == "tiny"]
    assert (row["networks"], row["done"]) == (2, "2/2")


def test_list(capsys, tmp_path):
    code, out, _ = call(capsys, "reproduce", "list", "--out", tmp_path)
    assert code == 0
    assert "table2" in out
    assert "mnist" in out


def test_data_that_is_not_there(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    refused(
        capsys, "cifar10", "reproduce", "table12", "--scale", "smoke", "--out", tmp_path,
        "--data-dir", tmp_path,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table99",), "Unknown target. Accepted: table1"),
        (("tabel2",), "table2"),
        (("table2", "--scale", "huge"), "--scale must be one of full, cpu, smoke"),
        (("table2", "--seeds", "one"), "--seeds takes whole numbers with commas"),
    ],
)
def test_refused(capsys, tmp_path, arguments, message):
    refused(capsys, message, "reproduce", *arguments, "--out", tmp_path)


def test_a_wheel_lacks_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(capsys, "clone the repository", "reproduce", "list", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()

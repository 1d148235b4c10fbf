"""`keras-taps export`: what is written reads back as the same network and property."""

import json

import numpy as np
import pytest

from keras_taps import datasets
from keras_taps.experiments.run import load_model
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.formats.vnnlib import read_vnnlib
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once


def test_network_and_properties_read_back(capsys, stock, tmp_path):
    path = tmp_path / "new" / "digits.onnx"
    command = ("export", stock, "--onnx", path, "--dataset", "digits", "--eps", "2/255")
    command += ("--index", "3", "--index", "0:2", "--json")
    code, out, err = call(capsys, *command)
    assert code == 0, err
    written = json.loads(out)
    names = [f"digits-2_255-{i}.vnnlib" for i in (3, 0, 1)]
    assert written["vnnlib"] == [str(path.with_name(name)) for name in names]
    network = read_onnx(path)
    x, y = (part[3] for part in datasets.load("digits").test)
    logits = load_model(stock).predict(x[None], verbose=0)
    np.testing.assert_allclose(network.graph(x[None]), logits, rtol=1e-4, atol=1e-4)
    sets = read_vnnlib(path.with_name(names[0]), network)
    assert len(sets) == 9
    for unsafe in sets:
        np.testing.assert_array_equal((unsafe.lower, unsafe.upper), input_interval(x, 2 / 255))
        assert unsafe.weights[0, y] == -1


def test_a_run_folder_is_exported_into_itself(capsys, run_folder):
    code, _, err = call(capsys, "export", run_folder, "--index", 0)
    assert code == 0, err
    names = sorted(path.name for path in run_folder.iterdir() if path.stem.startswith("run"))
    assert names == ["run-0.1-0.vnnlib", "run.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--eps", "0.1"), "--index"),
        (("--index", "0"), "needs --eps"),
        (("--index", "0", "--eps", "0.1"), "needs --dataset"),
        (("--index", "a", "--eps", "0.1", "--dataset", "digits"), "a range 0:10"),
        (("--index", "9999", "--eps", "0.1", "--dataset", "digits"), "below 360"),
    ],
)
def test_bad_input(capsys, stock, tmp_path, arguments, message):
    path = tmp_path / "network.onnx"
    refused(capsys, message, "export", stock, "--onnx", path, *arguments)
    assert not path.exists()


def test_softmax_is_taken_off(capsys, softmax, tmp_path):
    path = tmp_path / "network.onnx"
    with pytest.warns(UserWarning, match="softmax"):
        code, *_ = call(capsys, "export", softmax, "--onnx", path)
    assert code == 0
    assert path.exists()

"""`keras-taps export`: what is written reads back as the same network and property."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from keras_taps import datasets
from keras_taps.experiments.run import load_model
from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.formats.benchmark import without_normalisation
from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.formats.vnnlib import read_vnnlib
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Scale
from keras_taps.verification.graph.unsafe import Unsafe
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


def test_a_benchmark_of_the_competition(capsys, run_folder, tmp_path):
    """Both versions have the same network and properties, normalised inputs the same claims."""
    folder = tmp_path / "benchmark"
    command = ("export", run_folder, "--images", 2, "--eps", 0.05, "--timeout", 60)
    code, out, err = call(capsys, *command, "--folder", folder, "--json")
    assert code == 0, err
    files = json.loads(out)["instances"]
    assert files == [str(folder / version / "instances.csv") for version in ("1.0", "2.0")]
    old, new = (list(csv.reader(Path(path).read_text().splitlines())) for path in files)
    assert old == new
    x, y = datasets.load("digits").test
    model = load_model(run_folder / "best.keras")
    right = np.flatnonzero(np.argmax(model.predict(x, verbose=0), -1) == y)[:2]
    assert old == [["onnx/run.onnx", f"vnnlib/run-0.05-{number}.vnnlib", "60"] for number in right]
    network = read_onnx(folder / "1.0" / old[0][0])
    assert read_onnx(folder / "2.0" / old[0][0]).graph.hash == network.graph.hash
    code, _, err = call(
        capsys, *command, "--folder", tmp_path / "n", "--normalised", "--vnnlib", "2.0"
    )
    assert code == 0, err
    assert not (tmp_path / "n" / "1.0").exists()
    normalised = read_onnx(tmp_path / "n" / "2.0" / old[0][0])
    (scale,) = read_network(model).source[:1]
    np.testing.assert_allclose(
        normalised.graph(x[:5] * scale.scale + scale.bias), network.graph(x[:5]), atol=1e-5
    )
    for number, (_, name, _) in zip(right, old, strict=True):
        pixels = read_vnnlib(folder / "1.0" / name, network)
        same = read_vnnlib(folder / "2.0" / name, network)
        moved = read_vnnlib(tmp_path / "n" / "2.0" / name, normalised)
        assert len(pixels) == len(same) == len(moved) == 9
        np.testing.assert_array_equal(
            (pixels[0].lower, pixels[0].upper), input_interval(x[number], 0.05)
        )
        for one, two, three in zip(pixels, same, moved, strict=True):
            for field in ("lower", "upper", "weights"):
                np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
            np.testing.assert_array_equal(one.weights, three.weights)
        assert_rounded_outward(scale, pixels[0], moved[0])


def assert_rounded_outward(scale, pixels, moved):
    """Each side contains the exact one, and the next float64 inside does not."""
    factor, shift = (Fraction(float(v.ravel()[0])) for v in (scale.scale, scale.bias))
    for side, way in (("lower", np.inf), ("upper", -np.inf)):
        found = getattr(moved, side).ravel()
        for value, beyond, pixel in zip(
            found, np.nextafter(found, way), getattr(pixels, side).ravel(), strict=True
        ):
            exact = factor * Fraction(pixel) + shift
            outside = Fraction(value) <= exact if way > 0 else Fraction(value) >= exact
            assert outside
            assert Fraction(value) == exact or (Fraction(beyond) - exact) * int(np.sign(way)) > 0


def test_normalisation_of_either_sign():
    """A factor below 0 exchanges the sides; without any there is nothing to take off."""
    last = Dense(np.ones((2, 2)), np.zeros(2))
    graph = Graph.of((Scale(np.array([-0.1, 3.0]), np.array([0.3, 0.0]), (2,)), last))
    sets = [Unsafe(np.array([1.0, -0.1]), np.array([2.0, 0.1]), np.eye(2), np.zeros(2))]
    rest, moved = without_normalisation(graph, {"one": sets})
    (unsafe,) = moved["one"]
    assert rest.nodes == (last,)
    np.testing.assert_allclose(unsafe.lower, [0.1, -0.3], rtol=1e-15)
    np.testing.assert_allclose(unsafe.upper, [0.2, 0.3], rtol=1e-15)
    with pytest.raises(ValueError, match="begin with a normalisation"):
        without_normalisation(rest, moved)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", "2", "--index", "0"), "both choose images"),
        (("--images", "0"), "`--images` must be"),
        (("--images", "999", "--eps", "0.1", "--dataset", "digits"), "--images must be at most"),
        (("--folder", "f"), "--folder needs --index or --images"),
        (("--vnnlib", "3.0"), "`--vnnlib` must be one of"),
        (("--vnnlib", "1.0", "--vnnlib", "2.0"), "--vnnlib is taken once without --folder"),
        (("--timeout", "0"), "`--timeout` must be"),
        (("--normalised",), "must begin with a normalisation"),
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

import sys

import numpy as np
import pytest

from keras_taps.datasets import load
from keras_taps.datasets.catalogue import read_test_images
from keras_taps.datasets.sources import load_digits


def test_digits_keep_their_test_split():
    (x, y), (x_test, y_test) = load_digits()
    assert x.shape == (1437, 8, 8, 1)
    assert x_test.shape == (360, 8, 8, 1)
    # Stratified: every class has its share.
    assert np.all(np.abs(np.bincount(y_test) / np.bincount(y) - 0.25) < 0.01)
    assert np.array_equal(load_digits()[1][0], x_test)


def test_missing_data_says_how_to_get_it(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match=r"TFDS_DATA_DIR.*datasets --download mnist"):
        load("mnist", data_dir=str(tmp_path))


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow tensorflow-datasets"):
        load("mnist")


def test_npz_file_in_the_data_folder_needs_no_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    random = np.random.default_rng(0)
    arrays = {
        f"{kind}_{split}": random.integers(0, high, size).astype("uint8")
        for split, count in (("train", 20), ("test", 5))
        for kind, high, size in (("x", 256, (count, 28, 28)), ("y", 10, count))
    }
    np.savez(tmp_path / "mnist.npz", **arrays)
    data = load("mnist", data_dir=str(tmp_path))
    assert [len(part[0]) for part in (data.train, data.validation, data.test)] == [18, 2, 5]
    x, y = data.test
    np.testing.assert_array_equal(x[..., 0], arrays["x_test"] / np.float32(255))
    np.testing.assert_array_equal(y, arrays["y_test"])


@pytest.mark.parametrize("damage", ["names", "text", "lengths", "pixels"])
def test_npz_file_with_other_contents(tmp_path, damage):
    path = tmp_path / "mnist.npz"
    arrays = {"x_train": np.zeros((3, 28, 28), "uint8"), "y_train": np.zeros(3, "uint8")}
    arrays |= {"x_test": np.zeros((2, 28, 28), "uint8"), "y_test": np.zeros(2, "uint8")}
    if damage == "names":
        del arrays["y_test"]
    if damage == "lengths":
        arrays["y_test"] = np.zeros(3, "uint8")
    if damage == "pixels":
        arrays["x_test"] = arrays["x_test"].astype("float32")
    np.savez(path, **arrays)
    if damage == "text":
        path.write_text("x")
    with pytest.raises(ValueError, match=r"mnist\.npz' must hold .* x_train"):
        load("mnist", data_dir=str(tmp_path))


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    found = np.concatenate([x for x, _ in load_digits()])
    expected = datasets.load_digits().images[..., None] / 16
    assert len(found) == len(expected) == 1797
    order = [np.lexsort(x.reshape(len(x), -1).T) for x in (found, expected)]
    assert np.array_equal(found[order[0]], expected[order[1]])


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_file_of_the_user_is_a_data_set(tmp_path, kind):
    random = np.random.default_rng(0)
    scale = 255 if kind == "uint8" else 1
    arrays = {
        "x_train": (scale * random.random((20, 5, 4))).astype(kind),
        "y_train": np.arange(20) % 3,
        "x_test": (scale * random.random((6, 5, 4))).astype(kind),
        "y_test": np.arange(6) % 3,
    }
    np.savez(tmp_path / "own.npz", **arrays)
    data = load(str(tmp_path / "own.npz"), validation=0.2)
    assert (data.info.input_shape, data.info.num_classes) == ((5, 4, 1), 3)
    assert (len(data.train[0]), len(data.validation[0]), len(data.test[0])) == (16, 4, 6)
    np.testing.assert_allclose(data.test[0][..., 0], arrays["x_test"] / np.float32(scale), 1e-6)
    np.testing.assert_allclose(data.info.mean, (arrays["x_train"] / scale).mean(), atol=1e-3)
    assert np.array_equal(read_test_images(tmp_path / "own.npz")[0], data.test[0])


def test_a_file_of_the_user_out_of_range(tmp_path):
    x, y = np.full((4, 5, 4, 1), 3.0), np.arange(4)
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match=r"`x_train` must hold values in \[0, 1\]"):
        load(str(tmp_path / "own.npz"))
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere.npz'"):
        load("nowhere.npz")

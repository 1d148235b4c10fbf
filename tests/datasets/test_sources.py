import sys

import numpy as np
import pytest

from keras_taps.datasets import load
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

"""MNIST and Fashion-MNIST as TFDS stores them, where they are on this machine."""

import os
from pathlib import Path

import numpy as np
import pytest

from keras_taps.datasets import load
from keras_taps.experiments.recipes import recipe
from keras_taps.experiments.run import Run


def needs(name):
    """Skip only where the data is not there: present but unreadable data fails the test."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"no {name} in TFDS_DATA_DIR={folder!r}")


@pytest.mark.once
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_data_are_what_the_catalogue_says(name):
    needs(name)
    data = load(name)
    assert [len(x) for x, _ in (data.train, data.validation, data.test)] == [54000, 6000, 10000]
    x, y = data.train
    assert x.shape[1:] == data.info.input_shape
    assert (x.dtype, y.dtype) == (np.float32, np.int32)
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert sorted(set(y)) == list(range(data.info.num_classes))
    assert x.mean() == pytest.approx(data.info.mean[0], abs=2e-3)
    assert x.std() == pytest.approx(data.info.std[0], abs=2e-3)


@pytest.mark.once  # runs on every backend: test_run.py
def test_a_run_on_real_images(tmp_path):
    needs("mnist")
    small = recipe("mnist-0.1-cnn3-taps", width=1, attack_steps=1).scaled(2)
    run = Run.create(tmp_path / "run", small, limit=256)
    run.train()
    metrics = run.evaluate()
    assert metrics["count"] == 256
    assert run.history()[-1]["eps"] == pytest.approx(0.1)

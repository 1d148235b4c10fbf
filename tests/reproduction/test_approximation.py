"""Bounds on worst-case margins stand in their order around the exact one, on every backend."""

import numpy as np
import pytest

from keras_taps.networks import cnn3
from keras_taps.reproduction.approximation import (
    METHODS,
    exact_margins,
    margin_bounds,
    statistics,
)
from keras_taps.verification import read_network

EPS = 0.05


@pytest.fixture(scope="module")
def found():
    network = cnn3((8, 8, 1), 10, width=1)
    random = np.random.default_rng(0)
    x = random.random((5, 8, 8, 1)).astype("float32")
    y = random.integers(0, 10, 5)
    bounds = margin_bounds(network, x, y, EPS, batch_size=3)
    exact = exact_margins(read_network(network), x, y, EPS, bounds["adversarial"])
    return {**bounds, "exact": exact, "x": x}


def test_order(found):
    value, bound, seconds = found["exact"].T
    slack = 1e-4
    assert np.all(value <= bound + 1e-9)
    assert np.all(bound - value < 1e-3)
    assert np.all(seconds > 0)
    assert np.all(found["PGD"] <= value + slack)
    assert np.all(value <= found["IBP"] + slack)
    assert np.all(found["SABR"] <= found["IBP"] + slack)
    assert np.all(found["TAPS"] <= found["IBP"] + slack)
    assert np.all(found["STAPS"] <= found["SABR"] + slack)
    assert np.all(np.abs(found["adversarial"] - found["x"]) <= EPS + 1e-6)


def test_statistics(found):
    figures = statistics(found)
    assert set(figures["errors"]) == set(METHODS)
    exact = found["exact"][:, 0]
    error = figures["errors"]["IBP"]
    assert error["mean_error"] == pytest.approx(np.mean(found["IBP"] - exact))
    assert error["mean_abs_error"] == pytest.approx(error["mean_error"], abs=1e-4)
    assert sum(error["histogram"]["counts"]) <= figures["count"] == 5
    assert figures["open"] == 0
    assert figures["differences"]["TAPS against IBP"]["mean_error"] >= 0

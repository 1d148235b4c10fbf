"""Distance nodes at points, and as files."""

import numpy as np
import pytest

from keras_taps.verification.graph import distance, storage
from keras_taps.verification.graph.distance import Distance
from keras_taps.verification.graph.exact_values import exact_forms
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense

pytestmark = pytest.mark.once
rng = np.random.default_rng(0)
NODE = Distance(rng.normal(size=(7, 5)), rng.normal(size=5), np.array([0.5, 0.3, 0.2]))


@pytest.mark.parametrize("most", [distance._MOST, 1])
def test_values_and_slopes(most, monkeypatch):
    monkeypatch.setattr(distance, "_MOST", most)
    x, forms = rng.normal(size=(4, 7)), rng.normal(size=(4, 5))
    away = np.sort(np.abs(x[:, :, None] - NODE.kernel), axis=1)[:, ::-1]
    expected = np.einsum("bko,k->bo", away[:, :3], NODE.coefficients) + NODE.bias
    np.testing.assert_allclose(NODE(x), expected)
    slopes, small = NODE.back(x, forms), 1e-7
    for i in range(7):
        moved = x.copy()
        moved[:, i] += small
        rise = ((NODE(moved) - NODE(x)) * forms).sum(1) / small
        np.testing.assert_allclose(slopes[:, i], rise, atol=1e-5)


def test_a_file(tmp_path):
    graph = Graph((NODE, Dense(np.ones((5, 2)), np.zeros(2))))
    graph.save(tmp_path / "network.npz")
    loaded = Graph.load(tmp_path / "network.npz")
    assert loaded.hash == graph.hash
    x = rng.normal(size=(3, 7))
    assert np.array_equal(loaded(x), graph(x))


@pytest.mark.parametrize(
    "coefficients",
    [np.array([1.0, -1e-9]), np.ones(8), np.ones(0), np.ones((1, 1)), np.array([np.nan])],
)
def test_weights_that_are_none(coefficients):
    structure, arrays = storage.pack((NODE, Dense(np.ones((5, 2)), np.zeros(2))))
    arrays[2] = coefficients
    with pytest.raises(ValueError, match="does not fit"):
        storage.unpack(structure, arrays)


def test_weights_as_plain_numbers_are_none():
    structure, arrays = storage.pack((NODE, Dense(np.ones((5, 2)), np.zeros(2))))
    structure[0]["coefficients"] = [1.0]
    with pytest.raises(ValueError, match=r".+"):
        storage.unpack(structure, arrays)


def test_no_exact_values():
    assert exact_forms(Graph((NODE,)), np.zeros(7), np.ones((1, 5)), np.zeros(1)) is None

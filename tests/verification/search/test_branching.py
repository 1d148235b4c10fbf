"""Scores of neurons against loops over them."""

import numpy as np
import pytest

from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu, Sum
from keras_taps.verification.search.branching import (
    babsr_scores,
    gap_scores,
    line_scores,
    local_biases,
)
from tests.verification.searches import graph_of


def numbers(seed=0, shape=(3, 8)):
    rng = np.random.default_rng(seed)
    low, high = rng.normal(-1, 1, shape), rng.normal(1, 1, shape)
    low, high = np.minimum(low, high), np.maximum(low, high)
    kinks = rng.choice([0.0, 0.1], shape[1])
    return rng.normal(size=shape), low, high, kinks, rng


def test_babsr():
    rows, low, high, kinks, rng = numbers()
    biases = rng.normal(size=8)
    found = babsr_scores(rows, low, high, kinks, biases)
    for i, j in np.ndindex(found.shape):
        left, right, kink = low[i, j], high[i, j], kinks[j]
        if not left < 0 < right:
            assert found[i, j] == 0
            continue
        chord, row = (right - kink * left) / (right - left), rows[i, j]
        lift = max(row, 0) * right * (1 - chord)  # what the upper line adds
        inactive, active = row * biases[j] * (chord - kink), row * biases[j] * (chord - 1)
        assert found[i, j] == pytest.approx(abs(max(inactive, active) + lift))


def test_upb_is_the_intercept_and_falls_back_on_babsr():
    rows, low, high, _, rng = numbers()
    kinks, biases = np.zeros(8), rng.normal(size=8)
    rows[0] = -np.abs(rows[0])  # no intercept counts
    found = line_scores("upb", rows, low, high, kinks, biases)
    babsr = line_scores("babsr", rows, low, high, kinks, biases)
    np.testing.assert_array_equal(babsr, babsr_scores(rows, low, high, kinks, biases))
    np.testing.assert_array_equal(found[0], babsr[0])
    for i, j in np.ndindex(2, 8):
        left, right = low[i + 1, j], high[i + 1, j]
        area = -left * right / (right - left) if left < 0 < right else 0.0
        assert found[i + 1, j] == pytest.approx(max(rows[i + 1, j], 0) * area)


def test_gap():
    rows, low, high, kinks, rng = numbers(1)
    inner, outer = rng.normal(size=(2, 3, 8))
    outer[0, 0] = np.nan
    values, splits = np.maximum(inner, kinks * inner), (low < 0) & (high > 0)
    found = gap_scores(rows, outer, values, splits)
    for i, j in np.ndindex(found.shape):
        act = inner[i, j] if inner[i, j] > 0 else kinks[j] * inner[i, j]
        crossing = low[i, j] < 0 < high[i, j] and np.isfinite(outer[i, j])
        expected = abs(rows[i, j] * (outer[i, j] - act)) if crossing else 0.0
        assert found[i, j] == pytest.approx(expected)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 0.0), (0.0, 0.0), (2.0, 2.0)])
def test_nothing_to_win(bounds):
    low, high = (np.full((1, 1), bound) for bound in bounds)
    one = np.ones((1, 1))
    assert babsr_scores(one, low, high, np.zeros(1), np.ones(1))[0, 0] == 0
    assert gap_scores(one, 2 * one, one, (low < 0) & (high > 0))[0, 0] == 0


def test_local_biases():
    """The biases of Dense layers; behind a sum those of its branches; nothing without a ReLU."""
    graph = graph_of("residual", 0)
    first, _, (branch, _), *_ = (getattr(node, "branches", node) for node in graph.nodes)
    expected = [first.bias, branch[0].bias, branch[2].bias]
    np.testing.assert_allclose(local_biases(graph), np.concatenate(expected))
    dense = Dense(np.ones((2, 2)), np.array([1.0, -2.0]))
    twice = Graph((dense, Sum((2,), ((dense,), ())), Relu((2,)), dense))
    np.testing.assert_allclose(local_biases(twice), [1 - 1 + 1, -2 - 1 - 2])
    assert local_biases(Graph((dense,))).shape == (0,)

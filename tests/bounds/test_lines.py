"""Lines of activations lie above and below the function on the whole interval."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_taps.bounds.lines import kinked_lines, monotone_lines, parallel_lines
from keras_taps.interval import Interval
from keras_taps.layers.activations import _MONOTONE
from tests.helpers import gradients, numpy

ends = st.floats(-6, 6, width=32)


def box_of(pairs):
    pairs = np.sort(np.array(pairs, "float32"), axis=1)
    return Interval(*(ops.convert_to_tensor(side) for side in pairs.T))


def assert_between(function, box, lines):
    lower, upper = numpy(box)
    x = np.linspace(lower, upper, 101, dtype="float32")
    y = numpy(function(ops.convert_to_tensor(x)))
    up, up_0, low, low_0 = (numpy(line) for line in lines)
    slack = 1e-5 * (1 + np.abs(y))
    assert np.all(up * x + up_0 >= y - slack)
    assert np.all(low * x + low_0 <= y + slack)


@given(st.lists(st.tuples(ends, ends), min_size=1, max_size=8), st.sampled_from([0.0, 0.1, 1.0]))
def test_kinked(pairs, slope):
    box = box_of(pairs)
    for lines in (kinked_lines(slope, box), parallel_lines(slope, box)):
        assert_between(lambda x: ops.maximum(x, slope * x), box, lines)


@pytest.mark.parametrize("name", _MONOTONE)
@given(st.lists(st.tuples(ends, ends), min_size=1, max_size=8))
def test_monotone(name, pairs):
    function, box = keras.activations.get(name), box_of(pairs)
    assert_between(function, box, monotone_lines(function, box))


def test_degenerate_intervals():
    box = box_of([(0, 0), (-1, -1), (1, 1), (-1, 0), (0, 1), (0, 1e-30)])
    lines = kinked_lines(0.0, box)
    assert all(np.all(np.isfinite(numpy(line))) for line in lines)
    assert_between(ops.relu, box, lines)


def test_lower_slope_takes_the_smaller_area():
    lines = kinked_lines(0.0, box_of([(-1, 2), (-2, 1)]))
    assert list(numpy(lines.lower_slope)) == [1, 0]


def test_gradients_at_points_are_finite():
    """A dead neuron has an interval without width, also while the box grows from 0."""

    def total(lower, upper):
        return sum(ops.sum(line) for line in kinked_lines(0.0, Interval(lower, upper)))

    point = np.array([-1.0, 0.0, 1.0, 100.0], "float32")
    _, found = gradients(total, point, point)
    assert all(np.all(np.isfinite(gradient)) for gradient in found)

"""Lines of activations lie above and below the function on the whole interval."""

from functools import cache

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_taps.bounds.curves import curve_lines
from keras_taps.bounds.lines import kinked_lines, monotone_lines, parallel_lines
from keras_taps.interval import Interval
from keras_taps.layers.curves import CURVES
from tests.helpers import gradients, jitted, numpy

ends = st.floats(-6, 6, width=32)
# As many each time, so that what is compiled serves them all.
eight = st.lists(st.tuples(ends, ends), min_size=8, max_size=8)


def box_of(pairs):
    pairs = np.sort(np.array(pairs, "float32"), axis=1)
    return Interval(*(ops.convert_to_tensor(side) for side in pairs.T))


compiled = cache(jitted)  # once a function


def assert_between(function, box, lines):
    lower, upper = numpy(box)
    x = np.linspace(lower, upper, 101, dtype="float32")
    y = numpy(compiled(function)(ops.convert_to_tensor(x)))
    up, up_0, low, low_0 = (numpy(line) for line in lines[:4])
    slack = 1e-5 * (1 + np.abs(y))
    assert np.all(up * x + up_0 >= y - slack)
    assert np.all(low * x + low_0 <= y + slack)


@cache
def of_kink(slope):
    """The function, and its two kinds of lines."""

    def lines(box):
        return kinked_lines(slope, box)[:4], parallel_lines(slope, box)[:4]

    return (lambda x: ops.maximum(x, slope * x)), jitted(lines)


@given(eight, st.sampled_from([0.0, 0.1, 1.0]))
def test_kinked(pairs, slope):
    function, lines_of = of_kink(slope)
    box = box_of(pairs)
    for lines in lines_of(box):
        assert_between(function, box, lines)


MONOTONE = ["relu", "leaky_relu", *(n for n, curve in CURVES.items() if curve.bottom is None)]


@cache
def of_monotone(name):
    function = keras.activations.get(name)
    return jitted(lambda box: monotone_lines(function, box)[:4])


@pytest.mark.parametrize("name", MONOTONE)
@given(eight)
def test_monotone(name, pairs):
    box = box_of(pairs)
    assert_between(keras.activations.get(name), box, of_monotone(name)(box))


@cache
def of_curve(name):
    """Its lines, and those with a share of its largest slope."""
    function, curve = keras.activations.get(name), CURVES[name]

    def lines(box, share):
        found = curve_lines(curve, function, box)
        low, high = curve.flattest, min(curve.steepest, 4.0)
        slope = ops.full_like(box.lower, 1.0) * (low + share * (high - low))
        under, over = found.around(slope)
        return found[:4], (slope, over, slope, under)

    return jitted(lines)


@pytest.mark.parametrize("name", CURVES)
@given(eight, st.floats(0, 1, width=32))
def test_curves(name, pairs, share):
    box = box_of(pairs)
    for lines in of_curve(name)(box, ops.convert_to_tensor(share, dtype="float32")):
        assert_between(keras.activations.get(name), box, lines)


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_no_looser_than_parallel_lines(name):
    box = box_of([(-4, 1), (-1, 3), (0.5, 1), (-3, -2.5)] * 2)
    middle = (box.lower + box.upper) / 2

    def distance(lines):
        up, up_0, low, low_0 = (numpy(line) for line in lines[:4])
        return (up - low) * numpy(middle) + up_0 - low_0

    mine = distance(of_curve(name)(box, 0.5)[0])
    assert np.all(mine >= -1e-6)
    if CURVES[name].bottom is None:
        assert np.all(mine <= distance(of_monotone(name)(box)) + 1e-4)


def test_degenerate_intervals():
    box = box_of([(0, 0), (-1, -1), (1, 1), (-1, 0), (0, 1), (0, 1e-30)])
    lines = kinked_lines(0.0, box)
    assert all(np.all(np.isfinite(numpy(line))) for line in lines[:4])
    assert_between(ops.relu, box, lines)


def test_lower_slope_takes_the_smaller_area():
    lines = kinked_lines(0.0, box_of([(-1, 2), (-2, 1)]))
    assert list(numpy(lines.lower_slope)) == [1, 0]


def test_gradients_at_points_are_finite():
    """A dead neuron has an interval without width, also while the box grows from 0."""

    def total(lower, upper):
        return sum(ops.sum(line) for line in kinked_lines(0.0, Interval(lower, upper))[:4])

    point = np.array([-1.0, 0.0, 1.0, 100.0], "float32")
    _, found = gradients(total, point, point)
    assert all(np.all(np.isfinite(gradient)) for gradient in found)

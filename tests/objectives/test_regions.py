"""The small box of SABR and STAPS (property 9)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_taps.interval import input_box
from keras_taps.objectives.regions import small_box
from tests.helpers import close, numbers, numpy


@given(st.integers(0, 99), st.floats(0, 1), st.floats(0, 0.5))
def test_inside_the_box_inside_the_pixels(seed, ratio, eps):
    """Property 9, under asymmetric clipping at 0 and 1."""
    x = np.clip(numbers(3, 5, seed=seed, low=-0.3, high=1.3), 0, 1)
    box = input_box(x, eps)
    share = numbers(3, 5, seed=seed + 1, low=0)
    points = box.lower + ops.convert_to_tensor(share) * box.width
    small = small_box(box, points, ratio)
    assert np.all(numpy(small.lower) >= numpy(box.lower))
    assert np.all(numpy(small.upper) <= numpy(box.upper))
    assert np.all(numpy(small.lower) >= 0)
    assert np.all(numpy(small.upper) <= 1)
    close(small.width, ratio * numpy(box.width), 1e-6)


def test_ratio_one_is_the_box_and_zero_the_point():
    """Property 9."""
    x = numbers(3, 5, low=0)
    box = input_box(x, 0.2)
    assert small_box(box, ops.convert_to_tensor(x), 1.0) is box
    small = small_box(box, box.upper, 0.0)
    close(small.lower, box.upper, 1e-7)
    close(small.upper, box.upper, 1e-7)


def test_as_near_to_the_point_as_it_fits():
    box = input_box(np.full((1, 3), 0.5, "float32"), 0.5)
    small = small_box(box, ops.convert_to_tensor([[0.0, 0.5, 0.95]]), 0.2)
    close(small.lower, [[0.0, 0.4, 0.8]])
    close(small.upper, [[0.2, 0.6, 1.0]])


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_bad_ratio(ratio):
    box = input_box(np.zeros((1, 3), "float32"), 0.5)
    with pytest.raises(ValueError, match=r"`ratio` must be a number in \[0, 1\]. Received"):
        small_box(box, box.lower, ratio)

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval, as_interval, input_box
from tests.helpers import close, numbers, numpy, random_box


def test_centre_radius_and_width():
    box = Interval(ops.array([[-1.0, 0.0]]), ops.array([[3.0, 0.5]]))
    close(box.centre, [[1.0, 0.25]])
    close(box.radius, [[2.0, 0.25]])
    close(box.width, [[4.0, 0.5]])


def test_box_is_a_pytree():
    box = random_box(2, 3)
    leaves = keras.tree.flatten(box)
    assert len(leaves) == 2
    assert isinstance(keras.tree.map_structure(lambda t: t + 1, box), Interval)


def test_as_interval_takes_pairs_and_leaves_tensors():
    box = random_box(2, 3)
    assert as_interval(box) is box
    assert isinstance(as_interval(list(box)), Interval)
    assert as_interval(box.lower) is None


def test_as_interval_refuses_three_tensors():
    with pytest.raises(ValueError, match=r"pair .*Received: a list of 3"):
        as_interval([1, 2, 3])


def test_input_box_is_clipped_to_pixels():
    box = numpy(input_box(np.array([[0.05, 0.5, 1.0]], "float32"), 0.1))
    close(box.lower, [[0.0, 0.4, 0.9]])
    close(box.upper, [[0.15, 0.6, 1.0]])


def test_input_box_takes_a_tensor_radius():
    x = numbers(2, 4, low=0)
    close(input_box(x, ops.convert_to_tensor(0.2)), input_box(x, 0.2))


def test_input_box_of_radius_zero_is_the_point():
    x = numbers(2, 4, low=0)
    box = numpy(input_box(x, 0))
    assert np.array_equal(box.lower, x)
    assert np.array_equal(box.upper, x)


@pytest.mark.parametrize("eps", [-0.1, 2, float("nan")])
def test_input_box_refuses_a_radius_outside_the_unit_interval(eps):
    with pytest.raises(ValueError, match=r"`eps` must be .*Received: eps="):
        input_box(np.zeros((1, 2), "float32"), eps)

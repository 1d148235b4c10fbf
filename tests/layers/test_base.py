import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers import IntervalDense
from keras_taps.layers.base import affine
from tests.helpers import close, random_box


def test_affine_rule_by_hand():
    box = Interval(ops.array([[0.0, -1.0]]), ops.array([[1.0, 1.0]]))
    kernel = ops.array([[2.0], [-3.0]])
    out = affine(
        box, lambda x: ops.matmul(x, kernel) + 5.0, lambda r: ops.matmul(r, ops.abs(kernel))
    )
    close(out, Interval(np.array([[2.0]]), np.array([[10.0]])))


def test_a_list_of_two_tensors_is_a_box():
    """As Keras hands it over after a model is reloaded."""
    layer, box = IntervalDense(2), random_box(2, 3)
    close(layer(list(box)), layer(box))


def test_three_tensors_are_refused():
    with pytest.raises(ValueError, match="Received: a list of 3 items"):
        IntervalDense(2)([keras.ops.ones((1, 2))] * 3)


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "mixed_bfloat16"])
def test_coarse_policies_take_tensors_but_no_boxes(dtype):
    layer, box = IntervalDense(2, dtype=dtype), random_box(2, 3)
    layer(box.lower)
    with pytest.raises(ValueError, match="was given a box but computes in"):
        layer(box)

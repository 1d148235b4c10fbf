"""IntervalScale: negative scales turn a box round."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers import IntervalScale
from tests.helpers import close


def scaled(shape, scale, shift, inputs):
    layer = IntervalScale(shape)
    layer.build((None, *inputs))
    layer.set_weights([np.array(scale, "float32"), np.array(shift, "float32")])
    return layer


def test_known_numbers():
    layer = scaled((2,), [-1.0, 2.0], [0.5, -1.0], (2,))
    box = layer(Interval(ops.array([[0.0, 1.0]]), ops.array([[1.0, 3.0]])))
    close(box.lower, [[-0.5, 1.0]])
    close(box.upper, [[0.5, 5.0]])
    close(layer(ops.array([[1.0, 1.0]])), [[-0.5, 1.0]])


def test_starts_as_the_identity():
    layer = IntervalScale((3,))
    x = ops.ones((2, 4, 4, 3)) * 5
    close(layer(x), x)
    assert layer.compute_output_shape((None, 4, 4, 3)) == (None, 4, 4, 3)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1, 1), (2, 2, 3)])
def test_broadcasts_with_one_input(shape):
    scale, shift = np.full(shape, -2.0), np.full(shape, 1.0)
    layer = scaled(shape, scale, shift, (2, 2, 3))
    x = np.arange(24, dtype="float32").reshape(2, 2, 2, 3)
    close(layer(ops.convert_to_tensor(x)), 1 - 2 * x)


def test_config_survives():
    config = IntervalScale((2, 1), name="mine").get_config()
    again = IntervalScale.from_config(config)
    assert again.shape == (2, 1)
    assert keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(again)
    ).name == ("mine")

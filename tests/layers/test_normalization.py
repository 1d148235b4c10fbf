import numpy as np
from keras import ops

from keras_taps.interval import Interval, input_box
from keras_taps.layers import IntervalNormalization, IntervalRescaling
from tests.helpers import close, numbers


def test_adapted_normalization():
    x = numbers(50, 4, low=0)
    layer = IntervalNormalization()
    layer.adapt(x)
    close(layer(ops.convert_to_tensor(x)), (x - x.mean(0)) / x.std(0), 1e-4)
    box = layer(input_box(x, 0.1))
    close(box.upper, (np.minimum(x + np.float32(0.1), 1) - x.mean(0)) / x.std(0), 1e-4)


def test_negative_scale_swaps_the_bounds():
    box = IntervalRescaling(-2.0, 1.0)(Interval(ops.array([[0.0]]), ops.array([[3.0]])))
    close(box, Interval(np.array([[-5.0]]), np.array([[1.0]])))

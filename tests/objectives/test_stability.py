import numpy as np
from keras import ops

from keras_taps.interval import Interval
from keras_taps.objectives import instability
from tests.helpers import close, gradients, numpy, random_box


def test_by_hand():
    """l = -2, u = 3 gives 6; neurons whose sign is fixed give nothing."""
    box = Interval(
        ops.convert_to_tensor([[-2.0, 1.0], [-1.0, -3.0]]),
        ops.convert_to_tensor([[3.0, 2.0], [0.5, 0.0]]),
    )
    close(instability([box]), [6.0, 0.5])


def test_is_a_sum_over_neurons_and_layers():
    boxes = [random_box(3, 4, seed=1), random_box(3, 2, 2, 5, seed=2)]
    expected = 0
    for lower, upper in map(numpy, boxes):
        area = np.maximum(-lower, 0) * np.maximum(upper, 0)
        expected = expected + area.reshape(3, -1).sum(1)
    close(instability(boxes), expected)


def test_stable_neurons_have_no_gradient():
    lower, upper = np.array([[-2.0, 1.0, -3.0, 0.0]]), np.array([[3.0, 2.0, -1.0, 0.0]])
    _, found = gradients(
        lambda lo, hi: ops.sum(instability([Interval(lo, hi)])),
        lower.astype("float32"),
        upper.astype("float32"),
    )
    close(found[0], [[-3.0, 0, 0, 0]])
    close(found[1], [[2.0, 0, 0, 0]])

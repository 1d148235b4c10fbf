"""Folded layers are the same function, under moving averages and under replayed moments."""

import pytest
from keras import ops

from keras_taps.layers import (
    BatchStatistics,
    IntervalBatchNormalization,
    IntervalConv2D,
    IntervalDense,
    IntervalFlatten,
    IntervalReLU,
)
from keras_taps.layers.folding import fold
from keras_taps.layers.residual import walk
from keras_taps.networks import IntervalSequential
from tests.helpers import BACKEND, close, numbers

CONV = [("channels_last", -1), ("channels_last", 3)]
CONV += [] if BACKEND == "tensorflow" else [("channels_first", 1), ("channels_first", -3)]


def network(layers, shape):
    """The layers behind one another, with weights and moving averages that are not trivial."""
    found = IntervalSequential([*layers, IntervalFlatten(), IntervalDense(2)], input_shape=shape)
    for i, weight in enumerate(found.weights):
        low = 0.3 if "variance" in weight.path else -1.0
        weight.assign(numbers(*weight.shape, seed=i, low=low))
    return found


@pytest.mark.parametrize(("data_format", "axis"), CONV)
@pytest.mark.parametrize("use_bias", [True, False])
def test_convolution_and_dense(data_format, axis, use_bias):
    options = {"use_bias": use_bias}
    layers = [
        IntervalConv2D(3, 3, strides=2, data_format=data_format, **options),
        IntervalBatchNormalization(axis=axis),
        IntervalReLU(),
        IntervalFlatten(),
        IntervalDense(4, **options),
        IntervalBatchNormalization(scale=False),
    ]
    shape = (2, 5, 5) if data_format == "channels_first" else (5, 5, 2)
    net = network(layers, shape)
    x, other = (ops.convert_to_tensor(numbers(6, *shape, seed=seed)) for seed in (0, 1))
    folded = fold(net.layers)
    assert len(folded) == len(net.layers) - 2
    close(walk(folded, x), ops.convert_to_numpy(net(x)), 1e-4)
    statistics = BatchStatistics()
    with statistics.record():
        net(x, training=True)
    with statistics.replay():
        close(walk(fold(net.layers), other), ops.convert_to_numpy(net(other)), 1e-4)


@pytest.mark.parametrize(
    "layers",
    [
        [IntervalBatchNormalization(), IntervalDense(3)],
        [IntervalDense(3, activation="relu"), IntervalBatchNormalization()],
        [IntervalConv2D(4, 2, activation="linear"), IntervalBatchNormalization(axis=1)],
    ],
)
def test_what_does_not_fold_stays(layers):
    net = network(layers, (4, 4, 4))
    x = ops.convert_to_tensor(numbers(2, 4, 4, 4))
    assert len(fold(net.layers)) == len(net.layers)
    close(walk(fold(net.layers), x), ops.convert_to_numpy(net(x)), 1e-5)

"""Folded layers are the same function, under moving averages and under replayed moments."""

import pytest
from keras import ops

from keras_taps.layers import (
    IntervalBatchNormalization,
    IntervalConv2D,
    IntervalDense,
    IntervalFlatten,
    IntervalReLU,
    IntervalZeroPadding2D,
    folding,
)
from keras_taps.layers.folding import fold
from keras_taps.layers.residual import walk
from keras_taps.networks import IntervalSequential
from tests.helpers import BACKEND, close, numbers

CONV = [("channels_last", -1), ("channels_last", 3)]
CONV += [] if BACKEND == "tensorflow" else [("channels_first", 1), ("channels_first", -3)]


def network(layers, shape):
    """The layers one after another, with weights and moving averages that are not trivial."""
    found = IntervalSequential([*layers, IntervalFlatten(), IntervalDense(2)], input_shape=shape)
    for i, weight in enumerate(found.weights):
        low = 0.3 if "variance" in weight.path else -1.0
        weight.assign(numbers(*weight.shape, seed=i, low=low))
    return found


@pytest.mark.parametrize(("data_format", "axis"), CONV)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("largest", [0, 10**6], ids=["convolution", "matrix"])
def test_convolution_and_dense(data_format, axis, use_bias, largest, monkeypatch):
    monkeypatch.setattr(folding, "_MATRIX_SIZE", largest)
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
    folded = fold(net.layers, shape)
    assert len(folded) == len(net.layers) - 2
    close(walk(folded, x), ops.convert_to_numpy(net(x)), 1e-4)
    given = net.replay(net.clean_pass(x).moments)
    expected = ops.convert_to_numpy(net(other, given=given))
    close(walk(fold(net.layers, shape, given), other), expected, 1e-4)


@pytest.mark.parametrize(
    "layers",
    [
        [IntervalBatchNormalization(), IntervalDense(3)],
        [IntervalDense(3, activation="relu"), IntervalBatchNormalization()],
        [IntervalConv2D(4, 2, activation="linear"), IntervalBatchNormalization(axis=1)],
    ],
)
def test_what_does_not_fold_stays(layers):
    shape = (4, 4, 4)
    net = network(layers, shape)
    x = ops.convert_to_tensor(numbers(2, 4, 4, 4))
    assert len(fold(net.layers, shape)) == len(net.layers)
    close(walk(fold(net.layers, shape), x), ops.convert_to_numpy(net(x)), 1e-5)


def test_small_convolutions_become_matrices():
    shape = (6, 6, 1)
    layers = [
        IntervalConv2D(2, 3, padding="same", dilation_rate=2),
        IntervalReLU(),
        IntervalConv2D(4, 3, groups=2),
        IntervalConv2D(400, 4),
        IntervalReLU(),
        IntervalConv2D(400, 1),
    ]
    net = network(layers, shape)
    folded = fold(net.layers, shape)
    assert [hasattr(f, "kernel") and len(f.kernel.shape) == 2 for f in folded[:6]] == [
        *(True, False, True, True),
        *(False, True),
    ]
    x = ops.convert_to_tensor(numbers(3, *shape))
    close(walk(folded, x), ops.convert_to_numpy(net(x)), 1e-3)


@pytest.mark.parametrize("padding", [1, ((2, 0), (1, 3))])
@pytest.mark.parametrize("largest", [0, 10**6], ids=["convolution", "matrix"])
def test_affine_maps_take_the_padding_before_them(padding, largest, monkeypatch):
    monkeypatch.setattr(folding, "_MATRIX_SIZE", largest)
    layers = [
        IntervalZeroPadding2D(padding),
        IntervalConv2D(3, 3, strides=2),
        IntervalBatchNormalization(),
        IntervalZeroPadding2D(1),
        IntervalReLU(),
        IntervalZeroPadding2D(1),
        IntervalZeroPadding2D(padding),
        IntervalConv2D(2, 2),
    ]
    shape = (5, 6, 2)
    net = network(layers, shape)
    folded = fold(net.layers, shape)
    # Of paddings one after another the last is taken; one before a ReLU stays.
    assert len(folded) == len(net.layers) - 3
    x = ops.convert_to_tensor(numbers(3, *shape))
    close(walk(folded, x), ops.convert_to_numpy(net(x)), 1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrices_have_the_precision_of_their_layer(dtype):
    layer = IntervalConv2D(2, 3, dtype=dtype, bias_initializer="ones")
    layer.build((None, 5, 5, 1))
    (product,) = fold([layer], (5, 5, 1))
    x = ops.convert_to_tensor(numbers(3, 5, 5, 1), dtype=dtype)
    assert len(product.kernel.shape) == 2
    close(product(x), ops.convert_to_numpy(layer(x)), 1e-5)

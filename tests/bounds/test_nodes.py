"""Every layer, back and forth: the substituted form bounds what the layers compute."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps import layers as kl
from keras_taps.bounds.nodes import propagate, substitute, unfold
from keras_taps.layers.residual import build_chain, walk
from tests.helpers import close, numbers, numpy, random_box, randomise, sample_points

IMAGE, VECTOR = (6, 5, 2), (7,)
CASES = {
    "dense": (lambda: [kl.IntervalDense(4)], VECTOR),
    "dense without bias": (lambda: [kl.IntervalDense(4, use_bias=False)], VECTOR),
    "dense relu": (lambda: [kl.IntervalDense(4, activation="relu")], VECTOR),
    "dense tanh": (lambda: [kl.IntervalDense(4, activation="tanh")], VECTOR),
    "dense leaky relu": (lambda: [kl.IntervalDense(4, activation="leaky_relu")], VECTOR),
    "conv": (lambda: [kl.IntervalConv2D(3, 3, strides=2, padding="same")], IMAGE),
    "conv dilated": (lambda: [kl.IntervalConv2D(2, 2, dilation_rate=2)], IMAGE),
    "conv in groups": (lambda: [kl.IntervalConv2D(4, 2, groups=2, use_bias=False)], IMAGE),
    "depthwise": (lambda: [kl.IntervalDepthwiseConv2D(3, activation="relu")], IMAGE),
    "batch norm": (lambda: [kl.IntervalBatchNormalization()], IMAGE),
    "normalization": (lambda: [kl.IntervalNormalization(mean=0.2, variance=0.3)], IMAGE),
    "rescaling": (lambda: [kl.IntervalRescaling(-2.0, offset=0.5)], IMAGE),
    "flatten": (lambda: [kl.IntervalFlatten()], IMAGE),
    "reshape": (lambda: [kl.IntervalReshape((10, 6))], IMAGE),
    "padding": (lambda: [kl.IntervalZeroPadding2D(1)], IMAGE),
    "moves": (
        lambda: [
            kl.IntervalCropping2D(((1, 2), (0, 2))),
            kl.IntervalUpSampling2D((1, 2)),
            kl.IntervalPermute((2, 3, 1)),
            kl.IntervalFlatten(),
            kl.IntervalRepeatVector(2),
        ],
        IMAGE,
    ),
    "average pooling": (lambda: [kl.IntervalAveragePooling2D(2)], IMAGE),
    "average pooling same": (lambda: [kl.IntervalAveragePooling2D(2, padding="same")], IMAGE),
    "global average": (lambda: [kl.IntervalGlobalAveragePooling2D()], IMAGE),
    "max pooling": (lambda: [kl.IntervalMaxPooling2D(2)], IMAGE),
    "max pooling 3/2": (lambda: [kl.IntervalMaxPooling2D(3, strides=2, padding="same")], IMAGE),
    "global max": (lambda: [kl.IntervalGlobalMaxPooling2D()], IMAGE),
    "relu": (lambda: [kl.IntervalReLU()], VECTOR),
    "relu 6": (lambda: [kl.IntervalReLU(max_value=0.3, negative_slope=0.1)], VECTOR),
    "relu threshold": (lambda: [kl.IntervalReLU(threshold=0.2)], VECTOR),
    "leaky relu": (lambda: [kl.IntervalLeakyReLU(0.3)], VECTOR),
    "elu": (lambda: [kl.IntervalELU()], VECTOR),
    "sigmoid": (lambda: [kl.IntervalActivation("sigmoid")], VECTOR),
    "dropout": (lambda: [kl.IntervalDropout(0.5), kl.IntervalReLU()], VECTOR),
    "residual": (lambda: [kl.IntervalResidual([[kl.IntervalDense(7), kl.IntervalReLU()], []])],
                 VECTOR),
    "chain": (
        lambda: [
            kl.IntervalConv2D(3, 3),
            kl.IntervalBatchNormalization(),
            kl.IntervalReLU(),
            kl.IntervalMaxPooling2D(2),
            kl.IntervalResidual(
                [
                    [kl.IntervalConv2D(3, 3, padding="same"), kl.IntervalReLU()],
                    [kl.IntervalConv2D(3, 1)],
                ]
            ),
            kl.IntervalReLU(),
            kl.IntervalFlatten(),
            kl.IntervalDense(4),
        ],
        IMAGE,
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request):
    """Layers with random weights, a box of batch 2, three linear forms on the outputs."""
    make, shape = CASES[request.param]
    layers = make()
    out = build_chain(layers, (None, *shape))
    for i, layer in enumerate(layers):
        if not isinstance(layer, keras.layers.Normalization):
            randomise(layer, i)
    box = random_box(2, *shape, seed=1, width=1.0)
    rows = ops.convert_to_tensor(numbers(2, 3, *out[1:], seed=2))
    return layers, box, rows


def test_forward_is_the_interval_pass(case):
    layers, box, _ = case
    found, traces = propagate(unfold(layers), box)
    close(found, walk(layers, box), 1e-6)
    assert len(traces) == len(unfold(layers))


def test_bound_holds_at_every_point(case):
    layers, box, rows = case
    nodes = unfold(layers)
    _, traces = propagate(nodes, box)
    back, constant = (numpy(t) for t in substitute(nodes, traces, rows, ops.zeros((2, 3))))
    assert back.shape == (2, 3, *box.lower.shape[1:])
    for sample in range(2):
        one = type(box)(*(bound[sample : sample + 1] for bound in box))
        points = sample_points(one, 300)
        outputs = numpy(walk(layers, ops.convert_to_tensor(points))).reshape(300, -1)
        values = outputs @ numpy(rows)[sample].reshape(3, -1).T
        bounds = points.reshape(300, -1) @ back[sample].reshape(3, -1).T + constant[sample]
        assert np.all(values <= bounds + 1e-4 * (1 + np.abs(values)))


def test_affine_layers_lose_nothing(case):
    layers, box, rows = case
    nodes = unfold(layers)
    if any(type(node).__name__ != "Affine" for node in nodes):
        pytest.skip("not affine")
    _, traces = propagate(nodes, box)
    back, constant = substitute(nodes, traces, rows, ops.zeros((2, 3)))
    points = numpy(box.lower)
    outputs = numpy(walk(layers, ops.convert_to_tensor(points))).reshape(2, 1, -1)
    values = (numpy(rows).reshape(2, 3, -1) * outputs).sum(-1)
    found = (numpy(back).reshape(2, 3, -1) * points.reshape(2, 1, -1)).sum(-1) + numpy(constant)
    close(found, values, 1e-4)


def test_unknown_layer():
    class Mine(kl.base.IntervalLayer, keras.layers.Layer):
        pass

    with pytest.raises(ValueError, match="'mine' of type Mine has no linear relaxation"):
        unfold([Mine(name="mine")])

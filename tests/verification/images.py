"""Random networks on small images, with all that rows of convolutions meet on their way back."""

import numpy as np

from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import (
    Conv,
    Dense,
    MaxPool,
    Relu,
    Reshape,
    Scale,
    Sum,
    same_padding,
)


def convolution(rng, shape, strides=None, outputs=None):
    """A convolution of any kind whose outputs are not empty."""
    side, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
    padding = tuple(tuple(rng.integers(0, 3, 2).tolist()) for _ in range(2))
    extent = dilation * (side - 1) + 1
    if np.any(np.array(shape[:2]) < extent):
        side, dilation = np.array([1, 1]), np.array([1, 1])
    groups = int(rng.choice([1, shape[-1]]))
    outputs = outputs or groups * int(rng.integers(1, 3))
    strides = tuple(rng.integers(1, 3, 2).tolist()) if strides is None else strides
    kernel = rng.normal(size=(*side, shape[-1] // groups, outputs))
    options = {"dilation": tuple(dilation.tolist()), "groups": groups}
    return Conv(kernel, rng.normal(size=outputs), shape, strides, padding, **options)


def same(rng, shape):
    """A convolution that keeps its shape."""
    kernel = rng.normal(size=(3, 3, shape[-1], shape[-1]))
    return Conv(kernel, rng.normal(size=shape[-1]), shape, padding=((2, 0), (1, 1)))


def average(shape):
    """Average pooling of windows of 2 x 2."""
    return Conv(np.full((2, 2, 1, shape[-1]), 0.25), np.zeros(shape[-1]), shape, groups=shape[-1])


def network(seed):
    """Random convolutions, pooling, scales and sums on images of 11 x 9."""
    rng = np.random.default_rng(seed)
    shape, nodes = (11, 9, 2), []
    for step in range(4):
        kind = rng.choice(["conv", "sum", "max", "average", "scale"]) if step else "conv"
        small = min(shape[:2]) < 4
        if kind == "sum":
            longer = (same(rng, shape), Relu(shape, 0.1), same(rng, shape))
            other = () if rng.random() < 0.5 else (same(rng, shape),)
            nodes += [Sum(shape, (longer, other))]
        elif kind == "max" and not small:
            same_ends = same_padding(shape, (3, 2), (2, 1))
            nodes += [MaxPool(shape, (3, 2), (2, 1), same_ends if seed % 2 else ((0, 0), (0, 0)))]
        elif kind == "average" and not small:
            nodes += [average(shape)]
        elif kind == "scale":
            nodes += [Scale(rng.normal(size=shape), rng.normal(size=shape), shape)]
        else:
            nodes += [convolution(rng, shape, (1, 1) if small else None)]
        shape = nodes[-1].out_shape
        nodes += [Relu(shape)]
    size = int(np.prod(shape))
    last = Dense(rng.normal(size=(size, 2)) / np.sqrt(size), rng.normal(size=2))
    return Graph((*nodes, Reshape(shape, (size,)), last))

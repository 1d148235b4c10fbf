"""Layers merged and rewritten so that loops over points take less time."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import keras
from keras import ops

from keras_taps.layers.blocks import Block, blocks
from keras_taps.layers.passes import PLAIN
from keras_taps.layers.residual import walk
from keras_taps.typing import Tensor

# Entries up to which a matrix takes no longer than its convolution, as measured on three backends
# by `benchmarks/small_convolutions.py`.
_MATRIX_SIZE = 250_000


@dataclass(frozen=True)
class AffineMap:
    """An affine map of points, `linear(x, kernel, bias)`, in the precision of its kernel."""

    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    kernel: Tensor
    bias: Tensor | None

    def __call__(self, x):
        return self.linear(x, self.kernel, self.bias)

    def cast(self, dtype):
        """The same map with kernel and bias rounded to `dtype`."""
        bias = None if self.bias is None else ops.cast(self.bias, dtype)
        return replace(self, kernel=ops.cast(self.kernel, dtype), bias=bias)


def fold(layers, shape, given=PLAIN):
    """The same function of points, for less work in each of many evaluations.

    A Dense layer or convolution and the normalisation after it become one affine map, whose
    kernel is scaled here, once. A convolution of few pixels and channels becomes a matrix, with
    the padding in front of it: it costs more products, but convolutions that small spend their
    time elsewhere. The result is for points alone, in float rounding of its own; the `Pass` is
    in it.

    Args:
        layers: Sequence of built interval layers, whose kernels are read now.
        shape: Shape of one input of the first layer, without the batch.
        given: `Pass` of the points.

    Returns:
        List of layers and functions of a tensor, for `walk`.

    Example:

    >>> layers = [IntervalDense(2), IntervalBatchNormalization(), IntervalReLU()]
    >>> len(fold(IntervalSequential(layers, input_shape=(3,)).layers, (3,)))
    2
    """
    folded = []
    for step in blocks(layers):
        inputs = shape
        for layer in step.layers if isinstance(step, Block) else [step]:
            shape = layer.compute_output_shape((None, *shape))[1:]
        if isinstance(step, Block):
            kernel, _, bias = step.parameters(given, folds=True)
            step = AffineMap(step.linear, kernel, bias)
            if len(shape) == 3 and math.prod(inputs) * math.prod(shape) <= _MATRIX_SIZE:
                step = _as_matrix(step, inputs)
        elif given.replays:
            step = partial(step, given=given)
        folded.append(step)
    return folded


def around(layers, centre, count, dtype):
    """`walk(layers, centre + d)` as a function of `count` offsets d a sample, in low precision.

    Sums of a centre and a short offset would lose the offset in 8 bits of mantissa. So the first
    affine map takes the centre in full precision, once, and the offsets alone after that.

    Args:
        layers: List of `fold`.
        centre: Tensor `(batch, ...)`.
        count: How many offsets each sample has.
        dtype: Precision of kernels and values after the first affine map; layers with weights
            that `fold` left as they are keep theirs.

    Returns:
        Function of a tensor `(batch * count, ...)`; what it returns has the precision of `centre`.
    """
    lowered = [_lowered(layer, dtype) for layer in layers]
    if isinstance(layers[0], AffineMap):
        base = ops.cast(layers[0](centre), dtype)
        head, tail = [replace(layers[0].cast(dtype), bias=None)], lowered[1:]
    else:
        base, head, tail = centre, [], lowered
    base = ops.expand_dims(base, 1)

    def function(offsets):
        y = ops.cast(walk(head, offsets), base.dtype)
        shape = y.shape[1:]
        y = ops.reshape(ops.reshape(y, (-1, count, *shape)) + base, (-1, *shape))
        return ops.cast(walk(tail, y), centre.dtype)

    return function


def _lowered(layer, dtype):
    """What `fold` gives for one layer, in another precision where it has no weights of its own."""
    if isinstance(layer, AffineMap):
        coarse = layer.cast(dtype)
        return lambda x: coarse(ops.cast(x, dtype))  # a layer before it may have kept its own
    inner = layer.func if isinstance(layer, partial) else layer
    if isinstance(inner, keras.Layer) and not inner.weights:
        return inner.call  # without the cast to the layer's own precision
    return layer


def _as_matrix(affine, shape):
    """An affine map of images of `shape` as a matrix product and an offset."""
    size, dtype = math.prod(shape), affine.kernel.dtype
    offset = affine(ops.zeros((1, *shape), dtype=dtype))
    units = ops.reshape(ops.eye(size, dtype=dtype), (size, *shape))
    # Without a bias, because an offset would round entries away.
    images = affine.linear(units, affine.kernel, None)
    outputs = images.shape[1:]

    def product(points, matrix, offset):
        found = ops.matmul(ops.reshape(points, (-1, size)), matrix)
        found = ops.reshape(found, (-1, *outputs))
        return found if offset is None else ops.add(found, offset)

    return AffineMap(product, ops.reshape(images, (size, -1)), offset)

"""Layers merged and rewritten so that loops over points take less time."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

import keras
from keras import ops

from keras_taps.layers.activations import activation_name
from keras_taps.layers.batch_normalization import IntervalBatchNormalization
from keras_taps.layers.conv2d import IntervalConv2D
from keras_taps.layers.dense import IntervalDense
from keras_taps.layers.passes import PLAIN
from keras_taps.layers.residual import walk
from keras_taps.layers.shaping import IntervalZeroPadding2D
from keras_taps.typing import Tensor

# Entries up to which a matrix takes no longer than its convolution, as measured on three backends
# by `benchmarks/small_convolutions.py`.
_MATRIX_SIZE = 250_000


@dataclass(frozen=True)
class AffineMap:
    """An affine map of points, `linear(x, kernel) + offset`, in the precision of its kernel."""

    linear: Callable[[Tensor, Tensor], Tensor]
    kernel: Tensor
    offset: Tensor | None

    def __call__(self, x):
        y = self.linear(x, self.kernel)
        return y if self.offset is None else ops.add(y, self.offset)

    def cast(self, dtype):
        """The same map with kernel and offset rounded to `dtype`."""
        offset = None if self.offset is None else ops.cast(self.offset, dtype)
        return replace(self, kernel=ops.cast(self.kernel, dtype), offset=offset)


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
    folded, rest = [], list(layers)
    while rest:
        padding, (layer, *rest) = [], rest
        inputs, shape = shape, layer.compute_output_shape((None, *shape))[1:]
        if _pads(layer, rest):
            padding, (layer, *rest) = [layer], rest
            shape = layer.compute_output_shape((None, *shape))[1:]
        if _is_affine(layer):
            kernel, bias = layer.kernel, layer.bias if layer.use_bias else None
            if rest and _normalizes(rest[0], layer):
                norm = rest.pop(0)
                moments = given.moments_of(norm)
                scale, offset = (ops.reshape(t, (-1,)) for t in norm.affine_form(moments))
                kernel = kernel * scale
                bias = offset if bias is None else offset + bias * scale
            offset = None if bias is None else layer.offset(bias)
            layer = AffineMap(partial(layer.affine_map, bias=None), kernel, offset)
            if len(shape) == 3 and math.prod(inputs) * math.prod(shape) <= _MATRIX_SIZE:
                padding, layer = [], _as_matrix(padding, layer, inputs)
        elif given.replays:
            layer = partial(layer, given=given)
        folded += [*padding, layer]
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
    padding = list(takewhile(lambda layer: isinstance(layer, IntervalZeroPadding2D), layers))
    at = len(padding)
    if isinstance(layers[at], AffineMap):
        base = ops.cast(layers[at](walk(padding, centre)), dtype)
        first = replace(layers[at].cast(dtype), offset=None)
        head, tail = [*lowered[:at], first], lowered[at + 1 :]
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


def _pads(layer, rest):
    """Whether `layer` pads the images of an affine layer that follows it in the same precision."""
    return (
        isinstance(layer, IntervalZeroPadding2D)
        and rest
        and _is_affine(rest[0])
        and layer.compute_dtype == rest[0].compute_dtype
    )


def _is_affine(layer):
    """Whether a layer is an affine map alone, in one precision."""
    return (
        isinstance(layer, (IntervalDense, IntervalConv2D))
        and activation_name(layer.activation) == "linear"
        and layer.compute_dtype == layer.variable_dtype
    )


def _normalizes(norm, layer):
    """Whether `norm` normalises the output channels of the affine `layer`."""
    return (
        isinstance(norm, IntervalBatchNormalization)
        and norm.compute_dtype == layer.compute_dtype
        and norm.axis in _channel_axes(layer, len(norm._reduction_axes) + 1)
    )


def _as_matrix(padding, affine, shape):
    """Padding layers and an affine map of images of `shape` as a matrix product and an offset."""
    size, dtype = math.prod(shape), affine.kernel.dtype
    offset = affine(walk(padding, ops.zeros((1, *shape), dtype=dtype)))
    units = ops.reshape(ops.eye(size, dtype=dtype), (size, *shape))
    # Without a bias, because an offset would round entries away.
    images = affine.linear(walk(padding, units), affine.kernel)
    outputs = images.shape[1:]

    def product(points, matrix):
        found = ops.matmul(ops.reshape(points, (-1, size)), matrix)
        return ops.reshape(found, (-1, *outputs))

    return AffineMap(product, ops.reshape(images, (size, -1)), offset)


def _channel_axes(layer, rank):
    """The numbers of the axis that holds the output channels."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return (1, 1 - rank) if first else (-1, rank - 1)

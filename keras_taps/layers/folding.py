"""Batch normalisation merged into the affine layer in front of it, for loops over points."""

from functools import partial

from keras import ops

from keras_taps.layers.activations import activation_name
from keras_taps.layers.batch_normalization import IntervalBatchNormalization
from keras_taps.layers.conv2d import IntervalConv2D
from keras_taps.layers.dense import IntervalDense


def fold(layers):
    """The same function of points with fewer passes over them.

    A Dense layer or convolution and the normalisation behind it become one affine map, whose
    kernel is scaled here, once. The result is for points alone, in float rounding of its own.

    Args:
        layers: Sequence of built interval layers. Kernels and moments are read now, inside the
            scopes that are open.

    Returns:
        List of layers and functions of a tensor, for `walk`.

    Example:

    >>> layers = [IntervalDense(2), IntervalBatchNormalization(), IntervalReLU()]
    >>> len(fold(IntervalSequential(layers, input_shape=(3,)).layers))
    2
    """
    folded, rest = [], list(layers)
    while rest:
        layer, *rest = rest
        if rest and _folds(layer, rest[0]):
            scale, offset = (ops.reshape(t, (-1,)) for t in rest.pop(0).affine_form())
            bias = offset + layer.bias * scale if layer.use_bias else offset
            layer = partial(layer.affine_map, kernel=layer.kernel * scale, bias=bias)
        folded.append(layer)
    return folded


def _folds(layer, norm):
    """Whether `norm` normalises the output channels of the affine `layer`, all in one precision."""
    return (
        isinstance(layer, (IntervalDense, IntervalConv2D))
        and isinstance(norm, IntervalBatchNormalization)
        and activation_name(layer.activation) == "linear"
        and layer.compute_dtype == layer.variable_dtype == norm.compute_dtype
        and norm.axis in _channel_axes(layer, len(norm._reduction_axes) + 1)
    )


def _channel_axes(layer, rank):
    """The numbers of the axis that holds the output channels."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return (1, 1 - rank) if first else (-1, rank - 1)

"""Padding, an affine layer and the normalisation after it as one step of fewer passes."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import ops

from keras_taps.interval import as_interval
from keras_taps.layers.activations import activation_name
from keras_taps.layers.base import affine, refuse_coarse_precision
from keras_taps.layers.batch_normalization import IntervalBatchNormalization
from keras_taps.layers.conv2d import IntervalConv2D
from keras_taps.layers.dense import IntervalDense, IntervalEqualizedDense
from keras_taps.layers.shaping import IntervalZeroPadding2D


@dataclass(frozen=True, eq=False)
class Block:
    """An affine layer of one precision, with the layers around it that it takes over.

    A convolution pads by itself and has the scale of its normalisation in its kernel, which is
    smaller than its images; a Dense layer, whose kernel is larger than its vectors, has it after.

    Args:
        layer: Dense layer or convolution without activation.
        padding: Zero padding before it, or `None`.
        norm: Normalisation of its channels after it, or `None`.
    """

    layer: keras.Layer
    padding: keras.Layer | None = None
    norm: keras.Layer | None = None

    @property
    def layers(self):
        """The layers in order."""
        return [part for part in (self.padding, self.layer, self.norm) if part is not None]

    def linear(self, x, kernel, bias=None):
        """The affine map with its padding and with a kernel and bias, or none, of one's own."""
        pads = {} if self.padding is None else {"pads": self.padding.padding}
        return self.layer.affine_map(x, kernel, bias, **pads)

    def parameters(self, given, folds):
        """`(kernel, scale, bias)`, the scale `None` where it is in the kernel or there is none."""
        layer = self.layer
        kernel, bias = layer.kernel, layer.bias if layer.use_bias else None
        if self.norm is None:
            return kernel, None, bias
        scale, offset = given.form_of(self.norm)
        bias = offset if bias is None else offset + bias * scale
        return (kernel * scale, None, bias) if folds else (kernel, scale, bias)

    def __call__(self, inputs, given):
        box = as_interval(inputs)
        tensors = [inputs] if box is None else box
        if not all(layer.computes_in(tensors) for layer in self.layers):
            for layer in self.layers:
                inputs = layer(inputs, given=given)
            return inputs
        kernel, scale, bias = self.parameters(given, isinstance(self.layer, IntervalConv2D))

        def linear(x):
            if scale is None:
                return self.linear(x, kernel, bias)
            return self.linear(x, kernel) * scale + self.layer.offset(bias)

        def absolute(x):
            y = self.linear(x, ops.abs(kernel))
            return y if scale is None else y * ops.abs(scale)

        if box is None:
            return linear(inputs)
        refuse_coarse_precision(self.layer)
        return affine(box, linear, absolute)


def blocks(layers: Sequence[keras.Layer], norms: bool = True) -> list:
    """The layers, those that a `Block` can take together as one.

    Args:
        layers: Sequence of interval layers.
        norms: Whether normalisation is an affine map, and not one that takes moments.
    """
    found, rest = [], list(layers)
    while rest:
        padding, layer = None, rest.pop(0)
        if isinstance(layer, IntervalZeroPadding2D) and rest and _takes(rest[0], layer):
            padding, layer = layer, rest.pop(0)
        if _is_affine(layer):
            norm = rest.pop(0) if norms and rest and _normalizes(rest[0], layer) else None
            layer = Block(layer, padding, norm)
        found.append(layer)
    return found


def _is_affine(layer):
    """Whether a layer is an affine map alone, in one precision; a user's subclass may be more."""
    return (
        type(layer) in (IntervalDense, IntervalEqualizedDense, IntervalConv2D)
        and activation_name(layer.activation) == "linear"
        and layer.compute_dtype == layer.variable_dtype
    )


def _takes(layer, padding):
    """Whether `layer` is a convolution that can do the work of `padding`."""
    return (
        _is_affine(layer)
        and isinstance(layer, IntervalConv2D)
        and layer.padding == "valid"
        and layer.data_format == padding.data_format
        and layer.compute_dtype == padding.compute_dtype
    )


def _normalizes(norm, layer):
    """Whether `norm` normalises the output channels of the affine `layer`."""
    return (
        isinstance(norm, IntervalBatchNormalization)
        and norm.compute_dtype == layer.compute_dtype
        and norm.axis in _channel_axes(layer, len(norm._reduction_axes) + 1)
    )


def _channel_axes(layer, rank):
    """The numbers of the axis that holds the output channels."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return (1, 1 - rank) if first else (-1, rank - 1)

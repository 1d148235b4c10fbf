"""Convolutions on boxes."""

import math
from typing import Any

import keras
from keras import ops

from keras_taps import backend
from keras_taps.interval import Interval
from keras_taps.layers.activations import ActivatedLayer
from keras_taps.layers.base import affine, serializable
from keras_taps.typing import Shape, Tensor


class _ConvolutionLayer(ActivatedLayer):
    def linear(self, x: Tensor) -> Tensor:
        """The affine part on a tensor."""
        return self.affine_map(x, self.kernel, self.bias if self.use_bias else None)

    def affine_map(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        """The affine part with another kernel and bias, or none, in place of the layer's."""
        y = self.convolution_op(x, kernel)
        return y if bias is None else ops.add(y, self.offset(bias))

    def offset(self, bias: Tensor) -> Tensor:
        """A bias in the shape in which it is added."""
        channels_first = self.data_format == "channels_first"
        return ops.reshape(bias, (1, -1, 1, 1) if channels_first else (1, 1, 1, -1))

    def propagate_affine(self, box: Interval) -> Interval:
        return affine(box, self.linear, lambda r: self.convolution_op(r, ops.abs(self.kernel)))


@serializable
class IntervalConv2D(_ConvolutionLayer, keras.layers.Conv2D):
    """`keras.layers.Conv2D` that takes boxes: any strides, padding, dilation, groups, data format.

    Example:

    >>> layer = IntervalConv2D(4, 3, padding="same")
    >>> ops.shape(layer(Interval(ops.zeros((1, 8, 8, 1)), ops.ones((1, 8, 8, 1)))).upper)
    (1, 8, 8, 4)

    References:
        Gowal et al. 2018, equation 6.
    """

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The stock convolution, without the detours of its backend."""
        return self.affine_map(inputs, kernel, None)

    def affine_map(
        self, x: Tensor, kernel: Tensor, bias: Tensor | None, pads: Any = None
    ) -> Tensor:
        """The affine part with another kernel and bias, or none, in place of the layer's.

        Args:
            x: Tensor of a batch of images.
            kernel: Tensor like that of the layer.
            bias: Tensor `(filters,)` or `None`.
            pads: `((top, bottom), (left, right))`, the zeros around the images, by default as the
                layer pads.
        """
        return backend.convolution(
            x,
            kernel,
            self.strides,
            self.padding if pads is None else pads,
            self.data_format,
            self.dilation_rate,
            bias,
        )


@serializable
class IntervalDepthwiseConv2D(_ConvolutionLayer, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` that takes boxes.

    Example:

    >>> layer = IntervalDepthwiseConv2D(3)
    >>> ops.shape(layer(Interval(ops.zeros((1, 8, 8, 2)), ops.ones((1, 8, 8, 2)))).upper)
    (1, 6, 6, 2)
    """

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if getattr(self.depthwise_initializer, "by_fan_in", False):
            # Each output reads one channel, which the shape of the kernel does not say.
            height, width, *channels = self.kernel.shape
            shape = (height, width, 1, math.prod(channels))
            drawn = self.depthwise_initializer(shape, dtype=self.variable_dtype)
            self.kernel.assign(ops.reshape(drawn, self.kernel.shape))

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The stock depthwise convolution with the kernel given, so that it can be |kernel|."""
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

"""Stock layers that are others in a row: a separable convolution, whatever takes signals.

A signal `(length, channels)` is an image of height 1, so layers of signals become those of images.
"""

from functools import partial

import keras
from keras import layers

_LAST = "channels_last"


def rewritten(layer):
    """The same function as a list of stock layers, or `None` if the layer stays as it is.

    Args:
        layer: Built stock layer.

    Raises:
        ValueError: If its channels come first, it takes signals of different channels, or its
            kernel has a constraint along an axis.
    """
    write = REWRITTEN.get(type(layer))
    if write is None:
        return None
    if getattr(layer, "data_format", _LAST) != _LAST:
        raise ValueError(
            f"Layer '{layer.name}' of type {type(layer).__name__} has data_format "
            f"{layer.data_format!r}, which has no interval form. Accepted: {_LAST!r}."
        )
    return write(layer)


def _separable(layer):
    """A convolution of each channel, and one of height and width 1 that mixes them."""
    rank = len(layer.kernel_size)
    how = {"dtype": layer.dtype_policy, "data_format": _LAST, "trainable": layer.trainable}
    depthwise = getattr(layers, f"DepthwiseConv{rank}D")(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
        depthwise_constraint=layer.depthwise_constraint,
        name=f"{layer.name}_depthwise",
        **how,
    )
    pointwise = getattr(layers, f"Conv{rank}D")(
        layer.filters,
        1,
        activation=layer.activation,
        use_bias=layer.use_bias,
        kernel_regularizer=layer.pointwise_regularizer,
        kernel_constraint=layer.pointwise_constraint,
        bias_regularizer=layer.bias_regularizer,
        bias_constraint=layer.bias_constraint,
        activity_regularizer=layer.activity_regularizer,
        name=layer.name,
        **how,
    )
    spread = layer.depthwise_kernel, None
    mixed = layer.pointwise_kernel, layer.bias if layer.use_bias else None
    return [
        _with_weights(depthwise, *spread, layer.depthwise_kernel.shape[-2]),
        _with_weights(pointwise, *mixed, layer.pointwise_kernel.shape[-2]),
    ]


def _convolution(layer):
    for name in ("kernel_constraint", "depthwise_constraint"):
        if hasattr(getattr(layer, name, None), "axis"):
            raise ValueError(
                f"Layer '{layer.name}' constrains its kernel along an axis, and the kernel of "
                f"signals becomes one of images. Received: {name}={getattr(layer, name)!r}. "
                "Accepted: constraints without an axis."
            )
    kernel, bias = layer.kernel, layer.bias if layer.use_bias else None
    channels, outputs = kernel.shape[1] * getattr(layer, "groups", 1), kernel.shape[-1]
    (size,), (stride,), (dilation,) = layer.kernel_size, layer.strides, layer.dilation_rate
    image = {"kernel_size": (1, size), "strides": (1, stride), "dilation_rate": (1, dilation)}
    if isinstance(layer, layers.DepthwiseConv1D):
        image["strides"] = stride  # TensorFlow takes equal ones alone
        outputs *= channels
    padding = []
    if layer.padding == "causal":
        image["padding"] = "valid"
        before = ((0, 0), (dilation * (size - 1), 0))
        how = {"name": f"{layer.name}_padding", "dtype": layer.dtype_policy}
        padding = [layers.ZeroPadding2D(before, data_format=_LAST, **how)]
    convolution = _two_dimensional(layer, image)
    _with_weights(convolution, kernel[None], bias, channels)
    return _as_image(layer, channels, [*padding, convolution], (-1, outputs))


def _windows(layer):
    (size,), (stride,) = layer.pool_size, layer.strides
    image = {"pool_size": (1, size), "strides": (1, stride)}
    channels = _channels(layer)
    return _as_image(layer, channels, [_two_dimensional(layer, image)], (-1, channels))


def _whole(layer):
    channels = _channels(layer)
    shape = (1, channels) if layer.keepdims else (channels,)
    return _as_image(layer, channels, [_two_dimensional(layer)], shape)


def _borders(argument, layer):
    channels = _channels(layer)
    image = {argument: ((0, 0), getattr(layer, argument))}
    return _as_image(layer, channels, [_two_dimensional(layer, image)], (-1, channels))


def _two_dimensional(layer, changed=()):
    """The layer of images with the configuration of one of signals."""
    cls = getattr(layers, type(layer).__name__.replace("1D", "2D"))
    return cls.from_config({**layer.get_config(), "data_format": _LAST, **dict(changed)})


def _as_image(layer, channels, chain, shape):
    """The chain on images of height 1, from signals to `shape`."""
    ends = ("image", (1, -1, channels)), ("signal", shape)
    image, signal = (
        layers.Reshape(shape, name=f"{layer.name}_{name}", dtype=layer.dtype_policy)
        for name, shape in ends
    )
    return [image, *chain, signal]


def _channels(layer):
    found = {node.input_tensors[0].shape[-1] for node in layer._inbound_nodes}
    if len(found) != 1:
        raise ValueError(
            f"Layer '{layer.name}' takes signals of {sorted(found)} channels. Accepted: a layer "
            "for each."
        )
    return found.pop()


def _with_weights(layer, kernel, bias, channels):
    layer.build((None,) * (len(layer.kernel_size) + 1) + (channels,))
    values = [kernel] if bias is None else [kernel, bias]
    layer.set_weights([keras.ops.convert_to_numpy(value) for value in values])
    return layer


REWRITTEN = {
    layers.AveragePooling1D: _windows,
    layers.Conv1D: _convolution,
    layers.Cropping1D: partial(_borders, "cropping"),
    layers.DepthwiseConv1D: _convolution,
    layers.GlobalAveragePooling1D: _whole,
    layers.GlobalMaxPooling1D: _whole,
    layers.MaxPooling1D: _windows,
    layers.SeparableConv1D: _separable,
    layers.SeparableConv2D: _separable,
    layers.ZeroPadding1D: partial(_borders, "padding"),
}

"""Stock layers that are others in a row: separable and transposed convolutions, signals.

A signal `(length, channels)` is an image of height 1, so layers of signals become those of images.
"""

from functools import partial

import keras
import numpy as np
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


def _transposed(layer):
    """Zeros between the pixels and around them, and a convolution with the kernel turned round."""
    _refuse_axis(layer)
    flat = (1,) * (2 - len(layer.kernel_size))  # of a signal
    *sides, channels = one_shape(layer)
    (height, width), (down, right), dilation, size = (
        (*flat, *map(int, pair))
        for pair in (sides, layer.strides, layer.dilation_rate, layer.kernel_size)
    )
    chain = []
    if right > 1:
        chain += [_reshape(layer, "columns", (height * width, 1, channels))]
        chain += [_padding(layer, "right", ((0, 0), (0, right - 1)))]
    if down > 1:
        chain += [_reshape(layer, "rows", (height, 1, width * right * channels))]
        chain += [_padding(layer, "down", ((0, 0), (0, down - 1)))]
    if chain or flat:
        chain += [_reshape(layer, "spread", (height * down, width * right, channels))]
    given = layer.output_padding
    given = given if isinstance(given, (tuple, list)) else (given,) * len(sides)
    each = zip(size, (down, right), dilation, (*(None for _ in flat), *given), strict=True)
    pads = [_around(layer.padding, *one) for one in each]
    how = {"data_format": _LAST, "dtype": layer.dtype_policy}
    crop = tuple((0, max(-after, 0)) for _, after in pads)
    cropping = layers.Cropping2D(crop, name=f"{layer.name}_cropping", **how)
    around = _padding(layer, "around", tuple((before, max(after, 0)) for before, after in pads))
    convolution = layers.Conv2D(
        layer.filters,
        size,
        dilation_rate=dilation,
        activation=layer.activation,
        use_bias=layer.use_bias,
        kernel_regularizer=layer.kernel_regularizer,
        kernel_constraint=layer.kernel_constraint,
        bias_regularizer=layer.bias_regularizer,
        bias_constraint=layer.bias_constraint,
        activity_regularizer=layer.activity_regularizer,
        name=layer.name,
        trainable=layer.trainable,
        **how,
    )
    kernel = keras.ops.convert_to_numpy(layer.kernel).reshape(*size, layer.filters, channels)
    kernel = kernel[::-1, ::-1].swapaxes(2, 3)
    _with_weights(convolution, kernel, layer.bias if layer.use_bias else None, channels)
    chain += [*([cropping] if np.any(crop) else []), around, convolution]
    return [*chain, _reshape(layer, "signal", (-1, layer.filters))] if flat else chain


def _around(padding, size, stride, dilation, more):
    """Zeros before and after pixels, each of which has `stride - 1` zeros after it already."""
    reach = dilation * (size - 1)
    if padding == "valid":
        more = max(stride - reach - 1, 0) if more is None else more
        return reach, reach + more - (stride - 1)
    total = stride + reach - 1 if more is None else reach + 1 + (reach + 1) % 2 - 2 + more
    before = min(total // 2 + total % 2, reach)
    return before, total - before - (stride - 1)


def _padding(layer, name, pads):
    how = {"data_format": _LAST, "name": f"{layer.name}_{name}", "dtype": layer.dtype_policy}
    return layers.ZeroPadding2D(pads, **how)


def _reshape(layer, name, shape):
    return layers.Reshape(shape, name=f"{layer.name}_{name}", dtype=layer.dtype_policy)


def _refuse_axis(layer):
    for name in ("kernel_constraint", "depthwise_constraint"):
        if hasattr(getattr(layer, name, None), "axis"):
            raise ValueError(
                f"Layer '{layer.name}' constrains its kernel along an axis, and the axes of the "
                f"kernel that it becomes are others. Received: {name}={getattr(layer, name)!r}. "
                "Accepted: constraints without an axis."
            )


def _convolution(layer):
    _refuse_axis(layer)
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
        padding = [_padding(layer, "padding", before)]
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
    own = getattr(layer, argument)
    image = {argument: (1, own) if argument == "size" else ((0, 0), own)}
    return _as_image(layer, channels, [_two_dimensional(layer, image)], (-1, channels))


def _two_dimensional(layer, changed=()):
    """The layer of images with the configuration of one of signals."""
    cls = getattr(layers, type(layer).__name__.replace("1D", "2D"))
    return cls.from_config({**layer.get_config(), "data_format": _LAST, **dict(changed)})


def _as_image(layer, channels, chain, shape):
    """The chain on images of height 1, from signals to `shape`."""
    return [_reshape(layer, "image", (1, -1, channels)), *chain, _reshape(layer, "signal", shape)]


def _adaptive(kind, layer):
    """Pooling whose windows are what the sizes leave for each output, where that is one size."""
    rank = len(layer.output_size)
    *sides, channels = one_shape(layer)
    if any(side % out for side, out in zip(sides, layer.output_size, strict=True)):
        raise ValueError(
            f"Layer '{layer.name}' pools {tuple(sides)} to {tuple(layer.output_size)}, for which "
            "windows of several sizes overlap. Accepted: sizes that divide those of the input."
        )
    size = (1,) * (2 - rank) + tuple(
        side // out for side, out in zip(sides, layer.output_size, strict=True)
    )
    how = {"data_format": _LAST, "name": layer.name, "dtype": layer.dtype_policy}
    pool = getattr(layers, f"{kind}Pooling2D")(size, **how)
    return [pool] if rank == 2 else _as_image(layer, channels, [pool], (-1, channels))


def _channels(layer):
    return _one(layer, {node.input_tensors[0].shape[-1] for node in layer._inbound_nodes})


def one_shape(layer):
    """The shape of one input, all of whose lengths are known."""
    shape = _one(layer, {tuple(node.input_tensors[0].shape[1:]) for node in layer._inbound_nodes})
    if None in shape:
        raise ValueError(
            f"Layer '{layer.name}' takes inputs of shape {shape}. Accepted: known lengths."
        )
    return shape


def _one(layer, found):
    if len(found) != 1:
        raise ValueError(
            f"Layer '{layer.name}' takes inputs of several sizes: {sorted(map(str, found))}. "
            "Accepted: a layer for each."
        )
    return found.pop()


def _with_weights(layer, kernel, bias, channels):
    layer.build((None,) * (len(layer.kernel_size) + 1) + (channels,))
    values = [kernel] if bias is None else [kernel, bias]
    layer.set_weights([keras.ops.convert_to_numpy(value) for value in values])
    return layer


_ADAPTIVE = {
    getattr(layers, f"Adaptive{kind}Pooling{rank}D", None): partial(_adaptive, kind)
    for kind in ("Average", "Max")  # older Keras has none
    for rank in (1, 2)
}
REWRITTEN = {
    **{layer: write for layer, write in _ADAPTIVE.items() if layer},
    layers.AveragePooling1D: _windows,
    layers.Conv1D: _convolution,
    layers.Conv1DTranspose: _transposed,
    layers.Conv2DTranspose: _transposed,
    layers.Cropping1D: partial(_borders, "cropping"),
    layers.DepthwiseConv1D: _convolution,
    layers.GlobalAveragePooling1D: _whole,
    layers.GlobalMaxPooling1D: _whole,
    layers.MaxPooling1D: _windows,
    layers.SeparableConv1D: _separable,
    layers.SeparableConv2D: _separable,
    layers.UpSampling1D: partial(_borders, "size"),
    layers.ZeroPadding1D: partial(_borders, "padding"),
}

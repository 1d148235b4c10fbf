"""From a Keras network to the graph that is verified."""

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps import layers as interval_layers
from keras_taps.layers.activations import activation_name
from keras_taps.networks.load import ModelLike, interval_network
from keras_taps.verification.bridges import moves
from keras_taps.verification.graph.activations import activation, at_most, steep
from keras_taps.verification.graph.batch_norm import BatchNorm
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.distance import Distance
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

TOLERANCE = 1e-3  # of the outputs of graph and model, relative to their size


def read_network(model: ModelLike) -> Graph:
    """Graph of a network, its weights taken exactly to float64 and batch norm folded there.

    Args:
        model: `IntervalSequential`, or any other model or path that `certify` takes.

    Returns:
        `Graph`, checked against the network on random inputs.

    Raises:
        FileNotFoundError: If `model` is a path without a file.
        ValueError: If a layer is neither affine nor an activation nor max pooling, or the graph
            and the network disagree.

    Example:

    >>> graph = read_network(cnn3((8, 8, 1), 10, width=1))
    >>> [type(node).__name__ for node in graph.nodes]
    ['Conv', 'Relu', 'Conv', 'Relu', 'Reshape', 'Dense']
    """
    network = interval_network(model)
    network.check_classifier()
    graph = Graph.of(_chain(network.layers, network.input_shape[1:]))
    _check_same(graph, network)
    return graph


def _check_same(graph, network):
    points = np.random.default_rng(0).uniform(0, 1, (4, *graph.in_shape)).astype("float32")
    run = backend.compiled(network, network.variables)
    expected = ops.convert_to_numpy(run(ops.convert_to_tensor(points)))
    found = graph(points)
    error = np.max(np.abs(found - expected))
    if not error <= TOLERANCE * np.max(np.abs(expected)) + 1e-6:
        raise ValueError(
            f"The graph read from network '{network.name}' does not compute what the network does: "
            f"its logits differ by {error:g} on random inputs. Please report this."
        )


def _chain(layers, shape):
    nodes = []
    for layer in layers:
        found = _nodes(layer, tuple(shape))
        nodes += found
        shape = found[-1].out_shape if found else shape
    return tuple(nodes)


def _nodes(layer, shape):
    if getattr(layer, "data_format", None) == "channels_first":
        raise ValueError(
            f"Layer '{layer.name}' has data_format 'channels_first', which cannot be verified. "
            "Accepted: 'channels_last'."
        )
    for kind, read in _READERS.items():
        if isinstance(layer, kind):
            nodes = list(read(layer, shape))
            name = activation_name(getattr(layer, "activation", None))
            if isinstance(layer, interval_layers.IntervalActivation) or name == "linear":
                return nodes
            return [*nodes, *activation(name, nodes[-1].out_shape)]
    accepted = ", ".join(kind.__name__ for kind in _READERS)
    raise ValueError(
        f"Layer '{layer.name}' of type {type(layer).__name__} cannot be verified. "
        f"Accepted: {accepted}."
    )


def _numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def _bias(layer, count):
    return _numpy(layer.bias) if layer.use_bias else np.zeros(count)


def _dense(layer, shape):
    kernel = _numpy(layer.kernel)
    if len(shape) > 1:  # a Dense layer on images acts on each pixel
        pixel, bias = kernel[None, None], _bias(layer, kernel.shape[-1])
        if len(shape) == 3:
            return [Conv(pixel, bias, shape)]
        conv = Conv(pixel, bias, (int(np.prod(shape[:-1])), 1, shape[-1]))
        whole = (*shape[:-1], len(bias))
        return [Reshape(shape, conv.in_shape), conv, Reshape(conv.out_shape, whole)]
    return [Dense(kernel, _bias(layer, kernel.shape[-1]))]


def _conv(layer, shape):
    kernel = _numpy(layer.kernel)
    dilation = _pair(layer.dilation_rate)
    strides = _pair(layer.strides)
    padding = _padding(layer.padding, shape, kernel.shape, strides, dilation)
    groups = getattr(layer, "groups", 1)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        height, width, groups, multiplier = kernel.shape
        kernel = kernel.reshape(height, width, 1, groups * multiplier)
    bias = _bias(layer, kernel.shape[-1])
    return [Conv(kernel, bias, shape, strides, padding, dilation, groups)]


def _pair(value):
    return (int(value), int(value)) if np.ndim(value) == 0 else tuple(int(v) for v in value)


def _padding(padding, shape, size, strides, dilation=(1, 1)):
    if padding == "valid":
        return ((0, 0), (0, 0))
    return same_padding(shape, size, strides, dilation)


def _batch_norm(layer, shape):
    if layer.axis not in (-1, len(shape)):
        raise ValueError(
            f"Batch normalisation '{layer.name}' has axis {layer.axis}. Accepted: the last axis."
        )
    mean, variance = _numpy(layer.moving_mean), _numpy(layer.moving_variance)
    gamma = _numpy(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = _numpy(layer.beta) if layer.center else np.zeros_like(mean)
    return [BatchNorm(gamma, beta, mean, variance, float(layer.epsilon), shape)]


def _normalization(layer, shape):
    mean, variance = (_numpy(v).reshape(np.shape(v)[1:]) for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return [Scale(deviation, mean, shape)]
    return [Scale(1 / deviation, -mean / deviation, shape)]


def _rescaling(layer, shape):
    scale, offset = (np.asarray(v, "float64") for v in (layer.scale, layer.offset))
    return [Scale(scale, offset, shape)]


def _scale(layer, shape):
    return [Scale(_numpy(layer.scale), _numpy(layer.shift), shape)]


def _distance(layer, shape):
    kernel = _numpy(layer.kernel)
    bias = np.zeros(kernel.shape[1]) if layer.shift is None else _numpy(layer.shift)
    return [Distance(kernel, bias, layer.coefficients)]


def _flatten(layer, shape):
    return [Reshape(shape, (int(np.prod(shape)),))]


def _reshape(layer, shape):
    return [Reshape(shape, tuple(layer.compute_output_shape((None, *shape))[1:]))]


def _average(size, strides, padding, shape):
    channels = shape[-1]
    pads = _padding(padding, shape, size, strides)
    kernel = np.full((*size, 1, channels), 1 / np.prod(size))
    mean = Conv(kernel, np.zeros(channels), shape, strides, pads, groups=channels)
    if padding == "valid":
        return [mean]
    share = mean(np.ones((1, *shape)))[0]  # padding does not count
    return [mean, Scale(1 / share, np.zeros_like(share), mean.out_shape)]


def _average_pooling(layer, shape):
    return _average(_pair(layer.pool_size), _pair(layer.strides), layer.padding, shape)


def _max_pooling(layer, shape):
    size, strides = _pair(layer.pool_size), _pair(layer.strides)
    return [MaxPool(shape, size, strides, _padding(layer.padding, shape, size, strides))]


def _global(pool, layer, shape):
    kept = (1, 1, shape[-1])
    return [*pool, Reshape(kept, kept if layer.keepdims else kept[-1:])]


def _global_average(layer, shape):
    return _global(_average(shape[:2], (1, 1), "valid", shape), layer, shape)


def _global_max(layer, shape):
    return _global([MaxPool(shape, shape[:2], (1, 1))], layer, shape)


def _kinked(layer, shape):
    if getattr(layer, "threshold", 0):
        raise ValueError(
            f"Layer '{layer.name}' has a threshold, where its outputs jump, which cannot be "
            "verified. Accepted: threshold=0."
        )
    slope, most = float(layer.negative_slope), getattr(layer, "max_value", None)
    nodes = [Relu(shape, slope)] if slope <= 1 else [steep(shape, slope)]
    return nodes if most is None else [*nodes, *at_most(shape, float(most))]


def _own(layer, shape):
    if layer.rule.function is None:
        raise ValueError(
            f"Layer '{layer.name}' of type {type(layer.layer).__name__} has no rule but those "
            "for boxes and lines, which nobody can check, so it cannot be verified. Accepted: "
            "layers of one's own that expand to known layers or name a function "
            "(`keras_taps.register_layer`)."
        )
    return [Curve(shape, layer.rule.function)]


def _plain_activation(layer, shape):
    name = activation_name(layer.activation)
    return [] if name == "linear" else activation(name, shape)


def _residual(layer, shape):
    return [Sum(shape, tuple(_chain(branch, shape) for branch in layer.branches))]


_READERS = {
    interval_layers.IntervalDense: _dense,
    interval_layers.IntervalConv2D: _conv,
    interval_layers.IntervalDepthwiseConv2D: _conv,
    interval_layers.IntervalBatchNormalization: _batch_norm,
    interval_layers.IntervalNormalization: _normalization,
    interval_layers.IntervalRescaling: _rescaling,
    interval_layers.IntervalScale: _scale,
    interval_layers.IntervalDistance: _distance,
    interval_layers.IntervalFlatten: _flatten,
    interval_layers.IntervalReshape: _reshape,
    interval_layers.IntervalPermute: moves.permute,
    interval_layers.IntervalRepeatVector: moves.repeat_vector,
    interval_layers.IntervalZeroPadding2D: moves.zero_padding,
    interval_layers.IntervalCropping2D: moves.cropping,
    interval_layers.IntervalUpSampling2D: moves.up_sampling,
    interval_layers.IntervalAveragePooling2D: _average_pooling,
    interval_layers.IntervalGlobalAveragePooling2D: _global_average,
    interval_layers.IntervalMaxPooling2D: _max_pooling,
    interval_layers.IntervalGlobalMaxPooling2D: _global_max,
    interval_layers.IntervalReLU: _kinked,
    interval_layers.IntervalLeakyReLU: _kinked,
    interval_layers.IntervalActivation: _plain_activation,
    interval_layers.IntervalELU: lambda layer, shape: [Curve(shape, "elu", float(layer.alpha))],
    interval_layers.IntervalOwn: _own,
    interval_layers.IntervalResidual: _residual,
    interval_layers.IntervalDropout: lambda layer, shape: [],
    interval_layers.IntervalTrainingOnly: lambda layer, shape: [],
}

"""From a graph to the Keras network on which the fast bounds and the attacks run."""

from dataclasses import replace

import numpy as np

from keras_taps import layers as interval_layers
from keras_taps.layers.own import layer_of
from keras_taps.networks import IntervalSequential
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.distance import Distance
from keras_taps.verification.graph.nodes import (
    Conv,
    Dense,
    MaxPool,
    Relu,
    Reshape,
    Scale,
    same_padding,
)


def build_network(graph, name="verified"):
    """Interval network with the folded weights of a graph, in the precision of the backend.

    Args:
        graph: `Graph`.
        name: Name of the network.

    Returns:
        `IntervalSequential`; its nonlinear layers stand in the order of the graph's.
    """
    weights = []
    layers = _layers(graph.nodes, weights)
    network = IntervalSequential(layers, input_shape=graph.in_shape, name=name)
    with np.errstate(over="ignore"):  # what is infinite in float32 gives no verdict
        for layer, values in weights:
            layer.set_weights([np.asarray(value, layer.dtype) for value in values])
    return network


def _layers(nodes, weights):
    layers = []
    for node in nodes:
        for layer, values in _one(node, weights):
            layers.append(layer)
            if values:
                weights.append((layer, values))
    return layers


def _one(node, weights):
    """Pairs of a layer and its weights."""
    if isinstance(node, Dense):
        return [(interval_layers.IntervalDense(node.out_shape[0]), (node.kernel, node.bias))]
    if isinstance(node, Distance):
        layer = interval_layers.IntervalDistance(
            node.out_shape[0], _keep(node.coefficients), mean_shift=False, use_bias=True
        )
        return [(layer, (node.kernel, node.bias))]
    if isinstance(node, Conv):
        return [*_padding(node.padding), _convolution(node)]
    if isinstance(node, Scale):
        scale, shift = np.broadcast_arrays(node.scale, node.bias)
        return [(interval_layers.IntervalScale(scale.shape), (scale, shift))]
    if isinstance(node, Reshape) and node.in_shape == node.out_shape:
        return []
    if isinstance(node, Reshape):
        return [(interval_layers.IntervalReshape(node.out_shape), ())]
    if isinstance(node, Relu):
        if node.slope == 0:
            return [(interval_layers.IntervalReLU(), ())]
        return [(interval_layers.IntervalLeakyReLU(negative_slope=node.slope), ())]
    if isinstance(node, Curve):
        if node.known.foreign:
            return [(layer_of(node.function), ())]
        if node.function == "elu":
            return [(interval_layers.IntervalELU(node.alpha), ())]
        return [(interval_layers.IntervalActivation(node.function), ())]
    if isinstance(node, MaxPool):
        return [(_max_pooling(node), ())]
    branches = [_layers(branch, weights) for branch in node.branches]
    return [(interval_layers.IntervalResidual(branches), ())]


def _keep(coefficients):
    """The share of which `IntervalDistance` makes these coefficients."""
    if len(coefficients) == 1:
        return 1.0
    return 1 - float(coefficients[1] / coefficients[0])


def _padding(padding):
    if any(map(any, padding)):
        yield interval_layers.IntervalZeroPadding2D(padding), ()


def _convolution(node):
    if node.strides != (1, 1) and node.dilation != (1, 1):  # Keras takes one of them
        node = replace(node, kernel=_with_holes(node), dilation=(1, 1))
    height, width, _, outputs = node.kernel.shape
    channels = node.in_shape[-1]
    options = {"strides": node.strides, "dilation_rate": node.dilation}
    if node.groups == channels > 1 and node.strides[0] == node.strides[1]:
        multiplier = outputs // channels
        layer = interval_layers.IntervalDepthwiseConv2D(
            (height, width), depth_multiplier=multiplier, **options
        )
        return layer, (node.kernel.reshape(height, width, channels, multiplier), node.bias)
    layer = interval_layers.IntervalConv2D(outputs, (height, width), groups=node.groups, **options)
    return layer, (node.kernel, node.bias)


def _with_holes(node):
    """The kernel with the zeros between its entries that dilation means."""
    height, width, *channels = node.kernel.shape
    down, right = node.dilation
    kernel = np.zeros((down * (height - 1) + 1, right * (width - 1) + 1, *channels))
    kernel[::down, ::right] = node.kernel
    return kernel


def _max_pooling(node):
    size, strides = node.size, node.strides
    options = {"pool_size": size, "strides": strides}
    if not any(map(any, node.padding)):
        return interval_layers.IntervalMaxPooling2D(**options)
    if node.padding == same_padding(node.in_shape, size, strides):
        return interval_layers.IntervalMaxPooling2D(**options, padding="same")
    raise ValueError(
        f"Max pooling with padding {node.padding} cannot be verified. Accepted: none, or that of "
        "Keras' 'same'."
    )

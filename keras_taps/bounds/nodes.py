"""A network as a list of nodes, each of which a box goes through forward and linear rows backward.

Forward, a node maps a box and leaves a trace, what its way back needs. Backward, it turns an upper
bound `rows . outputs + constant` into one on its inputs: affine nodes by their transpose,
nonlinear ones by two lines that hold on the box of the trace.
"""

from dataclasses import dataclass
from functools import partial

import keras
from keras import ops

from keras_taps import backend
from keras_taps import layers as interval_layers
from keras_taps.bounds.lines import kinked_lines, monotone_lines
from keras_taps.layers.activations import ActivatedLayer, activate, activation_name
from keras_taps.layers.base import refuse_coarse_precision
from keras_taps.layers.residual import add_all, walk

_AFFINE = (
    interval_layers.IntervalAveragePooling2D,
    interval_layers.IntervalBatchNormalization,
    interval_layers.IntervalFlatten,
    interval_layers.IntervalGlobalAveragePooling2D,
    interval_layers.IntervalNormalization,
    interval_layers.IntervalRescaling,
    interval_layers.IntervalReshape,
    interval_layers.IntervalZeroPadding2D,
)
_MAX = (interval_layers.IntervalMaxPooling2D, interval_layers.IntervalGlobalMaxPooling2D)


def unfold(layers):
    """List of nodes for a sequence of interval layers.

    Raises:
        ValueError: For a layer that has no linear relaxation.
    """
    return [node for layer in layers for node in _nodes(layer)]


def propagate(nodes, box):
    """Pass a box forward.

    Args:
        nodes: List of nodes.
        box: `Interval` of tensors `(batch, ...)`.

    Returns:
        `(box, traces)`: the box behind the last node, and one trace a node.
    """
    traces = []
    for node in nodes:
        box, trace = node.forward(box)
        traces.append(trace)
    return box, traces


def substitute(nodes, traces, rows, constant):
    """Pass an upper bound `rows . outputs + constant` back to the inputs of the first node.

    Args:
        nodes: List of nodes.
        traces: Their traces.
        rows: Tensor `(batch, n, ...)`, n linear forms a sample on the outputs of the last node.
        constant: Tensor `(batch, n)`.

    Returns:
        `(rows, constant)` on the inputs of the first node.
    """
    for node, trace in zip(reversed(nodes), reversed(traces), strict=True):
        rows, constant = node.backward(trace, rows, constant)
    return rows, constant


def inner(rows, values):
    """Inner products `(batch, n)` of rows with values that broadcast with them."""
    return ops.sum(rows * values, axis=tuple(range(2, len(rows.shape))))


def _pull_back(function, points, rows):
    """Rows `(batch, n, ...)` through the derivative of `function` at points `(batch * n, ...)`."""
    merged = ops.reshape(rows, (-1, *rows.shape[2:]))
    back = backend.transposed(function, points, merged)
    return ops.reshape(back, (-1, rows.shape[1], *points.shape[1:]))


@dataclass(frozen=True)
class Affine:
    """An affine map, known by its values alone: its transpose is its derivative.

    Args:
        function: The map on tensors, sample by sample.
        bounds: The map on boxes.
    """

    function: object
    bounds: object

    def forward(self, box):
        return self.bounds(box), tuple(box.lower.shape[1:])

    def backward(self, shape, rows, constant):
        origin = ops.zeros((1, *shape), dtype=rows.dtype)
        constant = constant + inner(rows, ops.expand_dims(self.function(origin), 1))
        start = ops.repeat(origin, ops.shape(rows)[0] * rows.shape[1], axis=0)
        return _pull_back(self.function, start, rows), constant


@dataclass(frozen=True)
class Elementwise:
    """A monotone function of each coordinate.

    Args:
        bounds: The function on boxes.
        lines: Function of a box that returns `Lines` between which the function lies.
    """

    bounds: object
    lines: object

    def forward(self, box):
        return self.bounds(box), box

    def backward(self, box, rows, constant):
        lines = [ops.expand_dims(values, 1) for values in self.lines(box)]
        upper_slope, upper_intercept, lower_slope, lower_intercept = lines
        rising = ops.relu(rows)
        falling = rows - rising
        constant = constant + inner(rising, upper_intercept) + inner(falling, lower_intercept)
        return rising * upper_slope + falling * lower_slope, constant


@dataclass(frozen=True)
class Maximum:
    """Max pooling: below by the input with the largest lower bound, above by a constant.

    Args:
        layer: The pooling layer.
    """

    layer: object

    def forward(self, box):
        out = self.layer(box)
        return out, (box.lower, out.upper)

    def backward(self, trace, rows, constant):
        lower, highest = trace
        rising = ops.relu(rows)
        constant = constant + inner(rising, ops.expand_dims(highest, 1))
        # The derivative of the maximum at the lower bounds picks the input they make largest.
        points = ops.stop_gradient(ops.repeat(lower, rows.shape[1], axis=0))
        return _pull_back(self.layer, points, rows - rising), constant


@dataclass(frozen=True)
class Sum:
    """Several branches on the same input, summed.

    Args:
        branches: Lists of nodes.
    """

    branches: tuple

    def forward(self, box):
        outs, traces = zip(*(propagate(branch, box) for branch in self.branches), strict=True)
        return add_all(outs), traces

    def backward(self, traces, rows, constant):
        total = None
        for branch, trace in zip(self.branches, traces, strict=True):
            back, constant = substitute(branch, trace, rows, constant)
            total = back if total is None else total + back
        return total, constant


def _nodes(layer):
    refuse_coarse_precision(layer)
    if isinstance(layer, interval_layers.IntervalResidual):
        return [Sum(tuple(unfold(branch) for branch in layer.branches))]
    if isinstance(layer, interval_layers.IntervalDropout):
        return []
    if isinstance(layer, ActivatedLayer):
        nodes = []
        if not isinstance(layer, keras.layers.Activation):
            nodes.append(Affine(layer.linear, layer.propagate_affine))
        if layer.relus:
            nodes.append(_activation(layer.activation))
        return nodes
    if isinstance(layer, (interval_layers.IntervalReLU, interval_layers.IntervalLeakyReLU)):
        return [Elementwise(layer, _layer_lines(layer))]
    if isinstance(layer, interval_layers.IntervalELU):
        return [Elementwise(layer, partial(monotone_lines, layer))]
    if isinstance(layer, _MAX):
        return [Maximum(layer)]
    if isinstance(layer, _AFFINE):
        return [Affine(partial(walk, (layer,)), layer)]
    raise ValueError(
        f"Layer '{layer.name}' of type {type(layer).__name__} has no linear relaxation. Accepted: "
        "the interval layers of keras_taps."
    )


def _activation(function):
    slope = {"relu": 0.0, "leaky_relu": 0.2}.get(activation_name(function))
    lines = partial(monotone_lines, function)
    if slope is not None:
        lines = partial(kinked_lines, slope)
    return Elementwise(partial(activate, function), lines)


def _layer_lines(layer):
    slope = float(layer.negative_slope)
    plain = getattr(layer, "max_value", None) is None and not getattr(layer, "threshold", 0)
    if plain and 0 <= slope <= 1:
        return partial(kinked_lines, slope)
    return partial(monotone_lines, layer)

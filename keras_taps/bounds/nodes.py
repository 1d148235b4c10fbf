"""A network as a list of nodes, each of which a box goes through forward and linear rows backward.

Forward, a node maps a box and leaves a trace, what its way back needs. Backward, it turns an upper
bound `rows . outputs + constant` into one on its inputs: affine nodes by their transpose,
nonlinear ones by two lines that hold on the box of the trace. All kinds are in this one long file:
a new layer is written after the pattern of the others.
"""

from dataclasses import dataclass, replace
from functools import partial

import keras
from keras import ops

from keras_taps import backend
from keras_taps import layers as interval_layers
from keras_taps.bounds.curves import curve_lines, parallel_curve_lines, slope_range
from keras_taps.bounds.lines import (
    Lagrangian,
    given_lines,
    kinked_lines,
    monotone_lines,
    parallel_given_lines,
    parallel_lines,
)
from keras_taps.interval import Interval
from keras_taps.layers.activations import ActivatedLayer, activate, activation_name
from keras_taps.layers.base import refuse_coarse_precision
from keras_taps.layers.curves import CURVES, Curve, elu_curve
from keras_taps.layers.passes import PLAIN
from keras_taps.layers.residual import add_all, walk

_AFFINE = (
    interval_layers.IntervalAveragePooling2D,
    interval_layers.IntervalBatchNormalization,
    interval_layers.IntervalCropping2D,
    interval_layers.IntervalFlatten,
    interval_layers.IntervalGlobalAveragePooling2D,
    interval_layers.IntervalNormalization,
    interval_layers.IntervalPermute,
    interval_layers.IntervalRepeatVector,
    interval_layers.IntervalRescaling,
    interval_layers.IntervalReshape,
    interval_layers.IntervalScale,
    interval_layers.IntervalUpSampling2D,
    interval_layers.IntervalZeroPadding2D,
)


def unfold(layers, given=PLAIN):
    """List of nodes for a sequence of interval layers, called under a `Pass`.

    Raises:
        ValueError: For a layer that has no linear relaxation.
    """
    return [node for layer in layers for node in _nodes(layer, given)]


def as_they_are(node, box, pull):
    """Refinement that leaves every box as interval arithmetic gave it."""
    return box


def propagate(nodes, box, refine=as_they_are, back=None):
    """Pass a box forward.

    Args:
        nodes: List of nodes.
        box: `Interval` of tensors `(batch, ...)`.
        refine: Function `(node, box, pull)` that returns the box to use in place of the one that
            reached a nonlinear node. `pull(rows, constant)` takes linear forms of that node's
            inputs back to the inputs of the network; its argument `walk` is a function for the
            way back other than `substitute`, with whatever form that takes.
        back: What takes forms from the inputs of these nodes on to those of the network.

    Returns:
        `(box, traces)`: the box after the last node, and one trace a node.
    """
    traces = []
    for index, node in enumerate(nodes):
        pull = partial(_pull, nodes[:index], tuple(traces), back)
        box, trace = node.forward(box, refine, pull)
        traces.append(trace)
    return box, traces


def _pull(nodes, traces, back, *form, walk=None):
    form = (walk or substitute)(nodes, traces, *form)
    return form if back is None else back(*form, walk=walk)


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


def concretise(box, rows, constant):
    """Largest value `(batch, n)` of `rows . x + constant` over a box of inputs."""
    centre, radius = (ops.expand_dims(values, 1) for values in (box.centre, box.radius))
    return inner(rows, centre) + inner(ops.abs(rows), radius) + constant


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
        layer: The Keras layer that it comes from.
    """

    function: object
    bounds: object
    layer: object = None

    def forward(self, box, refine, pull):
        return self.bounds(box), tuple(box.lower.shape[1:])

    def backward(self, shape, rows, constant):
        origin = ops.zeros((1, *shape), dtype=rows.dtype)
        constant = constant + inner(rows, ops.expand_dims(self.function(origin), 1))
        start = ops.repeat(origin, ops.shape(rows)[0] * rows.shape[1], axis=0)
        return _pull_back(self.function, start, rows), constant


@dataclass(frozen=True)
class Elementwise:
    """A function of each coordinate.

    Args:
        bounds: The function on boxes.
        lines: Function of a box that returns `Lines` between which the function lies.
        slope: Its slope on negative inputs if it is a ReLU or leaky ReLU, else `None`.
        parallel: Function of a box that returns parallel `Lines`.
        curve: Its `Curve` if it has one, else `None`.
        function: With a curve the function of tensors.
    """

    bounds: object
    lines: object
    slope: float | None = None
    parallel: object = None
    curve: object = None
    function: object = None

    @property
    def slopes(self):
        """Smallest and largest slope that its lower line, or a line of a curve, may be given."""
        if self.curve is None:
            return self.slope or 0.0, 1.0
        return self.curve.flattest, self.curve.steepest

    def slopes_on(self, box):
        """Those that are worth a try on a box, tensors of its shape."""
        if self.curve is None:
            return [ops.full_like(box.lower, slope) for slope in self.slopes]
        return slope_range(self.curve, self.function, box)

    def forward(self, box, refine, pull):
        box = refine(self, box, pull)
        # The lines have an axis for the forms that will be sent back.
        return self.bounds(box), self.lines(Interval(*(ops.expand_dims(side, 1) for side in box)))

    def backward(self, trace, rows, constant):
        if isinstance(trace, Lagrangian):
            rows, constant = self.backward(trace.lines, rows + trace.outer, constant)
            return rows + trace.inner, constant
        upper_slope, upper_intercept, lower_slope, lower_intercept = trace[:4]
        rising = ops.relu(rows)
        falling = rows - rising
        constant = constant + inner(rising, upper_intercept) + inner(falling, lower_intercept)
        return rising * upper_slope + falling * lower_slope, constant


@dataclass(frozen=True)
class Maximum:
    """Max pooling: below by the input with the largest lower bound, above by it or by a constant.

    Args:
        layer: The pooling layer.
        apart: Whether no input belongs to two windows.
    """

    layer: object
    apart: bool = False

    def forward(self, box, refine, pull):
        box = refine(self, box, pull)
        out = self.layer(box)
        decided = ops.zeros_like(out.lower)
        if self.apart:  # the input with the largest lower bound wins if no other can be larger
            best = backend.transposed(self.layer, box.lower, ops.ones_like(out.lower))
            # Entries that tie for it share the derivative: none of them is known to win.
            others = ops.where(ops.stop_gradient(best) >= 1, -1e30, box.upper)
            decided = ops.cast(self.layer(others) <= out.lower, out.lower.dtype)
        return out, (box.lower, out.upper, ops.stop_gradient(decided))

    def backward(self, trace, rows, constant):
        lower, highest, decided = trace
        decided = ops.expand_dims(decided, 1)
        rising = ops.relu(rows) * (1 - decided)
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

    def forward(self, box, refine, pull):
        walks = (propagate(branch, box, refine, pull) for branch in self.branches)
        outs, traces = zip(*walks, strict=True)
        return add_all(outs), list(traces)

    def backward(self, traces, rows, constant):
        total = None
        for branch, trace in zip(self.branches, traces, strict=True):
            back, constant = substitute(branch, trace, rows, constant)
            total = back if total is None else total + back
        return total, constant


def _nodes(layer, given):
    if isinstance(layer, interval_layers.IntervalResidual):
        return [Sum(tuple(unfold(branch, given) for branch in layer.branches))]
    refuse_coarse_precision(layer)
    if isinstance(layer, (interval_layers.IntervalDropout, interval_layers.IntervalTrainingOnly)):
        return []
    if isinstance(layer, ActivatedLayer):
        nodes = []
        if not isinstance(layer, keras.layers.Activation):
            nodes.append(Affine(layer.linear, layer.propagate_affine, layer))
        if layer.relus:
            nodes.append(_activation(layer.activation, given))
        return nodes
    if isinstance(layer, (interval_layers.IntervalReLU, interval_layers.IntervalLeakyReLU)):
        return [_kinked_layer(layer, given)]
    if isinstance(layer, interval_layers.IntervalELU):
        return [_curved(layer, layer, elu_curve(layer.alpha))]
    if isinstance(layer, interval_layers.IntervalOwn) and layer.rule.curve is not None:
        return [_curved(layer, layer.layer, replace(layer.rule.curve, slope=layer.slope))]
    if isinstance(layer, interval_layers.IntervalOwn) and layer.rule.lines is not None:
        said = partial(layer.rule.lines, layer.layer)
        lines, parallel = (partial(f, said) for f in (given_lines, parallel_given_lines))
        return [Elementwise(layer, lines, parallel=parallel)]
    if isinstance(layer, keras.layers.MaxPooling2D):
        apart = layer.padding == "valid" and tuple(layer.strides) == tuple(layer.pool_size)
        return [Maximum(layer, apart)]
    if isinstance(layer, keras.layers.GlobalMaxPooling2D):
        return [Maximum(layer, apart=True)]
    if isinstance(layer, _AFFINE):
        function = partial(walk, (layer,), given=given)
        return [Affine(function, function, layer)]
    raise ValueError(
        f"Layer '{layer.name}' of type {type(getattr(layer, 'layer', layer)).__name__} has no "
        "linear relaxation. Accepted: the interval layers of keras_taps, and layers of one's own "
        "that expand to them, name a function or have `lines`."
    )


def _activation(function, given):
    slope = {"relu": 0.0, "leaky_relu": 0.2}.get(activation_name(function))
    bounds = partial(activate, function, given=given)
    if slope is None:
        return _curved(bounds, function, CURVES[activation_name(function)])
    return _kinked(bounds, slope)


def _kinked_layer(layer, given):
    slope, most = float(layer.negative_slope), getattr(layer, "max_value", None)
    bounds = partial(walk, (layer,), given=given)
    if getattr(layer, "threshold", 0):  # it jumps
        lines = partial(monotone_lines, layer)
        return Elementwise(bounds, lines, parallel=lines)
    if most is None and slope <= 1:
        return _kinked(bounds, slope)
    knots = (0.0,) if most is None else (0.0, float(most))
    bends, steepest = (0,) * (len(knots) + 1), max(slope, 1.0)
    return _curved(bounds, layer, Curve(ops.zeros_like, knots, bends, steepest=steepest))


def _kinked(bounds, slope):
    lines, parallel = partial(kinked_lines, slope), partial(parallel_lines, slope)
    return Elementwise(bounds, lines, slope, parallel)


def _curved(bounds, function, curve):
    lines, parallel = (partial(f, curve, function) for f in (curve_lines, parallel_curve_lines))
    return Elementwise(bounds, lines, parallel=parallel, curve=curve, function=function)

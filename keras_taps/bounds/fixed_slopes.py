"""Bounds between parallel lines, every neuron bounded by them: DeepZ, Wong and Kolter, Fast-Lin.

A zonotope that goes forward through ReLUs and linear forms that go backward give the same numbers
if both take the same parallel lines, so no generators of a zonotope are kept.
"""

import math
from dataclasses import replace
from functools import partial

from keras import ops

from keras_taps.bounds.margins import margin_rows
from keras_taps.bounds.nodes import (
    Elementwise,
    Maximum,
    Sum,
    concretise,
    propagate,
    substitute,
    unfold,
)
from keras_taps.checks import check_count
from keras_taps.interval import Interval
from keras_taps.networks.segment import Segment
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.typing import Tensor

_FLOATS = 2**24  # numbers in the rows that are sent back at a time, where they are most
_SAMPLES = 256  # taken for the batch where TensorFlow tells it only when a step runs


def fixed_slope_margins(
    network: IntervalSequential | Segment, box: Interval, labels: Tensor, floats: int = _FLOATS
) -> Tensor:
    """Upper bounds of the margins by parallel lines, the boxes of all ReLUs bounded likewise.

    The inputs of the first ReLU are bounded by IBP, which is exact after one affine layer. For
    evaluation: the cost grows with the number of neurons, one backward row for each.

    Args:
        network: `IntervalSequential`, or a `Segment`, that ends in a Dense layer.
        box: `Interval` of inputs to it, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.
        floats: About how many numbers are sent back at a time; it bounds the memory.

    Returns:
        Tensor `(batch, classes - 1)`.

    Raises:
        ValueError: For a layer without a slope, such as max pooling.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> box = input_box(ops.zeros((2, 8, 8, 1)), 0.1)
    >>> ops.shape(fixed_slope_margins(network, box, ops.array([3, 4])))
    (2, 9)

    References:
        Singh et al., "Fast and Effective Robustness Certification" (DeepZ), 2018; Wong and
        Kolter, "Provable Defenses against Adversarial Examples via the Convex Outer Adversarial
        Polytope", 2018; Weng et al., "Towards Fast Computation of Certified Robustness for ReLU
        Networks" (Fast-Lin), 2018.
    """
    segment = network.segment
    nodes, traces, _ = fixed_slope_traces(segment.body, box, floats)
    rows = margin_rows(segment.last, labels)
    return concretise(box, *substitute(nodes, traces, *rows))


def fixed_slope_traces(segment, box, floats=_FLOATS):
    """Nodes of a `Segment`, and their traces with the parallel lines of every activation.

    Args:
        segment: `Segment` without the layer whose forms will be bounded.
        box: `Interval` of its inputs.
        floats: As `fixed_slope_margins`.

    Returns:
        `(nodes, traces, out)`: the first two for `substitute`, and the box of the outputs, whose
        centre is that of the zonotope.
    """
    nodes = parallel_nodes(segment)
    refine = _Refinement(box, check_count("floats", floats, low=1))
    out, traces = propagate(nodes, box, refine)
    return nodes, traces, out


def parallel_nodes(segment):
    """The nodes of a `Segment` with parallel lines, their boxes those between the lines.

    Raises:
        ValueError: For a layer without a slope.
    """
    return _parallel(unfold(segment.layers, segment.given))


def neuron_bounds(box, arrived, pull, floats=_FLOATS, largest=0):
    """Bounds of every neuron of a layer between parallel lines, some neurons at a time.

    Args:
        box: `Interval` of the inputs of the network.
        arrived: `Interval` of the neurons by interval arithmetic between the lines: it has the
            centre of the zonotope, for affine layers send centres to centres.
        pull: Takes `(rows, constant)` on the neurons back to the inputs.
        floats: As `fixed_slope_margins`.
        largest: Numbers of a row where it is longest, if that is more than in `arrived`.

    Returns:
        `Interval` like `arrived`. Only its upper bound is sent back; the lower is its reflection.
    """
    shape = tuple(arrived.lower.shape[1:])
    count, batch = math.prod(shape), ops.shape(arrived.lower)[0]
    samples = batch if isinstance(batch, int) else _SAMPLES
    size = min(max(floats // (max(largest, count) * (samples or 1)), 1), count)

    def bounds(start):
        places = ops.minimum(start + ops.arange(size), count - 1)  # the last part may be shorter
        rows = ops.one_hot(places, count, dtype=arrived.lower.dtype)
        rows = ops.repeat(ops.reshape(rows, (1, -1, *shape)), batch, axis=0)
        return concretise(box, *pull(rows, ops.zeros(ops.shape(rows)[:2], dtype=rows.dtype)))

    starts = range(0, count, size)
    if len(starts) == 1:  # a loop is slow to trace, above all its gradient
        found = bounds(0)
    else:
        found = ops.map(bounds, ops.convert_to_tensor(starts, dtype="int32"))
        found = ops.reshape(ops.swapaxes(found, 0, 1), (batch, len(starts) * size))[:, :count]
    upper = ops.reshape(found, ops.shape(arrived.lower))
    return Interval(2 * arrived.centre - upper, upper)


def _parallel(nodes):
    return [_parallel_node(node) for node in nodes]


def _parallel_node(node):
    if isinstance(node, Sum):
        return Sum(tuple(_parallel(branch) for branch in node.branches))
    if isinstance(node, Maximum):
        raise ValueError(
            f"Layer '{node.layer.name}' is a maximum over windows, which no line with a slope "
            "bounds from both sides. Accepted: ReLUs, monotone activations, average pooling."
        )
    if not isinstance(node, Elementwise):
        return node
    return replace(node, lines=node.parallel, bounds=partial(_between, node.parallel))


def _between(lines, box):
    """Box between the parallel lines. Its centre is that of the zonotope, exactly."""
    slope, over, _, under = lines(box)[:4]
    return Interval(slope * box.lower + under, slope * box.upper + over)


class _Refinement:
    """Bounds the inputs of every activation but the first by rows sent back to `box`."""

    def __init__(self, box, floats):
        self.box, self.floats = box, floats
        self.first, self.largest = True, math.prod(box.lower.shape[1:])

    def __call__(self, node, box, pull):
        self.largest = max(self.largest, math.prod(box.lower.shape[1:]))
        if self.first:
            self.first = False
            return box
        return neuron_bounds(self.box, box, pull, self.floats, self.largest)

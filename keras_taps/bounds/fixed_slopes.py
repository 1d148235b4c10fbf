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

_FLOATS = 2**24  # numbers in the rows that are sent back at a time, where they are most


def fixed_slope_margins(network, box, labels, floats=_FLOATS):
    """Upper bounds of the margins by parallel lines, the boxes of all ReLUs bounded likewise.

    The inputs of the first ReLU are bounded by IBP, which is exact behind one affine layer. For
    evaluation: the cost grows with the number of neurons, one backward row for each.

    Args:
        network: `IntervalSequential`, or a `Segment`, that ends in a Dense layer.
        box: `Interval` of inputs to it, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.
        floats: How many numbers, in about, are sent back at a time; it bounds the memory.

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
    nodes, traces = fixed_slope_traces(segment.body, box, floats)
    rows = margin_rows(segment.last, labels)
    return concretise(box, *substitute(nodes, traces, *rows))


def fixed_slope_traces(segment, box, floats=_FLOATS):
    """Nodes of a `Segment`, and their traces with the parallel lines of every activation.

    Args:
        segment: `Segment` without the layer whose forms will be bounded.
        box: `Interval` of its inputs.
        floats: As `fixed_slope_margins`.

    Returns:
        `(nodes, traces)`, for `substitute`.
    """
    nodes = _parallel(unfold(segment.layers, segment.given))
    refine = _Refinement(box, check_count("floats", floats, low=1))
    return nodes, propagate(nodes, box, refine)[1]


def _parallel(nodes):
    """The nodes with parallel lines, their boxes those between the lines."""
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
    """Bounds the inputs of every activation but the first by rows sent back to `box`.

    Affine layers send centres to centres, so that the interval box that arrives has the centre of
    the zonotope: the upper bounds alone are sent back, the lower ones are their reflection.
    """

    def __init__(self, box, floats):
        self.box, self.floats = box, floats
        self.first, self.largest = True, math.prod(box.lower.shape[1:])

    def __call__(self, node, box, pull):
        shape = tuple(box.lower.shape[1:])
        count = math.prod(shape)
        self.largest = max(self.largest, count)
        if self.first:
            self.first = False
            return box
        size = max(1, self.floats // (self.largest * (box.lower.shape[0] or 1)))
        chunks = [
            self._upper(range(start, min(start + size, count)), shape, box, pull)
            for start in range(0, count, size)
        ]
        upper = ops.reshape(ops.concatenate(chunks, axis=1), ops.shape(box.lower))
        return Interval(2 * box.centre - upper, upper)

    def _upper(self, neurons, shape, box, pull):
        """Upper bounds `(batch, n)` of some coordinates."""
        rows = ops.one_hot(ops.convert_to_tensor(list(neurons)), math.prod(shape))
        rows = ops.cast(ops.reshape(rows, (1, -1, *shape)), box.lower.dtype)
        rows = ops.repeat(rows, ops.shape(box.lower)[0], axis=0)
        return concretise(self.box, *pull(rows, ops.zeros(ops.shape(rows)[:2], dtype=rows.dtype)))

"""Rigorous bounds over many small boxes of inputs at a time, by CROWN in NumPy and float64.

The same derivation as the checker's, laid out for thousands of boxes of one network: neurons are
asked as pairs of a box and a neuron, and only where they are unstable. What bounds rounding is
shared by the boxes of a call: a vector that is at least the size of every neuron in any of them.
"""

from dataclasses import dataclass, replace

import numpy as np

from keras_taps.verification.certificate.backward import affine_box
from keras_taps.verification.certificate.deadline import NEVER
from keras_taps.verification.certificate.lines import ReluLines, through_relu
from keras_taps.verification.certificate.rounding import (
    ROUND,
    TINY,
    Form,
    dot,
    gamma,
    lost,
    unit,
)
from keras_taps.verification.graph.nodes import Linear, Relu, Reshape, Scale, Sum

_ROWS = 2**21  # bytes of rows at a time: what a processor keeps near


@dataclass(frozen=True)
class LinearBounds:
    """Upper bounds of forms over boxes, as numbers and as linear functions of the inputs.

    Args:
        values: Array `(boxes, n)`, the largest value of each form; infinite where a number was not
            finite on the way.
        rows: Array `(boxes, n, inputs)`: for every input x of the box the form is at most
            `rows @ x + constant`, inputs flat.
        constant: Array `(boxes, n)`, all rounding included.
    """

    values: np.ndarray
    rows: np.ndarray
    constant: np.ndarray

    def of(self, boxes):
        """The bounds of the boxes with these numbers."""
        return LinearBounds(self.values[boxes], self.rows[boxes], self.constant[boxes])


class ManyBoxes:
    """Rigorous bounds on linear forms of the outputs of a graph, many boxes at a time.

    Args:
        graph: `Graph` without max pooling.

    Attributes:
        batch: How many boxes are best bounded together.

    Raises:
        ValueError: If the graph has a node of another kind.

    Example:

    >>> from keras_taps.verification.graph.nodes import Dense
    >>> boxes = ManyBoxes(Graph((Dense(np.array([[1.0, -1.0]]), np.zeros(2)),)))
    >>> lower, upper = np.array([[0.25], [0.5]]), np.array([[0.5], [1.0]])
    >>> found = boxes.bounds(lower, upper, np.array([[-1.0, 1.0]]), np.zeros(1))
    >>> found.values.round(6).tolist()
    [[-0.5], [-1.0]]
    """

    batch = 256

    def __init__(self, graph):
        _check(graph.nodes)
        self.graph = graph
        self._absolutes = {}

    def bounds(self, lower, upper, forms, offset, deadline=NEVER):
        """Upper bounds of `forms @ outputs + offset` over each box.

        Args:
            lower: Array `(boxes, ...)` of inputs.
            upper: Array of the same shape, nowhere below `lower`.
            forms: Array `(n, outputs)`.
            offset: Array `(n,)`.
            deadline: `Deadline` at which to give up.

        Returns:
            `LinearBounds`.

        Raises:
            OutOfTime: If the deadline has passed.
        """
        count, shape = len(lower), (len(lower), len(offset))
        walk = _Walk(self._absolutes, (lower, upper), deadline)
        with np.errstate(all="ignore"):  # what is not finite ends as an infinite bound
            _, records = walk.forward(self.graph.nodes, (lower, upper), walk.largest)
            at = np.repeat(np.arange(count), len(offset))
            nothing = np.zeros(len(at))
            form = Form(np.tile(forms, (count, 1)), np.tile(offset, count), nothing)
            form = walk.backward(self.graph.nodes, records, form, at)
            values = walk.largest(form, at)
            values = np.where(np.isfinite(values) & ~walk.lost[at], values, np.inf)
            constant = form.constant + form.error * (1 + 1e-9)
            constant = np.where(np.isfinite(values), constant + unit(constant) + TINY, np.inf)
        return LinearBounds(
            values.reshape(shape),
            form.rows.reshape(*shape, lower[0].size),
            constant.reshape(shape),
        )


def _check(nodes):
    for node in nodes:
        if isinstance(node, Sum):
            for branch in node.branches:
                _check(branch)
        elif not isinstance(node, (Linear, Relu)):
            raise ValueError(f"Boxes cannot be bounded through {type(node).__name__} nodes.")


class _Walk:
    """Boxes through a graph: forward `(boxes, ...)`, backward with forms of single boxes."""

    def __init__(self, absolutes, box, deadline):
        self.absolutes, self.input, self.deadline = absolutes, box, deadline
        self.size = _size(box)
        self.lost = np.zeros(len(box[0]), bool)  # boxes in which a number was not finite
        self.mixed = 0  # products so far: after the first, intervals are exact

    def forward(self, nodes, box, ask):
        """Boxes after the nodes, and what each node needs on the way back."""
        records = []
        for index, node in enumerate(nodes):

            def pull(form, at, before=nodes[:index], known=tuple(records)):
                return ask(self.backward(before, known, form, at), at)

            box, record = self._forward(node, box, pull)
            for bound in box:
                self.lost |= ~np.all(np.isfinite(bound.reshape(len(bound), -1)), axis=1)
            records.append(record)
        return box, records

    def _forward(self, node, box, pull):
        if isinstance(node, Reshape):
            return tuple(bound.reshape(-1, *node.out_shape) for bound in box), None
        if isinstance(node, Linear):
            return self._linear(node, box)
        if isinstance(node, Relu):
            if self.mixed > 1:
                box = self._refined(box, pull)
            lines = ReluLines.of(box, node.slope)
            return through_relu(node.slope, box), replace(
                lines, below=lines.below[0], size=_size(box)
            )
        return self._sum(node, box, pull)

    def _sum(self, node, box, pull):
        found = [self.forward(branch, box, pull) for branch in node.branches]
        outs, records = zip(*found, strict=True)
        lower, upper = (sum(out[side] for out in outs) for side in (0, 1))
        pad = len(outs) * sum(unit(_size(out)) for out in outs) + TINY
        return (lower - pad, upper + pad), (records, _size(box))

    def _linear(self, node, box):
        self.mixed += not isinstance(node, Scale)
        return affine_box(node, self.absolutes, box, _size(box))

    def _refined(self, box, pull):
        """The boxes with every unstable neuron bounded by a pass back to the inputs."""
        shape = box[0].shape[1:]
        lower, upper = (bound.reshape(len(bound), -1).copy() for bound in box)
        boxes, neurons = np.nonzero((lower < 0) & (upper > 0))
        chunk = max(1, _ROWS // (16 * max(lower[0].size, self.size.size)))
        for start in range(0, len(boxes), chunk):
            at, chosen = boxes[start : start + chunk], neurons[start : start + chunk]
            count = len(at)
            rows = np.zeros((2 * count, lower[0].size))
            rows[np.arange(count), chosen] = -1.0
            rows[np.arange(count, 2 * count), chosen] = 1.0
            nothing = np.zeros(2 * count)
            form = Form(rows.reshape(-1, *shape), nothing, nothing)
            found = pull(form, np.concatenate([at, at]))
            lower[at, chosen] = np.fmax(lower[at, chosen], -found[:count])
            upper[at, chosen] = np.fmin(upper[at, chosen], found[count:])
        return lower.reshape(-1, *shape), upper.reshape(-1, *shape)

    def backward(self, nodes, records, form, at):
        """Forms on the inputs of the first node; form p is about box `at[p]`."""
        for node, record in zip(reversed(nodes), reversed(records), strict=True):
            form = self._backward(node, record, form, at)
        return form

    def _backward(self, node, record, form, at):
        self.deadline.check()
        if isinstance(node, Reshape):
            return replace(form, rows=node.transpose(form.rows))
        if isinstance(node, Linear):
            scale = record.scale
            error = gamma(node.terms + scale.size) * dot(np.abs(form.rows), scale) + record.lost
            form = form.plus(dot(form.rows, np.broadcast_to(node.bias, scale.shape)), error)
            return replace(form, rows=node.transpose(form.rows))
        if isinstance(node, Relu):
            return _relu_back(record, form, at)
        records, size = record
        rows, total = 0, form
        for branch, inner in zip(node.branches, records, strict=True):
            back = self.backward(branch, inner, replace(total, rows=form.rows), at)
            rows = rows + back.rows
            total = back.plus(0.0, 4 * len(records) * ROUND * dot(np.abs(back.rows), size))
        return replace(total, rows=rows)

    def largest(self, form, at):
        """Largest value of each form over its box, with all rounding."""
        count = len(at)
        rows = form.rows.reshape(count, -1)
        lower, upper = (bound.reshape(len(bound), -1)[at] for bound in self.input)
        value = np.einsum("pi,pi->p", rows, np.where(rows > 0, upper, lower))
        error = 2 * gamma(self.size.size) * dot(np.abs(rows), self.size)
        form = form.plus(value, error + unit(value))
        bound = form.constant + form.error * (1 + 1e-9)
        return bound + unit(bound) + TINY


def _relu_back(lines, form, at):
    """The form on the inputs of a ReLU: each row is multiplied once, and lifted by the lines."""
    rising = form.rows > 0
    rows = form.rows * np.where(rising, lines.steep[at], lines.below[at])
    count = len(rows)
    lifted = np.einsum(
        "pi,pi->p",
        np.maximum(form.rows, 0).reshape(count, -1),
        lines.over[at].reshape(count, -1),
    )
    error = gamma(lines.size.size) * lifted + lost(lines.size)
    error = error + 4 * ROUND * dot(np.abs(rows), lines.size)
    return replace(form.plus(lifted, error), rows=rows)


def _size(box):
    """Array of the shape of one input: at least the size of each coordinate in every box."""
    return np.maximum(np.abs(box[0]), np.abs(box[1])).max(0)

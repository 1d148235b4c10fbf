"""A network on a box as a mixed-integer program: columns, rows, and points in its columns.

All constraints are in one long file, because their rows share one numbering of the columns.
"""

import copy
from typing import NamedTuple

import numpy as np
from scipy import sparse

from keras_taps.verification.certificate.rounding import TINY as UNDERFLOW
from keras_taps.verification.certificate.rounding import gamma
from keras_taps.verification.graph.distance import has_distances
from keras_taps.verification.graph.nodes import (
    Conv,
    Dense,
    Linear,
    MaxPool,
    Relu,
    Reshape,
    Sum,
    walk,
)
from keras_taps.verification.graph.traverse import curves, nonlinear

FEASIBILITY = 1e-9  # tolerance on rows, reduced costs and integrality; HiGHS accepts 1e-10 and more
LARGEST = 1e7  # of a neuron's box: beyond, bounds of HiGHS were wrong (docs/certification.md)
TINY = 1e-12  # HiGHS drops coefficients up to this size without a word


class Affine(NamedTuple):
    """`matrix @ columns + constant`.

    Args:
        matrix: Sparse array `(entries, columns so far)`.
        constant: Array `(entries,)`.
        error: Array `(entries,)`: how far rounding can have moved each, whatever the columns.
    """

    matrix: object
    constant: np.ndarray
    error: np.ndarray


class Program:
    """Rows and columns that hold the pre-activations of a network on a box of inputs.

    An input has one column, and so has each pre-activation that matters. A neuron that changes
    sign and a window with several candidates get a column for the output and binaries that say
    which piece holds. All other nodes are sparse rows over the columns before them.

    Args:
        graph: `Graph`.
        lower: Array of the shape of one input.
        upper: Array of the same shape.
        boxes: One pair `(lower, upper)` a nonlinear node, in depth-first order: bounds on its
            input, which must be sound up to `slack`.
        slack: Every bound is widened by `slack * (1 + |bound|)`.

    Attributes:
        lower, upper: Bounds of the columns, all finite.
        integer: Which columns are binaries.
        error: By how much a column moves if every row is violated by `FEASIBILITY`.
        outputs: `Affine` of the outputs of the graph.

    Raises:
        ValueError: If a number is not finite, a box is empty or the boxes do not fit the graph.

    References:
        Tjeng et al., "Evaluating Robustness of Neural Networks with Mixed Integer Programming",
        2019.
    """

    def __init__(self, graph, lower, upper, boxes, slack=1e-6):
        self.graph = graph
        self.box = _checked_box("the input box", graph.in_shape, lower, upper, 0.0)
        sites = list(nonlinear(graph.nodes))
        bent = curves(graph.nodes)
        if has_distances(graph.nodes):
            raise ValueError("no mixed integer program is known for distance nodes")
        if bent:
            raise ValueError(f"no mixed integer program is exact for {', '.join(bent)}")
        if len(sites) != len(boxes):
            raise ValueError(
                f"`boxes` must have one pair for each of the {len(sites)} nonlinear nodes. "
                f"Received: {len(boxes)}"
            )
        self.boxes = [
            _checked_box(f"boxes[{i}]", site.in_shape, *box, slack)
            for i, (site, box) in enumerate(zip(sites, boxes, strict=True))
        ]
        for i, (low, high) in enumerate(self.boxes):
            widest = max(np.max(np.abs(low), initial=0), np.max(np.abs(high), initial=0))
            if widest > LARGEST:
                raise ValueError(
                    f"boxes[{i}] reaches {widest:.3g}. HiGHS decides within its tolerances up to "
                    f"{LARGEST:g}: scale the network, or leave out the stage 'milp'"
                )
        self.lower = self.upper = self.error = np.zeros(0)
        self.integer = np.zeros(0, bool)
        self._rows, self._fills, self._site = (), (), 0
        inputs = self.add_columns(*(np.ravel(bound) for bound in self.box))
        self.outputs = self._walk(graph.nodes, self._pick(inputs, inputs, 1.0))

    @property
    def size(self):
        """Number of columns."""
        return len(self.lower)

    @property
    def height(self):
        """Number of rows."""
        return sum(len(lower) for _, lower, _ in self._rows)

    def add_columns(self, lower, upper, integer=False, error=0.0):
        """Append columns with these bounds and return their indices.

        Args:
            lower: Array.
            upper: Array of the same shape.
            integer: Whether they are binaries.
            error: Number or array, see `error` of the class.
        """
        new = self.size + np.arange(len(lower))
        self.lower, self.upper = np.append(self.lower, lower), np.append(self.upper, upper)
        self.integer = np.append(self.integer, np.full(len(new), integer))
        # A column between its bounds is wrong by no more than their distance.
        self.error = np.append(self.error, np.minimum(error, np.subtract(upper, lower)))
        return new

    def add_rows(self, matrix, lower, upper):
        """Append `lower <= matrix @ columns <= upper`; what HiGHS would drop widens the row."""
        matrix, spill = self.split_tiny(self.fit(matrix))
        self._rows = (*self._rows, (matrix, lower - spill, upper + spill))

    def split_tiny(self, matrix):
        """The matrix without coefficients that HiGHS drops, and the most that each row loses."""
        small = np.abs(matrix.data) <= TINY
        tiny, kept = matrix.copy(), matrix.copy()
        tiny.data, kept.data = np.where(small, np.abs(tiny.data), 0), np.where(small, 0, kept.data)
        kept.eliminate_zeros()
        return kept, tiny @ np.maximum(np.abs(self.lower), np.abs(self.upper))

    def rows(self):
        """All rows: a sparse matrix by rows and the arrays of lower and upper sides."""
        if not self._rows:
            return sparse.csr_array((0, self.size)), np.zeros(0), np.zeros(0)
        matrices, lower, upper = zip(*self._rows, strict=True)
        matrix = sparse.vstack([self.fit(matrix) for matrix in matrices], format="csr")
        return matrix, np.concatenate(lower), np.concatenate(upper)

    def form(self, weights, offset):
        """Linear forms `weights @ outputs + offset` as an `Affine` of the columns."""
        rows, outputs = sparse.csr_array(weights), self.outputs
        matrix = rows @ self.fit(outputs.matrix)
        error = self.rounding(rows, outputs, np.abs(offset), weights.shape[1])
        return Affine(matrix, weights @ outputs.constant + offset, error)

    def rounding(self, rows, form, bias, terms):
        """Error of `rows @ form + bias`, whose sums have so many terms."""
        reach = np.maximum(np.abs(self.lower), np.abs(self.upper))
        size = abs(self.fit(form.matrix)) @ reach + np.abs(form.constant)
        return abs(rows) @ form.error + gamma(terms) * (abs(rows) @ size + bias) + UNDERFLOW

    def range(self, form):
        """Lower and upper bounds of an `Affine` by interval arithmetic over the columns."""
        matrix = self.fit(form.matrix)
        up, down = matrix.maximum(0), matrix.minimum(0)
        low = up @ self.lower + down @ self.upper + form.constant
        return low, up @ self.upper + down @ self.lower + form.constant

    def extended(self):
        """A copy to which columns and rows can be added."""
        return copy.copy(self)

    def assign(self, point):
        """Values of all columns that the graph gives at an input.

        Args:
            point: Array of the shape of one input, inside the box.

        Returns:
            Array `(columns,)`; columns of an extension are 0.

        Raises:
            RuntimeError: If a neuron leaves its box, which then was not a bound.
        """
        values = np.zeros(self.size)
        values[: point.size] = np.ravel(point)
        found = []
        _record(self.graph.nodes, point[None], found)
        for entries, (lower, upper), fill in zip(found, self.boxes, self._fills, strict=True):
            room = 1e-9 * (1 + np.abs(entries))
            if np.any(entries < lower - room) or np.any(entries > upper + room):
                raise RuntimeError("the boxes are not bounds: a point of the input box leaves them")
            fill(values, np.ravel(entries))
        return values

    def _walk(self, nodes, form):
        for node in nodes:
            if isinstance(node, Sum):
                forms = [self._walk(branch, form) for branch in node.branches]
                one = sparse.eye_array(len(forms[0].constant), format="csr")
                form = Affine(
                    sum(self.fit(branch.matrix) for branch in forms),
                    sum(branch.constant for branch in forms),
                    sum(self.rounding(one, branch, 0.0, len(forms)) for branch in forms),
                )
            elif isinstance(node, (Relu, MaxPool)):
                lower, upper = (np.ravel(bound) for bound in self.boxes[self._site])
                self._site += 1
                encode = self._relu if isinstance(node, Relu) else self._max_pool
                form = encode(node, form, lower, upper)
            elif not isinstance(node, Reshape):
                form = self._follow(node, form)
        return form

    def _relu(self, node, form, lower, upper):
        slope = node.slope
        live = np.flatnonzero((upper > 0) | (slope > 0))
        bent = np.flatnonzero((lower < 0) & (upper > 0) & (slope < 1))
        z = np.full(len(lower), -1)
        z[live] = self._tie(form, live, lower, upper)
        # Binary 1 makes the output z, binary 0 makes it slope * z.
        low, high = (1 - slope) * lower[bent], (1 - slope) * upper[bent]
        move = self.error[z[bent]] + FEASIBILITY * (1 + np.maximum(high, -low))
        y = self.add_columns(slope * lower[bent], upper[bent], error=move)
        on = self.add_columns(np.zeros(len(bent)), np.ones(len(bent)), integer=True)
        zero, above = np.zeros(len(bent)), np.full(len(bent), np.inf)
        self._add_terms([(y, 1.0), (z[bent], -1.0)], zero, above)
        self._add_terms([(y, 1.0), (z[bent], -slope)], zero, above)
        self._add_terms([(y, 1.0), (z[bent], -slope), (on, -high)], -above, zero)
        self._add_terms([(y, 1.0), (z[bent], -1.0), (on, -low)], -above, -low)
        out, gain = z.copy(), np.where(upper <= 0, slope, 1.0)
        out[bent] = y

        def fill(values, entries):
            values[z[live]] = entries[live]
            values[y] = np.maximum(entries, slope * entries)[bent]
            values[on] = entries[bent] > 0

        self._fills = (*self._fills, fill)
        return self._pick(out, out[out >= 0], gain[out >= 0])

    def _max_pool(self, node, form, lower, upper):
        members = node.members().reshape(-1, np.prod(node.size))
        low = np.where(members >= 0, lower[members], -np.inf)
        high = np.where(members >= 0, upper[members], -np.inf)
        best, count = low.argmax(1), np.arange(len(members))
        # An entry that never exceeds the best lower bound is not needed for the maximum.
        kept = high > low.max(1)[:, None]
        kept[count, best] = True
        tied = kept.sum(1) > 1
        windows, places = np.nonzero(kept & tied[:, None])
        entries = members[windows, places]
        z = np.full(len(lower), -1)
        used = np.unique(entries)
        z[used] = self._tie(form, used, lower, upper)
        top, move = high.max(1), np.zeros(len(members))
        np.maximum.at(move, windows, self.error[z[entries]])
        move += FEASIBILITY * (1 + np.where(tied, top - low.max(1), 0))
        y = np.full(len(members), -1)
        y[tied] = self.add_columns(low.max(1)[tied], top[tied], error=move[tied])
        on = self.add_columns(np.zeros(len(entries)), np.ones(len(entries)), integer=True)
        big, endless = top[windows] - lower[entries], np.full(len(entries), np.inf)
        pair = [(y[windows], 1.0), (z[entries], -1.0)]
        self._add_terms(pair, 0 * big, endless)
        self._add_terms([*pair, (on, big)], -endless, big)
        groups = sparse.csr_array(
            (np.ones(len(on)), (windows, on)), shape=(len(members), self.size)
        )[tied]
        self.add_rows(groups, np.ones(tied.sum()), np.ones(tied.sum()))

        def fill(values, found):
            inside = np.where(kept, found[members], -np.inf)
            values[z[used]] = found[used]
            values[y[tied]] = inside.max(1)[tied]
            values[on] = inside.argmax(1)[windows] == places

        self._fills = (*self._fills, fill)
        choice = sparse.csr_array(
            (1.0 - tied, (count, members[count, best])), shape=(len(members), len(lower))
        )
        picked = self._pick(y, y[tied], 1.0)
        matrix = picked.matrix + choice @ self.fit(form.matrix)
        return Affine(matrix, choice @ form.constant, choice @ form.error)

    def _tie(self, form, entries, lower, upper):
        """Columns with their bounds and rows that make them equal to entries of an `Affine`."""
        matrix, constant = form.matrix[entries], form.constant[entries]
        own = form.error[entries]
        error = FEASIBILITY + own + abs(matrix) @ self.error[: matrix.shape[1]]
        new = self.add_columns(lower[entries], upper[entries], error=error)
        ones = self._pick(new, new, 1.0).matrix
        self.add_rows(ones - self.fit(matrix), constant - own, constant + own)
        return new

    def _add_terms(self, terms, lower, upper):
        """One row an entry: the sum of coefficient times column over a list of such pairs."""
        count = len(lower)
        columns = np.concatenate([columns for columns, _ in terms])
        values = np.concatenate([np.broadcast_to(value, count) for _, value in terms])
        rows = np.tile(np.arange(count), len(terms))
        matrix = sparse.csr_array((values, (rows, columns)), shape=(count, self.size))
        self.add_rows(matrix, lower, upper)

    def _pick(self, out, columns, gain):
        """`Affine` whose entries with `out >= 0` are `gain` times a column, and the others 0."""
        rows = np.flatnonzero(out >= 0)
        values = np.broadcast_to(np.asarray(gain, "float64"), rows.shape)
        matrix = sparse.csr_array((values, (rows, columns)), shape=(len(out), self.size))
        return Affine(matrix, np.zeros(len(out)), np.zeros(len(out)))

    def _follow(self, node, form):
        """The `Affine` after an affine node."""
        if not isinstance(node, Linear):
            raise ValueError(f"no rows are known for a node of type {type(node).__name__}")
        rows = sparse_rows(node)
        bias, size = (
            np.broadcast_to(v, node.out_shape).ravel() for v in (node.bias, node.magnitude)
        )
        error = self.rounding(rows, form, size, node.terms)
        form = Affine(rows @ form.matrix, rows @ form.constant + bias, error)
        # The weights of dead neurons leave no trace in the product: the node itself is looked at.
        numbers = rows.data, bias, form.matrix.data, form.constant, error
        if not all(np.isfinite(values).all() for values in numbers):
            raise ValueError(f"the {type(node).__name__} node has numbers that are not finite")
        return form

    def fit(self, matrix):
        """The matrix with as many columns as there are now."""
        matrix = sparse.csr_array(matrix)
        parts = matrix.data, matrix.indices, matrix.indptr
        return sparse.csr_array(parts, shape=(matrix.shape[0], self.size))


def sparse_rows(node):
    """Sparse matrix `(outputs, inputs)` of an affine node without its bias, flattened row-major.

    Args:
        node: `Dense`, `Conv` or `Scale`.
    """
    if isinstance(node, Dense):
        return sparse.csr_array(node.kernel.T)
    if isinstance(node, Conv):
        return _conv_rows(node)
    return sparse.diags_array(np.broadcast_to(node.scale, node.in_shape).ravel()).tocsr()


def _conv_rows(node):
    height, width, inputs, outputs = node.kernel.shape
    rows, columns, _ = node.out_shape
    each = outputs // node.groups
    places = np.arange(np.prod(node.in_shape)).reshape(node.in_shape)
    places = np.pad(places, (*node.padding, (0, 0)), constant_values=-1)
    down = node.dilation[0] * np.arange(height)[:, None] + node.strides[0] * np.arange(rows)
    right = node.dilation[1] * np.arange(width)[:, None] + node.strides[1] * np.arange(columns)
    # Axes: kernel row, kernel column, row, column, group, input of the group, output of the group.
    source = places[down[:, None, :, None], right[None, :, None, :]]
    source = source.reshape(height, width, rows, columns, node.groups, inputs, 1)
    target = np.arange(rows * columns * outputs).reshape(rows, columns, node.groups, 1, each)
    taps = node.kernel.reshape(height, width, 1, 1, inputs, node.groups, each).swapaxes(4, 5)
    source, target, taps = np.broadcast_arrays(source, target, taps)
    keep = (source >= 0) & (taps != 0)
    shape = rows * columns * outputs, np.prod(node.in_shape)
    return sparse.csr_array((taps[keep], (target[keep], source[keep])), shape=shape)


def _record(nodes, x, found):
    """Pass a batch through a chain and append what enters each nonlinear node."""
    for node in nodes:
        if isinstance(node, Sum):
            x = sum(_record(branch, x, found) for branch in node.branches)
            continue
        if isinstance(node, (Relu, MaxPool)):
            found.append(x[0])
        x = walk((node,), x)
    return x


def _checked_box(name, shape, lower, upper, slack):
    lower, upper = (np.asarray(bound, "float64") for bound in (lower, upper))
    if not lower.shape == upper.shape == tuple(shape):
        raise ValueError(
            f"{name} must have bounds of shape {tuple(shape)}. "
            f"Received: shapes {lower.shape} and {upper.shape}"
        )
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise ValueError(f"{name} has bounds that are not finite")
    lower, upper = lower - slack * (1 + np.abs(lower)), upper + slack * (1 + np.abs(upper))
    if np.any(lower > upper):
        raise ValueError(f"{name} is empty: a lower bound is above its upper bound")
    return lower, upper

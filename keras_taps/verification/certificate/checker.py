"""The float64 checker: bounds that hold in real arithmetic, re-derived with NumPy alone.

It shares nothing with the code of the fast bounds. Every box is rounded outward, and every linear
form carries a bound on the rounding errors made on its way back (`rounding.py`). What it proves is
about the real arithmetic network whose parameters are those of the graph, for every real input in
the box. It does not speak of the rounding errors that the network makes when it runs in float32.
"""

from dataclasses import dataclass, replace

import numpy as np

from keras_taps.verification.certificate.leaves import RootBox
from keras_taps.verification.certificate.lines import (
    Branches,
    ReluLines,
    by_layer,
    lines_of,
    replaced,
)
from keras_taps.verification.certificate.rounding import (
    ROUND,
    TINY,
    Form,
    dot,
    gamma,
    largest,
    lost,
    size_of,
    unit,
)
from keras_taps.verification.graph.nodes import Linear, MaxPool, Relu, Reshape

METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")
_ROWS = 2**25  # bytes that rows may take at a time


@dataclass(frozen=True)
class _Affine:
    """`scale` bounds |W||x| + |b|; `lost` what underflow can take from a form on its way back."""

    scale: np.ndarray
    lost: float


class Checker:
    """Rigorous bounds on linear forms of the outputs of a graph.

    Args:
        graph: `Graph`.

    Example:

    >>> graph = Graph((Dense(np.array([[1.0, -1.0]]), np.zeros(2)),))
    >>> box = np.array([0.25]), np.array([1.0])
    >>> bound = Checker(graph).upper_bounds(*box, np.array([[-1.0, 1.0]]), np.zeros(1))
    >>> bool(-0.5 <= bound[0] < -0.4999999)
    True
    """

    def __init__(self, graph):
        self.graph = graph
        self._absolutes = {}

    def upper_bounds(self, lower, upper, forms, offset, method="crown", slopes=None):
        """Upper bounds of `forms @ outputs + offset` over a box of inputs.

        Args:
            lower: Array of the shape of one input.
            upper: Array of the same shape.
            forms: Array `(n, outputs)`.
            offset: Array `(n,)`.
            method: 'ibp'; 'crown-ibp': one pass back between the boxes of interval arithmetic;
                'crown': each unstable neuron bounded by a pass of its own before; 'alpha-crown':
                that with the slopes given.
            slopes: For 'alpha-crown' an array `(n, neurons)`: for each form the slopes of the lower
                lines of all ReLUs in order. Whatever they are, they are moved to where they are
                sound; NaN stands for the slope that 'crown' takes.

        Returns:
            Array `(n,)`; infinite where a number was not finite on the way.

        Raises:
            ValueError: If the box is empty or not finite, or shapes do not fit.
        """
        return self.bounds_and_boxes(lower, upper, forms, offset, method, slopes)[0]

    def bounds_and_boxes(self, lower, upper, forms, offset, method="crown", slopes=None):
        """`upper_bounds`, and the rigorous boxes they were derived from.

        Args:
            lower: As in `upper_bounds`, like the rest.
            upper: Array.
            forms: Array.
            offset: Array.
            method: Name.
            slopes: Array or `None`.

        Returns:
            `(bounds, boxes)`: an array `(n,)`, and a list of pairs of arrays that bound the inputs
            of every ReLU and max pooling in depth-first order, NaN where one was not finite.
        """
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {METHODS}. Received: {method!r}")
        box = self._checked_box(lower, upper)
        forms, offset = np.asarray(forms, "float64"), np.asarray(offset, "float64")
        if forms.shape != (len(offset), self.graph.outputs):
            raise ValueError(
                f"`forms` must have shape (n, {self.graph.outputs}) and `offset` (n,). "
                f"Received: {forms.shape} and {offset.shape}"
            )
        walk = _Walk(self._absolutes, method)
        with np.errstate(all="ignore"):  # what is not finite ends as an infinite bound
            records = walk.enter(self.graph.nodes, box)
            if method == "alpha-crown" and slopes is not None:
                records = _sloped(records, slopes)
            return walk.leave(Form(forms, offset, np.zeros(len(offset))), records), walk.boxes

    def root(self, lower, upper):
        """The box as the root of branch and bound: its leaves can be bounded many at a time.

        Args:
            lower: Array of the shape of one input.
            upper: Array of the same shape.

        Returns:
            `RootBox`, with the boxes of all neurons from 'crown'.

        Raises:
            ValueError: If the box is empty or not finite, or shapes do not fit.
        """
        return self._rooted(self._checked_box(lower, upper))

    def _rooted(self, box, known=None, signs=None):
        """The root of a box, or of its part with these signs between known boxes of neurons."""
        walk = _Walk(self._absolutes, "crown")
        walk.pulls, walk.known, walk.signs = [], known, signs
        with np.errstate(all="ignore"):
            records = walk.enter(self.graph.nodes, box)

        def within(signs):
            return self._rooted(box, walk.boxes, signs)

        return RootBox(walk, records, self.graph.outputs, within)

    def _checked_box(self, lower, upper):
        lower, upper = np.asarray(lower, "float64"), np.asarray(upper, "float64")
        shape = self.graph.in_shape
        if lower.shape != shape or upper.shape != shape:
            raise ValueError(
                f"`lower` and `upper` must have the shape {shape} of one input. "
                f"Received: {lower.shape} and {upper.shape}"
            )
        if not np.all(np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)):
            raise ValueError("The box must be finite with lower <= upper.")
        return lower, upper


class _Walk:
    """One box through one graph: forward with boxes, backward with forms."""

    def __init__(self, absolutes, method):
        self.absolutes = absolutes
        self.method = method
        self.boxes = []  # of the inputs of the nonlinear nodes, in their order
        self.pulls = None  # of each ReLU, if a list is put here: its `pull`
        self.known = None  # boxes of the nonlinear nodes that hold as well
        self.signs = None  # an array for each ReLU: 1 where z >= 0, -1 where z <= 0, else 0
        self.empty = False  # whether these contradict each other

    def enter(self, nodes, box):
        """Forward; the records of the nodes up to the last that is not linear."""
        self.input = box
        tail = len(nodes)
        while tail and isinstance(nodes[tail - 1], Linear):
            tail -= 1
        self.head, self.tail = nodes[:tail], nodes[tail:]
        self.inner, records = self.forward(self.head, box, self.concretise)
        self.out, self.tail_records = self.forward(self.tail, self.inner, None)
        return records

    def leave(self, form, records):
        """Bounds on a form of the outputs, with these records on the way back."""
        form = self.backward(self.tail, self.tail_records, form)
        bounds = largest(form, self.inner)
        if self.method != "ibp":
            back = self.backward(self.head, records, form)
            bounds = np.fmin(bounds, self.concretise(back))
        return np.where(np.isnan(bounds), np.inf, bounds)

    def concretise(self, form):
        return largest(form, self.input)

    # Forward

    def forward(self, nodes, box, ask):
        """Box behind the nodes, and what each needs on the way back.

        `ask` bounds a form of the inputs of these nodes by the inputs of the network.
        """
        records = []
        for index, node in enumerate(nodes):
            before, known = nodes[:index], tuple(records)

            def pull(form, before=before, known=known):
                return ask(self.backward(before, known, form))

            box, record = self._forward(node, box, pull)
            if not all(np.all(np.isfinite(bound)) for bound in box):
                box = tuple(np.full_like(bound, np.nan) for bound in box)  # no bound will be finite
            records.append(record)
        return box, records

    def _forward(self, node, box, pull):
        if isinstance(node, Reshape):
            return tuple(bound.reshape(node.out_shape) for bound in box), None
        if isinstance(node, Linear):
            return self._linear(node, box)
        if isinstance(node, Relu):
            if self.known is not None:
                box = self._narrowed(box)
            box = self._refined(box, (box[0] < 0) & (box[1] > 0), pull)
            self.boxes.append(box)
            if self.pulls is not None:
                self.pulls.append(pull)
            return _relu(node, box)
        if isinstance(node, MaxPool):
            box = self._refined(box, box[0] < box[1], pull)
            self.boxes.append(box)
            return _max_pool(node, box)
        outs, records = [], []
        for branch in node.branches:
            out, record = self.forward(branch, box, pull)
            outs.append(out)
            records.append(record)
        lower, upper = (sum(out[side] for out in outs) for side in (0, 1))
        pad = len(outs) * sum(unit(size_of(out)) for out in outs) + TINY
        return (lower - pad, upper + pad), Branches(records, size_of(box))

    def _linear(self, node, box):
        if id(node) not in self.absolutes:  # the graph keeps its nodes, so ids stay theirs
            self.absolutes[id(node)] = node.absolute()
        absolute = self.absolutes[id(node)]
        lower, upper = box
        centre = (lower + upper) / 2
        radius = np.maximum(upper - centre, centre - lower) * (1 + 4 * ROUND) + TINY
        scale = (absolute.apply(size_of(box)[None])[0] + node.magnitude) * (1 + 1e-9)
        middle, spread = node(centre[None])[0], absolute.apply(radius[None])[0]
        pad = 2 * gamma(node.terms) * scale + TINY
        return (middle - spread - pad, middle + spread + pad), _Affine(scale, lost(size_of(box)))

    def _refined(self, box, unstable, pull):
        """The box with every unstable neuron bounded by a pass back to the input."""
        if self.method not in ("crown", "alpha-crown") or not unstable.any():
            return box
        lower, upper = (bound.reshape(-1).copy() for bound in box)
        neurons = np.flatnonzero(unstable)
        chunk = max(1, _ROWS // (16 * max(lower.size, self.input[0].size)))
        for start in range(0, len(neurons), chunk):
            chosen = neurons[start : start + chunk]
            unit = np.zeros((len(chosen), lower.size))
            unit[np.arange(len(chosen)), chosen] = 1.0
            rows = np.concatenate([-unit, unit]).reshape(-1, *box[0].shape)
            nothing = np.zeros(len(rows))
            found = pull(Form(rows, nothing, nothing))
            lower[chosen] = np.fmax(lower[chosen], -found[: len(chosen)])
            upper[chosen] = np.fmin(upper[chosen], found[len(chosen) :])
        return lower.reshape(box[0].shape), upper.reshape(box[0].shape)

    def _narrowed(self, box):
        """The box of a ReLU's inputs between the known bounds, where its neurons have their signs.

        All that follows is then about the part of the inputs where they do.
        """
        known, signs = self.known[len(self.boxes)], self.signs[len(self.pulls)]
        lower, upper = np.fmax(box[0], known[0]), np.fmin(box[1], known[1])
        lower = np.where(signs > 0, np.fmax(lower, 0.0), lower)
        upper = np.where(signs < 0, np.fmin(upper, 0.0), upper)
        if np.any(lower > upper):  # of a part without inputs everything holds, so any box does
            self.empty = True
            return known
        return lower, upper

    # Backward

    def backward(self, nodes, records, form):
        """The form on the inputs of the first node."""
        for node, record in zip(reversed(nodes), reversed(records), strict=True):
            form = self._backward(node, record, form)
        return form

    def _backward(self, node, record, form):
        if isinstance(node, Reshape):
            return replace(form, rows=node.transpose(form.rows))
        if isinstance(node, Linear):
            scale = record.scale
            error = gamma(node.terms + scale.size) * dot(np.abs(form.rows), scale) + record.lost
            form = form.plus(dot(form.rows, np.broadcast_to(node.bias, scale.shape)), error)
            return replace(form, rows=node.transpose(form.rows))
        if isinstance(node, Relu):
            return record.back(form)
        if isinstance(node, MaxPool):
            return _max_pool_back(node, record, form)
        rows, total = 0, form
        for branch, inner in zip(node.branches, record.records, strict=True):
            back = self.backward(branch, inner, replace(total, rows=form.rows))
            rows = rows + back.rows
            error = 4 * len(record.records) * ROUND * dot(np.abs(back.rows), record.size)
            total = back.plus(0.0, error)
        return replace(total, rows=rows)


def _relu(node, box):
    lower, upper = box
    slope = node.slope
    out = (
        np.where(lower >= 0, lower, slope * lower * (1 + 4 * ROUND) - TINY * (slope > 0)),
        np.where(upper >= 0, upper, slope * upper * (1 - 4 * ROUND) + TINY * (slope > 0)),
    )
    return out, ReluLines.of(box, slope)


def _sloped(records, slopes):
    """The records with the given slopes in place of the usual ones."""
    slopes, lines = np.asarray(slopes, "float64"), lines_of(records)
    neurons = sum(own.size.size for own in lines)
    if slopes.ndim != 2 or slopes.shape[1] != neurons:
        raise ValueError(f"`slopes` must have shape (n, {neurons}). Received: {slopes.shape}")
    parts = by_layer(slopes, lines)
    return replaced(records, lambda own: own.with_slopes(next(parts)))


def _max_pool(node, box):
    low, high = (node.windows(bound[None])[0] for bound in box)
    best = low.argmax(-1)
    others = high.copy()
    np.put_along_axis(others, best[..., None], -np.inf, -1)
    decided = low.max(-1) >= others.max(-1)
    chosen = np.take_along_axis(node.members(), best[..., None], -1)[..., 0]
    return (low.max(-1), high.max(-1)), (chosen, decided, high.max(-1), size_of(box))


def _max_pool_back(node, record, form):
    """Below by the entry with the largest lower bound; above by it if it surely wins."""
    chosen, decided, highest, size = record
    rising = np.maximum(form.rows, 0)
    lifted = dot(rising, np.where(decided, 0.0, highest))
    error = gamma(chosen.size) * dot(rising, np.where(decided, 0.0, np.abs(highest)))
    routed = np.where(decided, form.rows, np.minimum(form.rows, 0)).reshape(len(form.rows), -1)
    rows = np.zeros((len(form.rows), int(np.prod(node.in_shape))))
    np.add.at(rows, (slice(None), chosen.reshape(-1)), routed)
    window = int(np.prod(node.size))
    error = error + gamma(window) * np.abs(routed) @ size.reshape(-1)[chosen.reshape(-1)]
    return replace(form.plus(lifted, error), rows=rows.reshape(-1, *node.in_shape))

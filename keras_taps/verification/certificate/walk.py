"""One box through one graph in float64: forward with boxes, backward with linear forms.

It is long, because all ways in which a neuron is asked for its bounds are steps of one walk.
"""

from dataclasses import replace

import numpy as np

from keras_taps.verification.certificate.backward import (
    AffineRecord,
    affine_back,
    affine_box,
    pool,
    pool_back,
)
from keras_taps.verification.certificate.curves import CurveLines, image
from keras_taps.verification.certificate.deadline import NEVER
from keras_taps.verification.certificate.distance import distance_box
from keras_taps.verification.certificate.lines import (
    Branches,
    OwnLines,
    ReluLines,
    through_relu,
)
from keras_taps.verification.certificate.places import Crops
from keras_taps.verification.certificate.rounding import (
    MOST,
    ROUND,
    TINY,
    Form,
    largest,
    size_of,
    unit,
)
from keras_taps.verification.certificate.tightening import rows_of, signs_of
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.distance import Distance
from keras_taps.verification.graph.nodes import Linear, MaxPool, Relu, Reshape

_ALIKE = 0.8  # smallest share of the most unstable channels of a pixel to be asked with it


class Walk:
    """Bounds of one box of inputs.

    Args:
        absolutes: Dictionary that keeps the affine nodes with absolute coefficients.
        refine: Whether unstable neurons are bounded by a pass of their own.
        back: Whether forms of the outputs are sent back to the inputs.
        deadline: `Deadline`, looked at before every step of a pass.

    Attributes:
        boxes: Boxes of the inputs of the nonlinear nodes, in their order.
        known: Boxes of the nonlinear nodes that hold as well, or `None`.
        tightening: `Tightening` with which neurons are bounded once more, or `None`.
        neurons: Number of the neurons of ReLUs that the walk has met.
    """

    def __init__(self, absolutes, refine=True, back=True, deadline=NEVER):
        self.absolutes = absolutes
        self.refine, self.back, self.deadline = refine, back, deadline
        self.boxes, self.neurons = [], 0
        self.known = self.tightening = None

    def enter(self, nodes, box):
        """Forward; the records of the nodes up to the last that is not linear."""
        self.input = box
        tail = len(nodes)
        while tail and isinstance(nodes[tail - 1], Linear):
            tail -= 1
        self.head, self.tail = nodes[:tail], nodes[tail:]
        self.inner, records = self.forward(self.head, box, self._at_the_input)
        self.out, self.tail_records = self.forward(self.tail, self.inner, None)
        return records

    def leave(self, form, records):
        """Bounds on a form of the outputs, with these records on the way back."""
        form = self.backward(self.tail, self.tail_records, form)
        bounds = largest(form, self.inner)
        if self.back:
            back = self.backward(self.head, records, form)
            bounds = np.fmin(bounds, self.concretise(back))
        return np.where(np.isnan(bounds), np.inf, bounds)

    def concretise(self, form):
        """Largest values of a form of the inputs of the network."""
        return largest(form, self.input)

    def _at_the_input(self, form, own=None):
        return self.concretise(form)

    # Forward

    def forward(self, nodes, box, ask):
        """Box after the nodes, and what each needs on the way back.

        `ask` bounds a form of the inputs of these nodes by the inputs of the network; like `pull`
        it takes `OwnLines` of all neurons met before.
        """
        records, start = [], self.neurons
        for index, node in enumerate(nodes):
            before, known = nodes[:index], tuple(records)

            def pull(form, own=None, before=before, known=known):
                if own is None:
                    return self.pull(before, known, form, ask)
                return ask(self.backward(before, own.on(known, start), form), own)

            box, record = self._forward(node, box, pull)
            if not all(np.all(np.isfinite(bound)) for bound in box):
                box = tuple(np.full_like(bound, np.nan) for bound in box)  # no bound will be finite
            records.append(record)
        return box, records

    def _forward(self, node, box, pull):
        self.deadline.check()
        if isinstance(node, Reshape):
            return tuple(bound.reshape(node.out_shape) for bound in box), AffineRecord(None, 0.0)
        if isinstance(node, Linear):
            return self._linear(node, box)
        if isinstance(node, Relu):
            box = self._between(box)
            box = self._refined(box, (box[0] < 0) & (box[1] > 0), pull)
            box = self._tightened(box, pull)
            self.boxes.append(box)
            self.neurons += box[0].size
            return through_relu(node.slope, box), ReluLines.of(box, node.slope)
        if isinstance(node, (Curve, MaxPool)):
            box = self._between(box)
            box = self._refined(box, box[0] < box[1], pull)
            self.boxes.append(box)
            return _curve(node, box) if isinstance(node, Curve) else pool(node, box)
        if isinstance(node, Distance):
            return distance_box(node, box)
        outs, records = [], []
        for branch in node.branches:
            out, record = self.forward(branch, box, pull)
            outs.append(out)
            records.append(record)
        lower, upper = (sum(out[side] for out in outs) for side in (0, 1))
        pad = len(outs) * sum(unit(size_of(out)) for out in outs) + TINY
        return (lower - pad, upper + pad), Branches(records, size_of(box))

    def _linear(self, node, box):
        boxes = tuple(bound[None] for bound in box)
        (lower, upper), record = affine_box(node, self.absolutes, boxes, size_of(box))
        return (lower[0], upper[0]), record

    def _refined(self, box, unstable, pull):
        """The box with every unstable neuron bounded by a pass back to the input."""
        if not self.refine or not unstable.any():
            return box
        shape = box[0].shape
        lower, upper = (bound.reshape(-1).copy() for bound in box)
        for neurons, form in asked(unstable):
            found = pull(form).reshape(len(neurons), 2, -1)
            lower[neurons] = np.fmax(lower[neurons], -found[:, 0])
            upper[neurons] = np.fmin(upper[neurons], found[:, 1])
        return lower.reshape(shape), upper.reshape(shape)

    def _tightened(self, box, pull):
        """The box with neurons bounded by passes whose slopes are given, then by cases."""
        given, start = self.tightening, self.neurons
        if given is None:
            return box
        shape = box[0].shape
        lower, upper = (bound.reshape(-1).copy() for bound in box)
        rows = rows_of(given.asked, start, start + lower.size)
        neurons = given.asked[rows] - start
        for side, bound, best in ((0, lower, np.fmax), (1, upper, np.fmin)):
            found = self._bounds(
                shape, neurons, np.full(len(neurons), side), given.slopes[rows, side], pull
            )
            bound[neurons] = best(bound[neurons], found)
        if given.cases is not None:
            self._by_cases(shape, lower, upper, pull)
        return lower.reshape(shape), upper.reshape(shape)

    def _by_cases(self, shape, lower, upper, pull):
        """Move bounds to the loosest that all cases of a row leave."""
        cases = self.tightening.cases.of(self.neurons, lower.size)
        if not len(cases.asked):
            return
        row, number = cases.numbered
        neurons, sides = cases.asked - self.neurons, cases.sides
        splits = cases.splits[row], number, cases.betas
        found = self._bounds(shape, neurons[row], sides[row], cases.slopes, pull, splits)
        signs = np.where(sides == 0, -1.0, 1.0)
        found = np.maximum.reduceat(signs[row] * found, np.flatnonzero(number == 0))
        below = sides == 0
        np.fmax.at(lower, neurons[below], -found[below])
        np.fmin.at(upper, neurons[~below], found[~below])

    def _bounds(self, shape, neurons, sides, levels, pull, splits=None):
        """Lower bounds where sides are 0 and upper where they are 1, infinite where there is none.

        Neurons are of this node, of this shape; `splits` are neurons, the number of a case and
        betas for each row.
        """
        start, size = self.neurons, int(np.prod(shape))
        signs = np.where(sides == 0, -1.0, 1.0)
        found = np.zeros(len(neurons))
        chunk = max(1, MOST // max(self.input[0].size, start + size))
        for first in range(0, len(neurons), chunk):
            part = slice(first, first + chunk)
            rows = np.zeros((len(neurons[part]), size))
            rows[np.arange(len(rows)), neurons[part]] = signs[part]
            nothing = np.zeros(len(rows))
            shares = self.tightening.shares(levels[part], start)
            split = () if splits is None else signs_of(*(own[part] for own in splits), start)
            own = OwnLines(shares, *split)
            found[part] = pull(Form(rows.reshape(-1, *shape), nothing, nothing), own)
        return signs * np.where(np.isnan(found), np.inf, found)

    def _between(self, box):
        """The box of a nonlinear node between the known bounds."""
        if self.known is None:
            return box
        known = self.known[len(self.boxes)]
        return np.fmax(box[0], known[0]), np.fmin(box[1], known[1])

    # Backward

    def pull(self, nodes, records, form, ask):
        """Bounds of a form after these nodes; in parts where its rows would be too many."""
        for index in range(len(nodes) - 1, -1, -1):
            node, place = nodes[index], form.place
            entries = max(place.entries(node.out_shape), place.before(node).entries(node.in_shape))
            if len(form.rows) > 1 and len(form.rows) * entries > MOST:
                before = nodes[: index + 1], records[: index + 1]
                return np.concatenate([self.pull(*before, p, ask) for p in form.parts(entries)])
            form = self._backward(node, records[index], form)
        return ask(form)

    def backward(self, nodes, records, form):
        """The form on the inputs of the first node."""
        for node, record in zip(reversed(nodes), reversed(records), strict=True):
            form = self._backward(node, record, form)
        return form

    def _backward(self, node, record, form):
        self.deadline.check()
        if isinstance(node, Linear):
            return affine_back(node, record, form)
        if isinstance(node, (Curve, Distance, Relu)):
            return record.back(form)
        if isinstance(node, MaxPool):
            return pool_back(node, record, form)
        target = form.place.before(node)
        rows, total = 0, form
        for branch, inner in zip(node.branches, record.records, strict=True):
            back = self.backward(branch, inner, replace(total, rows=form.rows, place=form.place))
            rows = rows + back.place.moved(back.rows, target, node.in_shape)
            error = back.place.dot(np.abs(back.rows), record.size)
            total = back.plus(0.0, 4 * len(record.records) * ROUND * error)
        return replace(total, rows=rows, place=target)


def asked(unstable):
    """Forms that ask for bounds on neurons.

    Args:
        unstable: Boolean array of the shape of one input of a nonlinear node: which to ask.

    Yields:
        `(neurons, form)`: an integer array `(P, R)` of numbers of neurons, in which one may come
        several times, and the form of P times R lower bounds and then R upper bounds.
    """
    if unstable.ndim == 3 and unstable.shape[0] * unstable.shape[1] > 1:
        yield from _asked_by_pixel(unstable)
        return
    neurons, size = np.flatnonzero(unstable), unstable.size
    chunk = max(1, MOST // (2 * size))
    for start in range(0, len(neurons), chunk):
        chosen = neurons[start : start + chunk]
        unit = np.zeros((len(chosen), size))
        unit[np.arange(len(chosen)), chosen] = 1.0
        rows = np.concatenate([-unit, unit]).reshape(-1, *unstable.shape)
        nothing = np.zeros(len(rows))
        yield chosen[None], Form(rows, nothing, nothing)


def _asked_by_pixel(unstable):
    """A crop of one pixel each; together those pixels that have about as many unstable channels."""
    height, width, channels = unstable.shape
    counts = unstable.sum(-1).reshape(-1)
    order = np.argsort(-counts, kind="stable")
    order = order[: np.count_nonzero(counts)]
    while len(order):
        most = counts[order[0]]
        group = order[(counts[order] >= _ALIKE * most)]
        group = group[: max(1, MOST // (2 * most * channels))]
        order = order[len(group) :]
        mine = unstable.reshape(-1, channels)[group]
        chosen = np.argsort(~mine, axis=1, kind="stable")[:, :most]
        chosen = np.where(np.take_along_axis(mine, chosen, 1), chosen, chosen[:, :1])
        unit = np.eye(channels)[chosen]
        rows = np.concatenate([-unit, unit], 1).reshape(-1, 1, 1, channels)
        origins = np.stack(np.divmod(group, width), -1)
        nothing = np.zeros(len(rows))
        place = Crops(origins, (1, 1), (height, width))
        yield group[:, None] * channels + chosen, Form(rows, nothing, nothing, place)


def _curve(node, box):
    return image(node, box), CurveLines.of(node, box)

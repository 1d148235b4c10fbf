"""Bounds on the domains of branch and bound: many boxes, forms and splits in one batch.

The engine and the Lagrangian that it descends are in one long file: neither is of use alone.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.attacks.pgd import maximise, step_sizes
from keras_taps.bounds.nodes import concretise, substitute
from keras_taps.bounds.optimise import optimise
from keras_taps.bounds.traces import with_multipliers, with_shift, with_slopes
from keras_taps.interval import Interval
from keras_taps.layers.residual import walk
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.graph.traverse import nonlinear
from keras_taps.verification.search.boxes import covering
from keras_taps.verification.search.branching import Sites
from keras_taps.verification.search.engine import BoundEngine
from keras_taps.verification.search.slopes import flat_slopes, pieces_of

ATTACK_STEPS = 3  # from the maximiser of each bound


class Domains(NamedTuple):
    """A batch of domains: parts of boxes in which some pre-activations are between limits.

    The N activations are numbered as in `RootBox`. A domain is about a convex combination of m
    forms.

    Args:
        lower: Array `(batch, ...)` of inputs.
        upper: Array of the same shape.
        forms: Array `(batch, m, outputs)`.
        offset: Array `(batch, m)`.
        low: Array `(batch, N)`, lower bounds of the pre-activations on the whole box.
        high: Array `(batch, N)`.
        floor: Array `(batch, N)`: pre-activations are at least these, infinite where nothing is
            known; of a ReLU 0 or infinite.
        ceiling: Array `(batch, N)`: likewise at most.
        slopes: Array `(batch, N)`, slopes of lower lines to start from; NaN for the usual ones.
        betas: Array `(batch, N)`, multipliers of the limits to start from: of the lower one where
            positive, of the upper one where negative.
        mix: Array `(batch, m)`, weights of the forms to start from.
    """

    lower: np.ndarray
    upper: np.ndarray
    forms: np.ndarray
    offset: np.ndarray
    low: np.ndarray
    high: np.ndarray
    floor: np.ndarray
    ceiling: np.ndarray
    slopes: np.ndarray
    betas: np.ndarray
    mix: np.ndarray


class Bounded(NamedTuple):
    """What was found about a batch of domains.

    Args:
        bounds: Array `(batch,)`, upper bounds of the combination of the forms.
        slopes: Array `(batch, N)` that gives the bound, as do the next two.
        betas: Array `(batch, N)`.
        mix: Array `(batch, m)`.
        rows: Array `(batch, N)`: how much the bound depends on each activation.
        inner: Array `(batch, N)`: pre-activations where the relaxation takes its maximum.
        outer: Array `(batch, N)`: activations there.
        points: Array `(batch, ...)` of inputs, from where the bound is largest by a few steps of
            an attack.
        values: Array `(batch,)`: the smallest of the m forms there.
    """

    bounds: np.ndarray
    slopes: np.ndarray
    betas: np.ndarray
    mix: np.ndarray
    rows: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    points: np.ndarray
    values: np.ndarray


class DomainEngine(BoundEngine):
    """`BoundEngine` that also bounds domains, with multipliers for splits.

    Args:
        graph: `Graph` without pooling by maxima.
        batch_size: Boxes at a time in the bounds of whole boxes.
        memory: As in `BoundEngine`.

    References:
        Wang et al., "Beta-CROWN", 2021.
    """

    def __init__(self, graph, batch_size=32, memory=2**28):
        self.network = build_network(graph)
        super().__init__(self.network, batch_size, memory)
        self.shapes = [node.in_shape for node in nonlinear(graph.nodes)]
        self.curved = np.isnan(Sites(graph).kinks)

    def domains(self, domains, size, iterations=10, rates=(0.1, 1.0, 0.01)):
        """Bound domains by a Lagrangian whose slopes and multipliers are optimised.

        Args:
            domains: `Domains`, at most `size` of them.
            size: Entries to which the batch is padded: one compilation each.
            iterations: Steps of the optimiser; it stops when all bounds are below 0.
            rates: Learning rates of slopes; of split multipliers, relative to how much the bound
                depends on a neuron; of weights of forms.

        Returns:
            `Bounded`.
        """

        def run(box, domains):
            return self._bounded(box, Domains(None, None, *domains), iterations, rates)

        shape = (size, domains.forms.shape[1], iterations, rates)
        box, rest = domains[:2], list(domains[2:])
        found = self._call(("domains", *shape), run, box, rest, size=size)
        return Bounded(*found)

    def quick(self, domains, size):
        """Bounds `(batch,)` of domains by the multipliers that they come with, without a search."""

        def run(box, domains):
            relaxation = _Relaxation(self, box, Domains(None, None, *domains))
            return relaxation.bound(relaxation.start)[:, 0]

        key = ("quick", size, domains.forms.shape[1])
        return self._call(key, run, domains[:2], list(domains[2:]), size=size)

    def sloped(self, task, boxes):
        """Slopes of the forms of a task between boxes, where no stage before has found any."""
        query = task.query
        boxes = [covering(low[None], high[None]) for low, high in boxes]
        box = covering(query.lower[None], query.upper[None])
        return self.alpha_crown(*box, query.forms[None], query.offset[None], boxes)[1][0]

    def relax(self, box, low, high):
        """Traces of a box whose pre-activations `(batch, N)` have these bounds."""
        return self._walk(box, list(zip(self._cut(low), self._cut(high), strict=True)))[1]

    def slope_ranges(self, low, high):
        """Between which slopes `(batch, N)` the lower lines may be, on such pre-activations."""
        if not self.sites:
            return low, high
        boxes = zip(self.sites, self._cut(low), self._cut(high), strict=True)
        found = [node.slopes_on(Interval(*box)) for node, *box in boxes]
        sides = zip(*found, strict=True)
        return [ops.concatenate([_flat(values) for values in side], -1) for side in sides]

    def _cut(self, values):
        """Values `(batch, N)` in the shapes of the activations."""
        start, found = 0, []
        for shape in self.shapes:
            size = int(np.prod(shape))
            found.append(ops.reshape(values[:, start : start + size], (-1, *shape)))
            start += size
        return found

    def back(self, traces, form, offset):
        """Rows and constants on the inputs, from forms `(batch, n, outputs)`."""
        return substitute(self._nodes, traces, *self._rows(form, offset))

    def _bounded(self, box, given, iterations, rates):
        relaxation = _Relaxation(self, box, given)
        start = relaxation.start
        bounds, best = optimise(
            relaxation.bound,
            start,
            *relaxation.limits(),
            iterations,
            relaxation.rates(rates),
            enough=0.0,
        )
        slopes, betas, mix = relaxation.parts(best)
        betas = relaxation.pushes(betas)[0]
        rows, outer, inner = relaxation.primal(best)
        # The box's corner where the bound is largest, then a few steps of an attack from there.
        wide = Interval(*(ops.expand_dims(side, 1) for side in box))
        corner = wide.centre + wide.radius * ops.sign(relaxation.rows(best))
        points, values = maximise(
            lambda points: self._smallest(points, given.forms, given.offset),
            ops.minimum(ops.maximum(corner, wide.lower), wide.upper),
            wide,
            step_sizes(ATTACK_STEPS),
        )
        found = (bounds[:, 0], slopes, betas, mix, rows, inner, outer)
        return *found, points[:, 0], values[:, 0]

    def _smallest(self, points, forms, offset):
        """Smallest form `(batch, 1)` at points `(batch, 1, ...)`."""
        outputs = walk(self.network.layers, points[:, 0])
        values = ops.sum(forms * outputs[:, None], -1) + offset
        return ops.min(values, -1, keepdims=True)


def _flat(values):
    """Values `(batch, ...)` as `(batch, count)`."""
    return ops.reshape(values, (-1, int(np.prod(values.shape[1:]))))


class _Relaxation:
    """The Lagrangian bound of a batch of domains as a function of its parameters.

    Parameters `(batch, 1, count)` are slopes, betas and the mix, one after the other. The beta of a
    ReLU belongs to the side on which it is split; curves have a second one, of their upper limit,
    after the first N.
    """

    def __init__(self, engine, box, given):
        self.engine, self.box, self.given = engine, box, given
        low, high = ops.maximum(given.low, given.floor), ops.minimum(given.high, given.ceiling)
        self.traces = engine.relax(box, low, high)
        self.ranges = engine.slope_ranges(given.low, given.high)
        curved = engine.curved
        self.bent, self.crossing = (
            np.flatnonzero(curved).astype("int32"),
            ops.cast(ops.logical_or(curved, ops.logical_and(low < 0, high > 0)), low.dtype),
        )
        self.nothing = ops.zeros_like(low)
        above, below = given.floor > -np.inf, given.ceiling < np.inf
        self.points = [  # 0 where there is none, and for ReLUs
            ops.where(above, given.floor, 0.0),
            self._of_curves(ops.where(below, given.ceiling, 0.0)),
        ]
        above, below = (ops.cast(side, low.dtype) for side in (above, below))
        self.sides = ops.where(curved, above, above - below), -self._of_curves(below)
        slopes = ops.where(ops.isnan(given.slopes), flat_slopes(self.traces)[:, 0], given.slopes)
        betas = (
            ops.relu(given.betas * self.sides[0]),
            ops.relu(self._of_curves(given.betas) * self.sides[1]),
        )
        parts = slopes, ops.concatenate(betas, -1), given.mix
        self.start = ops.concatenate(parts, -1)[:, None]
        self.ends = np.cumsum([part.shape[-1] for part in parts])[:-1].tolist()

    def _of_curves(self, values):
        """The columns of values `(batch, N)` that belong to curves."""
        return ops.take(values, self.bent, axis=-1)

    def pushes(self, betas):
        """What betas add to the rows of pre-activations, and to the constants.

        Returns:
            `(pushes, constant)`: `(batch, N)`, and `(batch, 1)`.
        """
        size = self.nothing.shape[-1]
        first, second = betas[:, :size] * self.sides[0], betas[:, size:] * self.sides[1]
        constant = ops.sum(first * self.points[0], -1) + ops.sum(second * self.points[1], -1)
        if len(self.bent):
            places = np.full(size, len(self.bent), "int32")
            places[self.bent] = np.arange(len(self.bent))
            second = ops.concatenate([second, self.nothing[:, :1]], -1)
            first = first + ops.take(second, places, axis=-1)
        return first, -constant[:, None]

    def parts(self, parameters):
        """Slopes, betas and the mix, which sums to 1; arrays `(batch, ...)`."""
        *rest, mix = (part[:, 0] for part in ops.split(parameters, self.ends, axis=-1))
        mix = mix + 1e-12  # or all weights may become 0, and the form with them
        return *rest, mix / ops.sum(mix, -1, keepdims=True)

    def limits(self):
        """Smallest and largest parameters: slopes in their ranges, multipliers at least 0."""
        least, most = self.ranges
        others = ops.zeros_like(self.start[:, 0, least.shape[-1] :])
        floor = ops.concatenate([least, others], -1)
        return floor[:, None], ops.concatenate([most, others + np.inf], -1)[:, None]

    def rates(self, rates):
        """Learning rate of each parameter, slopes in shares of their range; that of betas in units
        of what the bound depends on.
        """
        weight = ops.sum(ops.abs(self.primal(self.start)[0]) * self.crossing, -1)
        weight = weight / (ops.sum(self.crossing, -1) + 1.0) + 1e-6
        slopes, betas, mix = ops.split(ops.ones_like(self.start), self.ends, axis=-1)
        slopes = (self.ranges[1] - self.ranges[0])[:, None]
        betas = betas * weight[:, None, None]
        parts = rates[0] * slopes, rates[1] * betas, rates[2] * mix
        return ops.concatenate(parts, -1)

    def bound(self, parameters):
        """Upper bounds `(batch, 1)`."""
        return self._bound(parameters, self.nothing, self.nothing)

    def rows(self, parameters):
        """Rows `(batch, 1, ...)` of the bound on the inputs."""
        return self._back(parameters, self.nothing, self.nothing)[0]

    def primal(self, parameters):
        """What the bound depends on, and where the relaxation is largest.

        Returns:
            `(rows, outer, inner)`, each `(batch, N)`: the derivative of the bound by each
            activation, and the activation and pre-activation of the maximiser, which are the
            derivatives by what is added to the rows there.
        """

        def moved(stack):
            return self._bound(parameters, stack[:, 1], stack[:, 2], stack[:, 0])

        gradient = backend.input_gradient(moved, ops.stack([self.nothing] * 3, 1))[1]
        return gradient[:, 0], gradient[:, 1], gradient[:, 2]

    def _bound(self, parameters, outer, inner, shift=None):
        return concretise(self.box, *self._back(parameters, outer, inner, shift))

    def _back(self, parameters, outer, inner, shift=None):
        given = self.given
        slopes, betas, mix = self.parts(parameters)
        form = ops.sum(mix[..., None] * given.forms, 1, keepdims=True)
        offset = ops.sum(mix * given.offset, 1, keepdims=True)
        pushes, constant = self.pushes(betas)
        inner, offset = inner + pushes, offset + constant
        traces = with_slopes(self.traces, self._pieces(slopes))
        if shift is not None:
            traces = with_shift(traces, self._pieces(shift))
        traces = with_multipliers(traces, self._pieces(outer), self._pieces(inner))
        return self.engine.back(traces, form, offset)

    def _pieces(self, values):
        return iter(pieces_of(self.traces, values[:, None]))

"""Bounds on the domains of branch and bound: many boxes, forms and splits in one batch."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.attacks.pgd import maximise, step_sizes
from keras_taps.bounds.nodes import (
    concretise,
    substitute,
    with_multipliers,
    with_shift,
    with_slopes,
)
from keras_taps.bounds.optimise import optimise
from keras_taps.interval import Interval
from keras_taps.layers.residual import walk
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.graph.traverse import nonlinear
from keras_taps.verification.search.engine import BoundEngine, flat_slopes, pieces_of

ATTACK_STEPS = 3  # from the maximiser of each bound


class Domains(NamedTuple):
    """A batch of domains: parts of boxes in which some pre-activations have a known sign.

    The N activations are numbered as in `RootBox`. A domain is about a convex combination of m
    forms, and has C cuts of K neurons.

    Args:
        lower: Array `(batch, ...)` of inputs.
        upper: Array of the same shape.
        forms: Array `(batch, m, outputs)`.
        offset: Array `(batch, m)`.
        low: Array `(batch, N)`, lower bounds of the pre-activations on the whole box.
        high: Array `(batch, N)`.
        signs: Array `(batch, N)`: 1 where z >= 0, -1 where z <= 0, 0 where nothing is known.
        slopes: Array `(batch, N)`, slopes of lower lines to start from; NaN for the usual ones.
        betas: Array `(batch, N)`, multipliers of the splits to start from.
        mix: Array `(batch, m)`, weights of the forms to start from.
        gammas: Array `(batch, C)`, multipliers of the cuts to start from.
        members: Integer array `(batch, C, K)`.
        outer: Array `(batch, C, K)`.
        inner: Array `(batch, C, K)`.
        limit: Array `(batch, C)`: `outer . relu(z) + inner . z <= limit`.
    """

    lower: np.ndarray
    upper: np.ndarray
    forms: np.ndarray
    offset: np.ndarray
    low: np.ndarray
    high: np.ndarray
    signs: np.ndarray
    slopes: np.ndarray
    betas: np.ndarray
    mix: np.ndarray
    gammas: np.ndarray
    members: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    limit: np.ndarray


class Bounded(NamedTuple):
    """What was found about a batch of domains.

    Args:
        bounds: Array `(batch,)`, upper bounds of the combination of the forms.
        slopes: Array `(batch, N)` that gives the bound, as do the next three.
        betas: Array `(batch, N)`.
        mix: Array `(batch, m)`.
        gammas: Array `(batch, C)`.
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
    gammas: np.ndarray
    rows: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    points: np.ndarray
    values: np.ndarray


class DomainEngine(BoundEngine):
    """`BoundEngine` that also bounds domains, with multipliers for splits and cuts.

    Args:
        graph: `Graph` without pooling by maxima.
        batch_size: Boxes at a time in the bounds of whole boxes.
        memory: As in `BoundEngine`.

    References:
        Wang et al., "Beta-CROWN", 2021; Ferrari et al., "Complete Verification via Multi-Neuron
        Relaxation Guided Branch-and-Bound" (MN-BaB), 2022.
    """

    def __init__(self, graph, batch_size=32, memory=2**28):
        self.network = build_network(graph)
        super().__init__(self.network, batch_size, memory)
        self.shapes = [node.in_shape for node in nonlinear(graph.nodes)]

    def domains(self, domains, size, iterations=10, rates=(0.1, 1.0, 0.01)):
        """Bound domains by a Lagrangian whose slopes and multipliers are optimised.

        Args:
            domains: `Domains`, at most `size` of them.
            size: Entries to which the batch is padded: one compilation each.
            iterations: Steps of the optimiser; it stops when all bounds are below 0.
            rates: Learning rates of slopes; of split multipliers, relative to how much the bound
                depends on a neuron; of cuts and weights of forms.

        Returns:
            `Bounded`.
        """

        def run(box, domains):
            return self._bounded(box, Domains(None, None, *domains), iterations, rates)

        shape = (size, domains.forms.shape[1], domains.members.shape[1:], iterations, rates)
        box, rest = domains[:2], list(domains[2:])
        found = self._call(("domains", *shape), run, box, rest, size=size)
        return Bounded(*found)

    def quick(self, domains, size):
        """Bounds `(batch,)` of domains by the multipliers that they come with, without a search."""

        def run(box, domains):
            relaxation = _Relaxation(self, box, Domains(None, None, *domains))
            return relaxation.bound(relaxation.start)[:, 0]

        key = ("quick", size, domains.forms.shape[1], domains.members.shape[1:])
        return self._call(key, run, domains[:2], list(domains[2:]), size=size)

    def relax(self, box, low, high):
        """Traces of a box whose pre-activations `(batch, N)` have these bounds."""
        start, boxes = 0, []
        for shape in self.shapes:
            size = int(np.prod(shape))
            boxes.append(
                tuple(ops.reshape(b[:, start : start + size], (-1, *shape)) for b in (low, high))
            )
            start += size
        return self._walk(box, boxes)[1]

    def back(self, traces, form, offset):
        """Rows and constants on the inputs, from forms `(batch, n, outputs)`."""
        return substitute(self._nodes, traces, *self._rows(form, offset))

    def _bounded(self, box, given, iterations, rates):
        relaxation = _Relaxation(self, box, given)
        start = relaxation.start
        bounds, best = optimise(
            relaxation.bound,
            start,
            *relaxation.limits(self._slope_limits(relaxation.traces)[0]),
            iterations,
            relaxation.rates(rates),
            enough=0.0,
        )
        slopes, betas, gammas, mix = relaxation.parts(best)
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
        found = (bounds[:, 0], slopes, betas, mix, gammas, rows, inner, outer)
        return *found, points[:, 0], values[:, 0]

    def _smallest(self, points, forms, offset):
        """Smallest form `(batch, 1)` at points `(batch, 1, ...)`."""
        outputs = walk(self.network.layers, points[:, 0])
        values = ops.sum(forms * outputs[:, None], -1) + offset
        return ops.min(values, -1, keepdims=True)


class _Relaxation:
    """The Lagrangian bound of a batch of domains as a function of its parameters.

    Parameters `(batch, 1, count)` are slopes, betas, gammas and the mix, one after the other.
    """

    def __init__(self, engine, box, given):
        self.engine, self.box, self.given = engine, box, given
        low = ops.where(given.signs > 0, ops.maximum(given.low, 0.0), given.low)
        high = ops.where(given.signs < 0, ops.minimum(given.high, 0.0), given.high)
        self.traces = engine.relax(box, low, high)
        self.crossing = ops.cast(ops.logical_and(low < 0, high > 0), low.dtype)
        self.nothing = ops.zeros_like(low)
        slopes = ops.where(ops.isnan(given.slopes), flat_slopes(self.traces)[:, 0], given.slopes)
        parts = slopes, given.betas, given.gammas, given.mix
        self.start = ops.concatenate(parts, -1)[:, None]
        self.ends = np.cumsum([part.shape[-1] for part in parts])[:-1].tolist()

    def parts(self, parameters):
        """Slopes, betas, gammas and the mix, which sums to 1; arrays `(batch, ...)`."""
        *rest, mix = (part[:, 0] for part in ops.split(parameters, self.ends, axis=-1))
        mix = mix + 1e-12  # or all weights may become 0, and the form with them
        return *rest, mix / ops.sum(mix, -1, keepdims=True)

    def limits(self, lowest):
        """Smallest and largest parameters: slopes are at most 1, multipliers at least 0."""
        others = self.start.shape[-1] - lowest.shape[0]
        floor = ops.concatenate([lowest, ops.zeros((others,), dtype=lowest.dtype)])
        ceiling = np.repeat([1.0, np.inf], [lowest.shape[0], others])
        return floor, ops.convert_to_tensor(ceiling, dtype=lowest.dtype)

    def rates(self, rates):
        """Learning rate of each parameter; that of betas in units of what the bound depends on."""
        weight = ops.sum(ops.abs(self.primal(self.start)[0]) * self.crossing, -1)
        weight = weight / (ops.sum(self.crossing, -1) + 1.0) + 1e-6
        slopes, betas, gammas, mix = ops.split(ops.ones_like(self.start), self.ends, axis=-1)
        betas = betas * weight[:, None, None]
        parts = rates[0] * slopes, rates[1] * betas, rates[2] * gammas, rates[2] * mix
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
        slopes, betas, gammas, mix = self.parts(parameters)
        form = ops.sum(mix[..., None] * given.forms, 1, keepdims=True)
        offset = ops.sum(mix * given.offset, 1, keepdims=True)
        inner = inner + given.signs * betas
        if given.members.shape[1]:
            outer = outer - self._scattered(gammas[..., None] * given.outer)
            inner = inner - self._scattered(gammas[..., None] * given.inner)
            offset = offset + ops.sum(gammas * given.limit, -1, keepdims=True)
        traces = with_slopes(self.traces, self._pieces(slopes))
        if shift is not None:
            traces = with_shift(traces, self._pieces(shift))
        traces = with_multipliers(traces, self._pieces(outer), self._pieces(inner))
        return self.engine.back(traces, form, offset)

    def _pieces(self, values):
        return iter(pieces_of(self.traces, values[:, None]))

    def _scattered(self, values):
        """Sums `(batch, N)` of values `(batch, C, K)` at the members of the cuts."""
        members = self.given.members
        flat = ops.reshape(members, (-1, members.shape[1] * members.shape[2]))
        values = ops.reshape(values, (-1, flat.shape[1]))
        return backend.transposed(
            lambda z: ops.take_along_axis(z, flat, axis=1), self.nothing, values
        )

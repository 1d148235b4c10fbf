"""The float64 checker of branch and bound: the leaves of a box, many at a time.

A leaf has some pre-activations between limits. Its bound is a Lagrangian: whatever the multipliers,
as long as they are >= 0, adding `beta (z - floor)`, `beta (ceiling - z)` and `gamma (limit - cut)`
for `cut <= limit` never makes a form smaller. So nothing from outside has to be believed:
multipliers are moved to where they are sound, the limits of cuts are derived here, and every number
that is added to a row pays for its rounding as in `rounding.py`.

Bounds and limits of cuts are in one long file, because each pays for rounding in terms of the
other.
"""

from functools import cached_property
from itertools import repeat
from typing import NamedTuple

import numpy as np

from keras_taps.verification.certificate.curves import CurveLines, slope_range
from keras_taps.verification.certificate.lines import (
    LayerCuts,
    LeafLines,
    ReluLines,
    by_layer,
    lines_of,
    multipliers,
    replaced,
)
from keras_taps.verification.certificate.octahedron import axes, directions, largest_over_octahedron
from keras_taps.verification.certificate.rounding import Form, dot, gamma, lost, size_of

_ROWS = 2**25  # bytes that rows may take at a time
_KINDS = ReluLines, CurveLines


class Cuts(NamedTuple):
    """Multi-neuron constraints `outer . act(z[members]) + inner . z[members] <= limit`.

    There is no limit: whoever uses a cut derives the smallest that it can prove.

    Args:
        members: Integer array `(C, K)`, K <= 3: numbers of neurons, in each row of one ReLU.
        outer: Array `(C, K)`, coefficients of the outputs of the ReLU.
        inner: Array `(C, K)`, coefficients of its inputs.
    """

    members: np.ndarray
    outer: np.ndarray
    inner: np.ndarray


class RootBox:
    """A box of inputs with rigorous boxes of all neurons, and bounds on its leaves.

    The neurons of ReLUs and curves are numbered in the depth-first order of the nodes, each node
    flattened. Made by `Checker.root`.

    Attributes:
        neurons: Number of neurons N.
        kinks: Array `(N,)`: the slope of each neuron's ReLU for negative inputs, NaN for curves.
        lower: Array `(N,)`, lower bounds of the neurons' inputs, NaN where one was not finite.
        upper: Array `(N,)`, upper bounds.

    Example:

    >>> dense = Dense(np.array([[1.0]]), np.zeros(1))
    >>> root = Checker(Graph((dense, Relu((1,)), dense))).root(np.array([-1.0]), np.array([2.0]))
    >>> leaves = np.array([[-np.inf], [-np.inf], [0]]), np.array([[np.inf], [0], [np.inf]])
    >>> root.upper_bounds(np.ones((3, 1)), np.full(3, -0.5), leaves).round(9)
    array([ 1.5, -0.5,  1.5])

    References:
        Wang et al. 2021, beta-CROWN; Ferrari et al. 2022, MN-BaB; Zhang et al. 2022, GCP-CROWN.
    """

    def __init__(self, walk, records, outputs, within):
        self._within, self._parts = within, {}
        self._walk = walk  # forward after it
        self._pulls, walk.pulls = walk.pulls, None  # of the nodes; they hold the walk
        self._records = records
        self._outputs = outputs
        self._lines = lines_of(records, _KINDS)
        self._widest = max(walk.input[0].size, *(low.size for low, _ in walk.boxes), 1)
        self._starts = np.cumsum([0, *(lines.size.size for lines in self._lines)])
        self._octahedra = {}  # limits by members
        self._limits = {}  # by members and coefficients
        self.neurons = int(self._starts[-1])
        self.kinks, self.lower, self.upper = (
            np.concatenate([np.zeros(0), *(np.ravel(value) for value in values)])
            for values in (
                [np.full(lines.size.size, _kink(lines)) for lines in self._lines],
                [lines.lower for lines in self._lines],
                [lines.upper for lines in self._lines],
            )
        )
        self._curved = np.isnan(self.kinks)

    @property
    def deadline(self):
        """The `Deadline` of all that is derived from here."""
        return self._walk.deadline

    @deadline.setter
    def deadline(self, deadline):
        self._walk.deadline = deadline

    @property
    def boxes(self):
        """List of the boxes of the inputs of every ReLU and max pooling, as in the checker."""
        return self._walk.boxes

    @property
    def layers(self):
        """List of pairs: where the numbers of each node's neurons begin and end."""
        return list(zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True))

    @property
    def empty(self):
        """Whether the limits contradict each other, in a part made by `within`."""
        return self._walk.empty

    def within(self, limits):
        """The part of the box where pre-activations are between limits, with boxes of its own.

        Args:
            limits: Pair of arrays `(N,)`, infinite where nothing is known.

        Returns:
            `RootBox`, whose bounds are about this part. The last few are kept.
        """
        limits = self._checked_limits(limits, (self.neurons,))
        key = b"".join(side.tobytes() for side in limits)
        if key in self._parts:
            self._parts[key] = self._parts.pop(key)  # now the youngest
        else:
            while len(self._parts) * 12 * 8 * self.neurons > _ROWS:
                self._parts.pop(next(iter(self._parts)))
            sides = (by_layer(side[None], self._lines) for side in limits)
            self._parts[key] = self._within(
                [(low[0], high[0]) for low, high in zip(*sides, strict=True)]
            )
        return self._parts[key]

    def usual_slopes(self):
        """Array `(N,)`: slopes of the lower lines that 'crown' takes."""
        return np.concatenate([np.zeros(0), *(lines.below.reshape(-1) for lines in self._lines)])

    @cached_property
    def slope_ranges(self):
        """Between which slopes lines are kept as bytes: `(least, most)`, arrays `(N,)`."""
        ranges = [(np.zeros(0), np.zeros(0))]
        with np.errstate(all="ignore"):
            for lines in self._lines:
                kinked = isinstance(lines, ReluLines)
                ends = (lines.slope, 1.0) if kinked else slope_range(lines.node, lines.box)
                ranges.append([np.broadcast_to(end, lines.size.shape).reshape(-1) for end in ends])
        return [np.concatenate(side) for side in zip(*ranges, strict=True)]

    def octahedra(self, members):
        """Proved upper bounds of all sums and differences of a few neurons of one ReLU.

        Args:
            members: Integer array `(G, K)`, as in `Cuts`.

        Returns:
            Array `(G, 3**K - 1)`, in the order of `octahedron.directions(K)`.
        """
        layer = np.searchsorted(self._starts, members[:, 0], side="right") - 1
        size = members.shape[1]
        found = np.zeros((len(members), len(directions(size))))
        with np.errstate(all="ignore"):
            for number in np.unique(layer):
                mine = layer == number
                found[mine] = self._octahedra_of(int(number), members[mine])
        return found

    def mixed(self, weights, forms, offset):
        """Combinations `weights @ forms` of forms, and what their rounding may hide.

        Args:
            weights: Array `(L, n)`; negative numbers and NaN count as 0.
            forms: Array `(n, outputs)`.
            offset: Array `(n,)`.

        Returns:
            `(forms, offset, error)` for `upper_bounds`: `(L, outputs)`, `(L,)` and `(L,)`.
        """
        weights = multipliers(weights)
        forms, offset = np.asarray(forms, "float64"), np.asarray(offset, "float64")
        size = size_of(self._walk.out)
        with np.errstate(all="ignore"):
            magnitude = weights @ (dot(np.abs(forms), size) + np.abs(offset))
            error = gamma(len(offset) + size.size) * magnitude + 2 * lost(size)
            return weights @ forms, weights @ offset, error

    def upper_bounds(
        self,
        forms,
        offset,
        limits=None,
        slopes=None,
        betas=None,
        cuts=None,
        gammas=None,
        error=None,
    ):
        """Upper bounds of a form of the outputs over each leaf, `forms @ outputs + offset`.

        Args:
            forms: Array `(L, outputs)`, a form a leaf.
            offset: Array `(L,)`.
            limits: Pair of arrays `(L, N)`: between which numbers each pre-activation is in the
                leaf, infinite where nothing is known; of a ReLU 0 or infinite. By default nothing.
            slopes: Array `(L, N)`: slopes of the lower lines of the neurons that are not split, and
                of curves. Lines are moved to where they are sound; NaN stands for what 'crown'
                takes.
            betas: Array `(L, N)`: multipliers of the limits, of the lower one where positive, of
                the upper one where negative. What belongs to no limit counts as 0.
            cuts: `Cuts`, or `None`.
            gammas: Array `(L, C)`: multipliers of the cuts. What is negative counts as 0, and so
                does what is not finite here and in betas.
            error: Array `(L,)` >= 0, added to the bounds: what `mixed` says. By default 0.

        Returns:
            Array `(L,)`. Infinite where a number was not finite on the way; -inf if the limits
            contradict the boxes, so that the leaf is empty.

        Raises:
            ValueError: If shapes do not fit, limits are none, or the members of a cut are not
                neurons of one ReLU.
        """
        forms, offset = np.asarray(forms, "float64"), np.asarray(offset, "float64")
        count = len(offset)
        self._check("forms", forms, (count, self._outputs))
        if limits is None:
            limits = (np.full((count, self.neurons), side * np.inf) for side in (-1, 1))
        limits = self._checked_limits(limits, (count, self.neurons))
        slopes, betas = (None if v is None else np.asarray(v) for v in (slopes, betas))
        for name, values in (("slopes", slopes), ("betas", betas)):
            if values is not None:
                self._check(name, values, (count, self.neurons))
        error = np.zeros(count) if error is None else np.maximum(error, 0.0)
        self._check("error", error, (count,))
        with np.errstate(all="ignore"):  # what is not finite ends as an infinite bound
            layers, gammas = self._cut_layers(cuts, gammas, count)
            chunk = max(1, _ROWS // (32 * self._widest))
            bounds = np.zeros(count)
            for start in range(0, count, chunk):
                part = slice(start, start + chunk)
                records = self._leaf_records(
                    *(side[part] for side in limits),
                    *(None if v is None else v[part] for v in (slopes, betas, gammas)),
                    layers,
                )
                form = Form(forms[part], offset[part], error[part])
                bounds[part] = self._walk.leave(form, records)
            bounds[self._empty(*limits)] = -np.inf
        return bounds

    def _empty(self, floor, ceiling):
        """Which rows of limits contradict the boxes or each other."""
        against = (floor > self.upper) | (ceiling < self.lower) | (floor > ceiling)
        return self.empty | np.any(against, 1)

    def _check(self, name, values, shape):
        if values.shape != shape:
            raise ValueError(f"`{name}` must have shape {shape}. Received: shape {values.shape}")

    def _checked_limits(self, limits, shape):
        floor, ceiling = (np.asarray(side, "float64") for side in limits)
        for side in (floor, ceiling):
            self._check("limits", side, shape)
        if not np.all((floor < np.inf) & (ceiling > -np.inf)):
            raise ValueError("`limits` must be numbers, or infinite where there is none.")
        fixed = [np.isfinite(side) & (side != 0) & ~self._curved for side in (floor, ceiling)]
        if np.any(fixed):
            raise ValueError("A ReLU is split at 0 alone.")
        return floor, ceiling

    def _leaf_records(self, floor, ceiling, slopes, betas, gammas, layers):
        """The records with lines of their own for each row of a chunk."""
        if betas is not None:
            betas = np.where(np.isfinite(np.where(betas > 0, floor, ceiling)), betas, 0.0)
            betas = np.where(np.isfinite(betas), betas, 0.0)
        floor, ceiling, slopes, betas = (
            repeat(None) if values is None else by_layer(values, self._lines)
            for values in (floor, ceiling, slopes, betas)
        )
        layers = iter(layers)

        def change(lines):
            limits, own_slopes, pushes = (next(floor), next(ceiling)), next(slopes), next(betas)
            cuts = next(layers)
            if isinstance(lines, CurveLines):
                lines = lines.in_leaves(limits, pushes)
                return lines if own_slopes is None else lines.with_slopes(own_slopes)
            if own_slopes is not None:
                lines = lines.with_slopes(np.asarray(own_slopes, "float64"))
            return LeafLines(
                **vars(lines),
                signs=np.isfinite(limits[0]).astype("int8") - np.isfinite(limits[1]),
                pushes=pushes,
                cuts=cuts,
                gammas=None if cuts is None else gammas[:, cuts.rows],
            )

        return replaced(self._records, change, _KINDS)

    # Cuts

    def _cut_layers(self, cuts, gammas, count):
        """The cuts that some leaf uses, for each ReLU, and the multipliers to use."""
        none = [None] * len(self._lines)
        if cuts is None or gammas is None or not len(cuts.members):
            return none, None
        members = np.asarray(cuts.members)
        outer, inner = (np.asarray(v, "float64") for v in (cuts.outer, cuts.inner))
        if members.ndim != 2 or members.dtype.kind not in "iu" or not 1 <= members.shape[1] <= 3:
            raise ValueError("`members` of the cuts must be whole numbers, 1 to 3 a row.")
        self._check("outer", outer, members.shape)
        self._check("inner", inner, members.shape)
        if members.min() < 0 or members.max() >= self.neurons:
            raise ValueError(f"`members` of the cuts must be in 0 .. {self.neurons - 1}.")
        layer = np.searchsorted(self._starts, members, side="right") - 1
        if np.any(layer != layer[:, :1]) or np.any(self._curved[members]):
            raise ValueError("The members of a cut must be neurons of one ReLU.")
        gammas = np.asarray(gammas)
        self._check("gammas", gammas, (count, len(members)))
        gammas = multipliers(gammas)
        used = gammas.any(0) & np.isfinite(outer).all(1) & np.isfinite(inner).all(1)
        found = []
        for number, lines in enumerate(self._lines):
            rows = np.flatnonzero(used & (layer[:, 0] == number))
            limits = self._limits_of(number, members[rows], outer[rows], inner[rows])
            known = np.isfinite(limits)  # a cut without a limit says nothing
            rows = rows[known]
            places = members[rows] - self._starts[number]
            found.append(
                LayerCuts(rows, places, outer[rows], inner[rows], limits[known], lines.size)
                if len(rows)
                else None
            )
        return found, gammas

    def _limits_of(self, number, members, outer, inner):
        """Proved limits `(C,)` of cuts on one ReLU, kept for the next leaves."""
        keys = [
            (row.tobytes(), a.tobytes(), b.tobytes())
            for row, a, b in zip(members.astype("int64"), outer, inner, strict=True)
        ]
        new = [i for i, key in enumerate(keys) if key not in self._limits]
        if new:
            found = largest_over_octahedron(
                self._octahedra_of(number, members[new]),
                outer[new],
                inner[new],
                self._lines[number].slope,
            )
            self._limits.update({keys[i]: limit for i, limit in zip(new, found, strict=True)})
        return np.array([self._limits[key] for key in keys])

    def _octahedra_of(self, number, members):
        """Bounds `(C, directions)` of all sums and differences of the members of each row."""
        groups = [tuple(row) for row in members.tolist()]
        new = [group for group in dict.fromkeys(groups) if group not in self._octahedra]
        if new:
            limits = self._pulled(number, np.array(new) - self._starts[number])
            self._octahedra.update(dict(zip(new, limits, strict=True)))
        return np.stack([self._octahedra[group] for group in groups])

    def _pulled(self, number, places):
        """Octahedra of neurons `places (G, K)` of a ReLU, each face by a pass to the input."""
        lines, pull = self._lines[number], self._pulls[number]
        size = places.shape[1]
        normals, (upper, lower) = directions(size), axes(size)
        limits = np.full((len(places), len(normals)), np.inf)
        limits[:, upper] = lines.upper.reshape(-1)[places]  # no pass is needed for the axes
        limits[:, lower] = -lines.lower.reshape(-1)[places]
        slanted = np.setdiff1d(np.arange(len(normals)), np.concatenate([upper, lower]))
        if not len(slanted):
            return limits
        chunk = max(1, _ROWS // (8 * self._widest * len(slanted)))
        for start in range(0, len(places), chunk):
            chosen = places[start : start + chunk]
            rows = np.zeros((len(chosen), len(slanted), lines.size.size))
            for k in range(size):  # a neuron named twice counts twice
                at = np.arange(len(chosen))[:, None], np.arange(len(slanted)), chosen[:, k, None]
                rows[at] += normals[slanted, k]
            rows = rows.reshape(-1, *lines.size.shape)
            nothing = np.zeros(len(rows))
            found = pull(Form(rows, nothing, nothing)).reshape(len(chosen), -1)
            limits[start : start + chunk, slanted] = found
        return limits


def _kink(lines):
    """Slope of a ReLU for negative inputs, NaN of a curve."""
    return np.nan if isinstance(lines, CurveLines) else lines.slope

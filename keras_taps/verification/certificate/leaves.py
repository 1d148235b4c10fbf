"""The float64 checker of branch and bound: the leaves of a box, many at a time.

A leaf has some pre-activations between limits. Its bound is a Lagrangian: whatever the multipliers,
as long as they are >= 0, adding `beta (z - floor)` and `beta (ceiling - z)` never makes a form
smaller. So nothing from outside has to be believed: multipliers are moved to where they are sound,
and every number that is added to a row pays for its rounding as in `rounding.py`.
"""

from functools import cached_property
from itertools import repeat

import numpy as np

from keras_taps.verification.certificate.curves import CurveLines, slope_range
from keras_taps.verification.certificate.lines import (
    LeafLines,
    ReluLines,
    by_layer,
    lines_of,
    multipliers,
    replaced,
)
from keras_taps.verification.certificate.rounding import Form, dot, gamma, lost, size_of

_ROWS = 2**25  # bytes that rows may take at a time
_KINDS = ReluLines, CurveLines


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
        Wang et al. 2021, beta-CROWN.
    """

    def __init__(self, walk, records, outputs):
        self._walk = walk  # forward after it
        self._records = records
        self._outputs = outputs
        self._lines = lines_of(records, _KINDS)
        self._widest = max(walk.input[0].size, *(low.size for low, _ in walk.boxes), 1)
        self.neurons = sum(lines.size.size for lines in self._lines)
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

    def upper_bounds(self, forms, offset, limits=None, slopes=None, betas=None, error=None):
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
                the upper one where negative. What belongs to no limit and what is
                not finite counts as 0.
            error: Array `(L,)` >= 0, added to the bounds: what `mixed` says. By default 0.

        Returns:
            Array `(L,)`. Infinite where a number was not finite on the way; -inf if the limits
            contradict the boxes, so that the leaf is empty.

        Raises:
            ValueError: If shapes do not fit or limits are none.
        """
        forms, offset = np.asarray(forms, "float64"), np.asarray(offset, "float64")
        count = len(offset)
        self._check("forms", forms, (count, self._outputs))
        if limits is None:
            limits = (np.full((count, self.neurons), side * np.inf) for side in (-1, 1))
        limits = self._checked_limits(limits, count)
        slopes, betas = (None if v is None else np.asarray(v) for v in (slopes, betas))
        for name, values in (("slopes", slopes), ("betas", betas)):
            if values is not None:
                self._check(name, values, (count, self.neurons))
        error = np.zeros(count) if error is None else np.maximum(error, 0.0)
        self._check("error", error, (count,))
        with np.errstate(all="ignore"):  # what is not finite ends as an infinite bound
            chunk = max(1, _ROWS // (32 * self._widest))
            bounds = np.zeros(count)
            for start in range(0, count, chunk):
                part = slice(start, start + chunk)
                given = (None if v is None else v[part] for v in (*limits, slopes, betas))
                records = self._leaf_records(*given)
                form = Form(forms[part], offset[part], error[part])
                bounds[part] = self._walk.leave(form, records)
            bounds[self._empty(*limits)] = -np.inf
        return bounds

    def _empty(self, floor, ceiling):
        """Which rows of limits contradict the boxes or each other."""
        against = (floor > self.upper) | (ceiling < self.lower) | (floor > ceiling)
        return np.any(against, 1)

    def _check(self, name, values, shape):
        if values.shape != shape:
            raise ValueError(f"`{name}` must have shape {shape}. Received: shape {values.shape}")

    def _checked_limits(self, limits, count):
        floor, ceiling = (np.asarray(side, "float64") for side in limits)
        for side in (floor, ceiling):
            self._check("limits", side, (count, self.neurons))
        if not np.all((floor < np.inf) & (ceiling > -np.inf)):
            raise ValueError("`limits` must be numbers, or infinite where there is none.")
        fixed = [np.isfinite(side) & (side != 0) & ~self._curved for side in (floor, ceiling)]
        if np.any(fixed):
            raise ValueError("A ReLU is split at 0 alone.")
        return floor, ceiling

    def _leaf_records(self, floor, ceiling, slopes, betas):
        """The records with lines of their own for each row of a chunk."""
        if betas is not None:
            betas = np.where(np.isfinite(np.where(betas > 0, floor, ceiling)), betas, 0.0)
            betas = np.where(np.isfinite(betas), betas, 0.0)
        floor, ceiling, slopes, betas = (
            repeat(None) if values is None else by_layer(values, self._lines)
            for values in (floor, ceiling, slopes, betas)
        )

        def change(lines):
            limits, own_slopes, pushes = (next(floor), next(ceiling)), next(slopes), next(betas)
            if isinstance(lines, CurveLines):
                lines = lines.in_leaves(limits, pushes)
                return lines if own_slopes is None else lines.with_slopes(own_slopes)
            if own_slopes is not None:
                lines = lines.with_slopes(np.asarray(own_slopes, "float64"))
            return LeafLines(
                **vars(lines),
                signs=np.isfinite(limits[0]).astype("int8") - np.isfinite(limits[1]),
                pushes=pushes,
            )

        return replaced(self._records, change, _KINDS)


def _kink(lines):
    """Slope of a ReLU for negative inputs, NaN of a curve."""
    return np.nan if isinstance(lines, CurveLines) else lines.slope

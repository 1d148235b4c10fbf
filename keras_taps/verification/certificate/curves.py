"""Rigorous boxes and lines of activations that are no pieces of lines.

A line of any slope s is sound once it is moved to where it belongs: below `f` by the smallest value
of `f(x) - s x` on the interval, above by the largest. Both are found piece by piece. On a convex
piece the largest value is at an end, and the tangent at any point is below: it is taken where the
slope of f is about s. So nothing rests on how well slopes and points were searched.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from keras_taps.verification.certificate.rounding import ROUND, TINY, gamma, lost, size_of
from keras_taps.verification.graph.curves import ERROR

_HALVINGS = 30
_GAP = 2.0**-49  # more than the distance of a knot that is not exact from its place


@dataclass(frozen=True)
class CurveLines:
    """Lines of an activation: `steep x + over` above, `below x + under` beneath.

    Args:
        node: `Curve`.
        box: Pair of arrays `(...)`, or `(n, ...)` with one for each form: the inputs for which the
            lines hold.
        steep: Array `(1, ...)`, or `(n, ...)` with a slope for each form.
        over: Array of the same shape.
        below: Array `(1, ...)` or `(n, ...)`.
        under: Array of the same shape.
        size: Array `(...)` that bounds |x|.
    """

    node: object
    box: tuple
    steep: np.ndarray
    over: np.ndarray
    below: np.ndarray
    under: np.ndarray
    size: np.ndarray

    @property
    def lower(self):
        """Lower end of the box."""
        return self.box[0]

    @property
    def upper(self):
        """Upper end of the box."""
        return self.box[1]

    @classmethod
    def of(cls, node, box):
        """The lines that have the smallest distance in the middle of the box."""
        below, steep = (_best_slope(node, box, side) for side in (-1, 1))
        under, over = extremes(node, box, below)[0], extremes(node, box, steep)[1]
        lines = (values[None] for values in (steep, over, below, under))
        return cls(node, box, *lines, size_of(box))

    def with_slopes(self, slopes):
        """Other slopes `(n, ...)`, with intercepts that are sound; NaN keeps the usual lines.

        A form meets one of the two lines, so one slope serves for both.
        """
        given = np.isfinite(slopes)
        slopes = np.where(given, slopes, 0.0)
        under, over = extremes(self.node, self.box, slopes)
        lines = {"steep": slopes, "over": over, "below": slopes, "under": under}
        return replace(
            self, **{n: np.where(given, own, getattr(self, n)) for n, own in lines.items()}
        )

    def back(self, form):
        """The form on the inputs, from the one on the outputs."""
        rising, falling = np.maximum(form.rows, 0), np.minimum(form.rows, 0)
        rows = form.place.times(rising, self.steep)
        rows += form.place.times(falling, self.below)  # of the two, one is 0
        moved = _dot(form.place, rising, self.over) + _dot(form.place, falling, self.under)
        total = _dot(form.place, rising, np.abs(self.over))
        total = total + _dot(form.place, -falling, np.abs(self.under))
        error = gamma(2 * self.size.size) * total + lost(self.size)
        error = error + 4 * ROUND * form.place.dot(np.abs(rows), self.size)
        return replace(form.plus(moved, error), rows=rows)

    def in_leaves(self, limits, pushes):
        """The lines of leaves, each drawn where the inputs are between its limits.

        Args:
            limits: Pair of arrays `(n, ...)`, infinite where nothing is known.
            pushes: Array `(n, ...)`: multipliers of the limits, of the lower ones where positive,
                of the upper ones where negative; or `None`.
        """
        box = tuple(np.broadcast_to(side, limits[0].shape) for side in self.box)
        cut = (limits[0] > box[0]) | (limits[1] < box[1])
        box = np.maximum(box[0], limits[0]), np.minimum(box[1], limits[1])
        fresh = CurveLines.of(self.node, tuple(side[cut] for side in box))
        drawn = {}
        for name in ("steep", "over", "below", "under"):
            drawn[name] = np.broadcast_to(getattr(self, name), cut.shape).copy()
            drawn[name][cut] = getattr(fresh, name)[0]
        return CurveLeaf(self.node, box, **drawn, size=self.size, limits=limits, pushes=pushes)


@dataclass(frozen=True)
class CurveLeaf(CurveLines):
    """Lines of each leaf, its `limits`, and their multipliers `pushes`, as `in_leaves` has them."""

    limits: tuple
    pushes: np.ndarray

    def back(self, form):
        form = super().back(form)
        if self.pushes is None:
            return form
        # push * (z - point) >= 0 for the limit on the side of its sign.
        point = np.where(self.pushes > 0, *self.limits)
        moved = np.where(self.pushes == 0, 0.0, self.pushes * point).reshape(len(form.rows), -1)
        rows = form.rows + self.pushes
        error = 4 * ROUND * form.place.dot(np.abs(rows), self.size) + lost(self.size)
        error = error + gamma(self.size.size) * np.abs(moved).sum(1)
        return replace(form.plus(-moved.sum(1), error), rows=rows)


def slope_range(node, box):
    """Between which slopes a line of an activation is worth a try, on boxes of its inputs.

    Those of the activation at both ends and where it bends another way between, and of its chord.

    Args:
        node: `Curve`.
        box: Pair of arrays `(...)`.

    Returns:
        `(least, most)`, arrays `(...)`.
    """
    lower, upper = box
    at = [lower, upper, *(np.clip(knot, lower, upper) for knot in node.known.knots)]
    wide = upper > lower
    chord = (node(upper) - node(lower)) / np.where(wide, upper - lower, 1.0)
    slopes = np.stack([*map(node.slope, at), np.where(wide, chord, node.slope(lower))])
    slopes = np.clip(slopes, node.known.flattest, node.known.steepest)
    return slopes.min(0), slopes.max(0)


def _dot(place, rows, values):
    """Inner products with one array, or of each row with its own."""
    if len(values) == 1:
        return place.dot(rows, values[0])
    return (rows * values).reshape(len(rows), -1).sum(1)


def image(node, box):
    """The smallest box that surely holds the outputs."""
    return extremes(node, box, np.zeros_like(box[0]))


def extremes(node, box, slope):
    """Bounds on `f(x) - slope * x` over a box.

    Args:
        node: `Curve`.
        box: Pair of arrays `(...)`.
        slope: Array `(...)` or `(n, ...)`.

    Returns:
        `(low, high)`, arrays of the shape of `slope`; NaN where a number was not finite.
    """
    low, high = np.full(slope.shape, np.inf), np.full(slope.shape, -np.inf)
    for a, b, bend in _pieces(node, box):
        ends = [_at(node, x, slope) for x in (a, b)]
        bottom = np.minimum(*(value - error for value, error in ends))
        top = np.maximum(*(value + error for value, error in ends))
        if bend > 0:
            bottom = _beneath(node, a, b, slope, 1.0)
        elif bend < 0:
            top = -_beneath(node, a, b, slope, -1.0)
        low, high = np.minimum(low, bottom), np.maximum(high, top)
    if not node.known.exact:
        # Between a knot and its place f bends the other way; |f''| < 1 there and |f'| < 2.
        gap = _GAP * (2 + np.abs(slope)) * (1 + box[1] - box[0])
        low, high = low - gap, high + gap
    finite = np.isfinite(low) & np.isfinite(high)
    return np.where(finite, low, np.nan), np.where(finite, high, np.nan)


def _pieces(node, box):
    """Parts `(a, b, bend)` of a box; where it has none of a piece, both are the nearer end."""
    lower, upper = box
    edges = (-math.inf, *node.known.knots, math.inf)
    for (left, right), bend in zip(pairwise(edges), node.known.bends, strict=True):
        a = np.minimum(np.maximum(lower, left), upper)
        yield a, np.maximum(np.minimum(upper, right), lower), bend


def _at(node, x, slope):
    """`f(x) - slope * x` at a point, and its error."""
    value, product = node(x), slope * x
    error = (ERROR + 4 * ROUND) * np.abs(value) + node.known.floor
    return value - product, error + 4 * ROUND * np.abs(product) + TINY


def _beneath(node, a, b, slope, sign):
    """At most `sign * (f(x) - slope * x)` on `[a, b]`, where `sign * f` is convex."""
    t = _touching(lambda x: sign * (node.slope(x) - slope) >= 0, a, b, slope.shape)
    value, error = _at(node, t, slope)
    steepness = node.slope(t)
    doubt = ERROR * (1 + np.abs(steepness))
    known = node.known
    rising = np.minimum(steepness + doubt, known.steepest) - slope
    falling = np.maximum(steepness - doubt, known.flattest) - slope
    if sign < 0:
        rising, falling = -falling, -rising
    drop = np.minimum(rising * (a - t), falling * (b - t)) * (1 + 8 * ROUND)
    return sign * value - error + np.minimum(drop, 0.0)


def _touching(reached, a, b, shape):
    """About the first point of `[a, b]` where a condition holds that then goes on to hold."""
    low, high = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
    first, last = reached(low), ~reached(high)
    start, end = low, high
    for _ in range(_HALVINGS):
        middle = low / 2 + high / 2
        found = reached(middle)
        low, high = np.where(found, low, middle), np.where(found, middle, high)
    return np.clip(np.where(first, start, np.where(last, end, high)), a, b)


def _best_slope(node, box, side):
    """Slope of the line above (side 1) or beneath (-1) that is nearest in the middle of the box.

    Tried are the chord, the tangent in the middle, and those from the ends of the box that touch
    a piece which bends the right way.
    """
    lower, upper = box
    middle, width = lower / 2 + upper / 2, upper - lower
    ends = node(lower), node(upper)
    tried = [node.slope(middle), (ends[1] - ends[0]) / np.where(width > 0, width, 1.0)]
    for a, b, bend in _pieces(node, box):
        if bend == -side:
            for end, value, way in ((lower, ends[0], 1), (upper, ends[1], -1)):

                def beyond(x, end=end, value=value, way=way):
                    return way * side * (node(x) - value - node.slope(x) * (x - end)) >= 0

                tried.append(node.slope(_touching(beyond, a, b, lower.shape)))
    best, distance = np.zeros(lower.shape), np.full(lower.shape, np.inf)
    for slope in tried:
        slope = np.clip(np.nan_to_num(slope), node.known.flattest, node.known.steepest)
        own = side * (slope * middle + extremes(node, box, slope)[0 if side < 0 else 1])
        best = np.where(own < distance, slope, best)
        distance = np.fmin(own, distance)
    return best

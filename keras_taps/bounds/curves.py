"""Lines of activations that bend: any slope, moved to where the function lies on one side of it.

On a convex piece the largest value of `f(x) - s x` is at an end, and the tangent where the slope of
f is about s is below it; concave pieces likewise. So lines of any slope are sound, however roughly
slopes and points of contact are searched, and slopes can be optimised.
"""

import math
from itertools import pairwise

from keras import ops

from keras_taps.bounds.lines import Lines

_HALVINGS = 14


def curve_lines(curve, function, box):
    """Lines of an activation whose distance in the middle of the box is smallest.

    Args:
        curve: `Curve`.
        function: Elementwise function of tensors.
        box: `Interval` of inputs.

    Returns:
        `Lines`. The slopes are constants of the gradient.

    References:
        Zhang et al. 2018 (CROWN); Shi et al., "Neural Network Verification with Branch-and-Bound
        for General Nonlinearities", 2024.
    """
    fixed = type(box)(*map(ops.stop_gradient, box))
    below, steep = (ops.stop_gradient(_best(curve, function, fixed, side)) for side in (-1, 1))

    def around(slope):
        return extremes(curve, function, box, slope)

    return Lines(steep, around(steep)[1], below, around(below)[0], around)


def parallel_curve_lines(curve, function, box):
    """Parallel lines of an activation, with the slope of its chord."""
    fixed = type(box)(*map(ops.stop_gradient, box))
    width = fixed.width
    wide = width > 1e-6
    chord = (function(fixed.upper) - function(fixed.lower)) / ops.where(wide, width, 1.0)
    slope = ops.stop_gradient(ops.where(wide, chord, 0.0))
    under, over = extremes(curve, function, box, slope)
    return Lines(slope, over, slope, under)


def extremes(curve, function, box, slope):
    """Bounds on `f(x) - slope * x` over a box.

    Args:
        curve: `Curve`.
        function: Elementwise function of tensors.
        box: `Interval` of tensors.
        slope: Tensor that broadcasts with a bound.

    Returns:
        `(low, high)`.
    """
    low = high = None
    for a, b, bend in _pieces(curve, box):
        ends = [function(x) - slope * x for x in (a, b)]
        bottom, top = ops.minimum(*ends), ops.maximum(*ends)
        if bend > 0:
            bottom = _beneath(curve, function, a, b, slope, 1.0)
        elif bend < 0:
            top = -_beneath(curve, function, a, b, slope, -1.0)
        low = bottom if low is None else ops.minimum(low, bottom)
        high = top if high is None else ops.maximum(high, top)
    return low, high


def _pieces(curve, box):
    """Parts `(a, b, bend)` of a box; where it has none of a piece, both are the nearer end."""
    lower, upper = box
    edges = (-math.inf, *curve.knots, math.inf)
    for (left, right), bend in zip(pairwise(edges), curve.bends, strict=True):
        a = ops.minimum(ops.maximum(lower, left), upper)
        yield a, ops.maximum(ops.minimum(upper, right), lower), bend


def _beneath(curve, function, a, b, slope, sign):
    """At most `sign * (f(x) - slope * x)` on `[a, b]`, where `sign * f` is convex."""
    fixed = ops.stop_gradient(slope)
    shape = ops.zeros_like(a + slope)
    start, end = (ops.stop_gradient(x) + ops.stop_gradient(shape) for x in (a, b))
    t = _touching(lambda x: sign * (curve.slope(x) - fixed) >= 0, start, end)
    value = sign * (function(t) - slope * t)
    # Nearly 0 where the line touches, and then its derivative by the slope would be noise.
    rising = sign * (curve.slope(t) - fixed)
    return value + ops.minimum(ops.minimum(rising * (a - t), rising * (b - t)), 0.0)


def _touching(reached, start, end):
    """About the first point between tensors from which on a condition holds."""

    def halve(_, sides):
        low, high = sides
        middle = (low + high) / 2
        found = reached(middle)
        return ops.where(found, low, middle), ops.where(found, middle, high)

    _, high = ops.fori_loop(0, _HALVINGS, halve, (start, end))
    high = ops.where(reached(start), start, ops.where(reached(end), high, end))
    return ops.stop_gradient(high)


def slope_range(curve, function, box):
    """Between which slopes a line of an activation is worth a try, on boxes of its inputs.

    Those of the activation at both ends and where it bends another way between, and of its chord.

    Args:
        curve: `Curve`.
        function: Elementwise function of tensors.
        box: `Interval` of tensors.

    Returns:
        `(least, most)`.
    """
    lower, upper = box
    wide = box.width > 1e-6
    chord = (function(upper) - function(lower)) / ops.where(wide, box.width, 1.0)
    knots = (ops.minimum(ops.maximum(knot, lower), upper) for knot in curve.knots)
    slopes = [curve.slope(x) for x in (lower, upper, *knots)]
    slopes = ops.stack([*slopes, ops.where(wide, chord, slopes[0])])
    slopes = ops.clip(slopes, curve.flattest, curve.steepest)
    return ops.min(slopes, 0), ops.max(slopes, 0)


def _best(curve, function, box, side):
    """Slope of the line above (side 1) or beneath (-1) that is nearest in the middle of the box.

    Tried are the chord, the tangent in the middle, and those from the ends of the box that touch
    a piece which bends the right way.
    """
    lower, upper = box
    middle, width = (lower + upper) / 2, upper - lower
    ends = function(lower), function(upper)
    wide = width > 1e-6
    tangent = curve.slope(middle) if any(curve.bends) else ops.zeros_like(middle)
    chord = ops.where(wide, (ends[1] - ends[0]) / ops.where(wide, width, 1.0), tangent)
    tried = [tangent, chord]
    if 0 in curve.bends:
        tried += [ops.full_like(middle, curve.flattest), ops.full_like(middle, curve.steepest)]
    for a, b, bend in _pieces(curve, box):
        if bend == -side:
            for end, value, way in ((lower, ends[0], 1), (upper, ends[1], -1)):

                def beyond(x, end=end, value=value, way=way):
                    return way * side * (function(x) - value - curve.slope(x) * (x - end)) >= 0

                tried.append(curve.slope(_touching(beyond, a, b)))
    slopes = ops.clip(ops.stack(tried), curve.flattest, curve.steepest)
    found = extremes(curve, function, type(box)(lower[None], upper[None]), slopes)
    distance = side * (slopes * middle + found[0 if side < 0 else 1])
    best = ops.argmin(distance, axis=0)
    chosen = ops.one_hot(best, len(tried), axis=0, dtype=slopes.dtype)
    return ops.sum(chosen * slopes, axis=0)

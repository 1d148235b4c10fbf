"""Pairs of lines between which an activation lies on an interval."""

from typing import NamedTuple

from keras import ops

from keras_taps import backend


class Lines(NamedTuple):
    """Two lines with `lower_slope x + lower_intercept <= f(x) <= upper_slope x + upper_intercept`.

    Args:
        upper_slope: Tensor, one slope a coordinate.
        upper_intercept: Tensor of the same shape.
        lower_slope: Tensor of the same shape.
        lower_intercept: Tensor of the same shape.
        around: Function from other slopes `(batch, n, ...)` to the intercepts of lower and of upper
            lines with them, or `None` if only lower lines have others, all of which pass through 0.
    """

    upper_slope: object
    upper_intercept: object
    lower_slope: object
    lower_intercept: object
    around: object = None


class Lagrangian(NamedTuple):
    """Lines of activations, and what multipliers of constraints on them add to rows going back.

    Args:
        lines: `Lines`.
        outer: Tensor `(batch, n, ...)`, added to the rows of the outputs.
        inner: Tensor of the same shape, added to the rows of the inputs.
    """

    lines: Lines
    outer: object
    inner: object


def given_lines(lines, box):
    """Lines that somebody says of a function: of his slopes, or of any others between his two.

    Args:
        lines: Function from the bounds of a box to the slope and the intercept of a line below the
            function and those of a line above it.
        box: `Interval` of inputs.

    Returns:
        `Lines`.

    Example:

    >>> box = Interval(ops.array([0.0]), ops.array([2.0]))  # x**2 from a tangent to the chord
    >>> square = given_lines(lambda l, u: (l + u, -(((l + u) / 2) ** 2), l + u, -l * u), box)
    >>> [float(side[0]) for side in square.around(ops.zeros(1))]
    [-1.0, 4.0]
    """
    low_slope, low, up_slope, up = lines(*box)

    def around(slope):
        below, above = low_slope - slope, up_slope - slope  # what is left is largest at an end
        under = ops.minimum(below * box.lower, below * box.upper) + low
        return under, ops.maximum(above * box.lower, above * box.upper) + up

    return Lines(up_slope, up, low_slope, low, around)


def parallel_given_lines(lines, box):
    """The same with one slope for both lines, the mean of the two."""
    found = given_lines(lines, box)
    slope = (found.lower_slope + found.upper_slope) / 2
    under, over = found.around(slope)
    return Lines(slope, over, slope, under, found.around)


def kinked_lines(slope, box):
    """Lines of a ReLU or leaky ReLU, `max(x, slope x)`: the chord above, a slope through 0 below.

    Below, a crossing neuron takes slope 1 if it is active on the larger part of its interval and
    `slope` otherwise, which makes the area between the lines smallest.

    Args:
        slope: Number in [0, 1], the slope on negative inputs.
        box: `Interval` of inputs.

    Returns:
        `Lines`.

    Example:

    >>> lines = kinked_lines(0.0, Interval(ops.array([-1.0]), ops.array([3.0])))
    >>> float(lines.upper_slope[0]), float(lines.upper_intercept[0]), float(lines.lower_slope[0])
    (0.75, 0.75, 1.0)

    References:
        Zhang et al., "Efficient Neural Network Robustness Certification with General Activation
        Functions" (CROWN), 2018.
    """
    lower, upper = box
    active, inactive = lower >= 0, upper <= 0
    crossing = ops.logical_and(lower < 0, upper > 0)
    # Elsewhere the width may be 0, and a quotient that is not taken still has a gradient.
    chord = (upper - slope * lower) / ops.where(crossing, upper - lower, 1.0)
    steep = ops.where(active, 1.0, ops.where(inactive, slope, chord))
    intercept = ops.where(crossing, upper * (1 - chord), 0.0)
    below = ops.where(ops.logical_or(active, upper > -lower), 1.0, slope)
    below = ops.where(inactive, slope, ops.cast(below, lower.dtype))
    return Lines(steep, intercept, below, ops.zeros_like(lower))


def parallel_lines(slope, box):
    """Parallel lines of a ReLU or leaky ReLU, `max(x, slope x)`: the chord, and it moved to 0.

    Args:
        slope: Number in [0, 1], the slope on negative inputs.
        box: `Interval` of inputs.

    Returns:
        `Lines`.

    Example:

    >>> lines = parallel_lines(0.0, Interval(ops.array([-1.0]), ops.array([3.0])))
    >>> float(lines.upper_slope[0]), float(lines.upper_intercept[0]), float(lines.lower_slope[0])
    (0.75, 0.75, 0.75)

    References:
        Wong and Kolter 2018; Weng et al. 2018 (Fast-Lin); Singh et al., "Fast and Effective
        Robustness Certification" (DeepZ), 2018.
    """
    chord = kinked_lines(slope, box)
    return chord._replace(lower_slope=chord.upper_slope)


def monotone_lines(function, box):
    """Parallel lines of a non-decreasing function whose derivative has no dip inside an interval.

    The slope is the smaller derivative of the two ends, a little less for rounding; the lines
    pass through the ends. A ReLU with a threshold, which jumps, is of this kind and has no other
    lines. The slope is a constant of the gradient.

    Args:
        function: Elementwise function of tensors.
        box: `Interval` of inputs.

    Returns:
        `Lines`.

    References:
        Singh et al., "An Abstract Domain for Certifying Neural Networks" (DeepPoly), 2019.
    """
    ends = [backend.input_gradient(function, ops.stop_gradient(bound))[1] for bound in box]
    slope = ops.stop_gradient((1 - 1e-6) * ops.minimum(*ends))
    above = function(box.upper) - slope * box.upper
    below = function(box.lower) - slope * box.lower
    return Lines(slope, above, slope, below)

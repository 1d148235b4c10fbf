"""Auto-PGD: projected gradient ascent that sets its own step sizes."""

import math
from collections.abc import Callable

import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.attacks.pgd import keep_best
from keras_taps.checks import check_count
from keras_taps.interval import Interval
from keras_taps.typing import Tensor

_MOMENTUM = 0.75  # share of the new step; the rest goes the way of the last one
_ENOUGH_RISES = 0.75  # share of steps between checkpoints that must rise, or the size is halved


def checkpoints(steps):
    """Steps before which APGD reconsiders its step sizes.

    Args:
        steps: Number of gradient steps S >= 0.

    Returns:
        List of ascending integers below S: `ceil(p S)` for p = 0.22, 0.41, 0.57, 0.70, ...

    Example:

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]

    References:
        Croce & Hein 2020, section 3.1.
    """
    found, before, share = [], 0.0, 0.22
    while (mark := math.ceil(round(share * check_count("steps", steps), 6))) < steps:
        found.append(mark)
        before, share = share, share + max(share - before - 0.03, 0.06)
    return found


def auto_maximise(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    box: Interval,
    steps: int,
    done: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Projected sign-gradient ascent with momentum and halving of the step size, entry by entry.

    The first step is as long as the box is wide. At a checkpoint the size of an entry is halved,
    and its search continues from its best point, if fewer than three quarters of the steps since
    the last checkpoint rose, or if neither its size nor its best value changed in that time.

    Args:
        objective: Maps points `(batch, n, ...)` to values `(batch, n)`, to be maximised.
        start: Tensor `(batch, n, ...)` of points in the box.
        box: `Interval` of tensors that broadcast with `start`.
        steps: Gradient steps S >= 0.
        done: Maps the best values so far to a boolean scalar, true when the search may end early.

    Returns:
        `(points, values)`: the best of the S + 1 points evaluated for each entry, and its
        objective. NaN is never better; without anything better it is the start.

    References:
        Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", 2020, algorithm 1.
    """
    marks = checkpoints(steps)
    dtype = start.dtype
    # At a checkpoint the steps since the last one, elsewhere 0.
    spans = np.zeros(max(steps, 1))
    spans[marks] = np.diff([0, *marks])
    spans = ops.convert_to_tensor(spans, dtype=dtype)
    width = box.width

    def clipped(points):
        return ops.minimum(ops.maximum(points, box.lower), box.upper)

    def step(i, state):
        points, before, last, size, rises, checked, halved, slope, *best = state
        values, gradient = backend.input_gradient(objective, points)
        rises = rises + ops.cast(values > last, dtype)
        gradient = ops.where(ops.isnan(gradient), 0.0, ops.sign(gradient))
        _, slope = _choose(values > best[1], gradient, slope)
        best = keep_best(best, (points, values))

        span = ops.take(spans, i)
        stuck = ops.logical_and(ops.logical_not(halved), best[1] <= checked)
        halve = ops.logical_or(rises < _ENOUGH_RISES * span, stuck)
        halve = ops.logical_and(halve, span > 0)
        size = ops.where(halve, size / 2, size)
        halved = ops.where(span > 0, halve, halved)
        checked = ops.where(span > 0, best[1], checked)
        rises = ops.where(span > 0, 0.0, rises)
        mask, here = _choose(halve, best[0], points)
        gradient = ops.where(mask, slope, gradient)

        straight = clipped(here + _spread(size, start) * width * gradient)
        momentum = ops.where(i > 0, _MOMENTUM, 1.0)  # the first step has none before it
        momentum = ops.cast(momentum, dtype)
        moved = here + momentum * (straight - here) + (1 - momentum) * (here - before)
        return clipped(moved), here, values, size, rises, checked, halved, slope, *best

    shape = ops.shape(start)[:2]
    worst = ops.full(shape, -float("inf"), dtype=dtype)
    ones, zeros = ops.ones(shape, dtype=dtype), ops.zeros(shape, dtype=dtype)
    # The start is not a rise, and "nothing changed" can be said from the second checkpoint on.
    state = (
        start,
        start,
        -worst,
        ones,
        zeros,
        worst,
        ones > 0,
        ops.zeros_like(start),
        start,
        worst,
    )
    points, *_, best_points, best_values = backend.repeat(step, state, steps, done)
    return keep_best((best_points, best_values), (points, objective(points)))


def _spread(values, like):
    """Values `(batch, n)` with axes of length 1 at the end, so that they broadcast with points."""
    return ops.reshape(values, (*ops.shape(values), *[1] * (len(like.shape) - 2)))


def _choose(mask, found, kept):
    """`(mask, chosen)`: the mask in the shape of points, and `found` where it is true."""
    mask = _spread(mask, kept)
    return mask, ops.where(mask, found, kept)

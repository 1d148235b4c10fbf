"""Boxes of inputs cut down to where linear bounds still allow an unsafe point."""

import numpy as np

from keras_taps.verification.certificate.rounding import ROUND, TINY, gamma


def clipped(lower, upper, rows, constant, groups):
    """The smallest boxes that hold every unsafe input which linear bounds leave in some boxes.

    Where `rows @ x + constant` bounds a form from above, an unsafe input has all those of a group
    at or above 0. Each is a half-space; a box is cut by those of a group one after another, and
    what the groups leave is put into one box again.

    Args:
        lower: Array `(boxes, inputs)`.
        upper: Array `(boxes, inputs)`.
        rows: Array `(boxes, n, inputs)`.
        constant: Array `(boxes, n)`.
        groups: Integer array `(n,)`, the group of each form.

    Returns:
        `(lower, upper)`: arrays like those given, within them and rounded outward. A box without
        unsafe inputs ends with a lower bound of infinity and an upper of minus infinity.

    References:
        Zhou et al. 2025, "Clip-and-Verify: Linear Constraint-Driven Domain Clipping".

    Example:

    >>> box, rows = (np.zeros((1, 2)), np.ones((1, 2))), np.array([[[1.0, 1.0]]])
    >>> low, high = clipped(*box, rows, np.full((1, 1), -1.5), np.array([0]))
    >>> low.round(3).tolist(), high.tolist()
    ([[0.5, 0.5]], [[1.0, 1.0]])
    """
    outer_low, outer_high = np.full_like(lower, np.inf), np.full_like(upper, -np.inf)
    for group in np.unique(groups):
        low, high = lower, upper
        for form in np.flatnonzero(groups == group):
            low, high = _cut(low, high, rows[:, form], constant[:, form])
        some = ~np.any(low > high, axis=1)[:, None]
        outer_low = np.where(some, np.minimum(outer_low, low), outer_low)
        outer_high = np.where(some, np.maximum(outer_high, high), outer_high)
    return outer_low, outer_high


def _cut(low, high, rows, constant):
    """Boxes cut by one half-space each; crossed bounds where nothing is left."""
    with np.errstate(all="ignore"):  # what is not finite cuts nothing
        size = np.maximum(np.abs(low), np.abs(high))
        most = np.where(rows > 0, rows * high, rows * low)
        scale = np.abs(constant) + (np.abs(rows) * size).sum(1)
        # What the other inputs can add to the constant; input i must make up for the rest.
        room = (constant + most.sum(1))[:, None] - most
        room = room + (2 * gamma(rows.shape[1]) * scale + TINY)[:, None]
        edge = room / np.abs(rows)
        edge = edge + 4 * ROUND * np.abs(edge) + TINY
    edge = np.where(np.isfinite(edge), edge, np.inf)
    low = np.where(rows > 0, np.maximum(low, -edge), low)
    return low, np.where(rows < 0, np.minimum(high, edge), high)

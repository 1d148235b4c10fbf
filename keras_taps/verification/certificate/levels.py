"""Slopes of lines as bytes, in which leaves and tightened boxes keep them."""

import numpy as np

LEVELS = 255


def quantise(slopes, least, most=1.0):
    """Slopes of lower lines as bytes: q stands for `least + (most - least) q / 255`.

    Args:
        slopes: Array `(..., U)` of numbers; what lies outside [least, most] is moved there.
        least: Array `(..., U)` or `(U,)`: of a ReLU its slope for negative inputs, in [0, 1].
        most: Array likewise, or number.

    Returns:
        Array `(..., U)` of uint8, the nearest byte.

    Example:

    >>> quantise(np.array([0.0, 0.5, 2.0]), np.zeros(3))
    array([  0, 128, 255], dtype=uint8)
    """
    width = np.where(least < most, most - least, 1.0)
    return np.rint(np.clip((slopes - least) / width, 0, 1) * LEVELS).astype("uint8")


def dequantise(levels, least, most=1.0):
    """The slopes that bytes stand for, float64.

    Args:
        levels: Array `(..., U)` of uint8.
        least: As in `quantise`.
        most: The same.

    Returns:
        Array `(..., U)`.

    Example:

    >>> dequantise(np.array([0, 255], "uint8"), np.array([0.2, 0.2])).tolist()
    [0.2, 1.0]
    """
    return least + (most - least) * (levels / LEVELS)

"""Boxes in float32: what the fast arithmetic and the model are given of a float64 box."""

import numpy as np


def covering(lower, upper):
    """A box in float32, rounded outward."""
    low, high = lower.astype("float32"), upper.astype("float32")
    low = np.where(low > lower, np.nextafter(low, np.float32(-np.inf)), low)
    high = np.where(high < upper, np.nextafter(high, np.float32(np.inf)), high)
    return low, high


def within(lower, upper):
    """The float32 numbers inside a box: a model should be given a counterexample exactly.

    A coordinate that has none, such as one fixed to a float64 number, gets the nearest to it.
    """
    nearest = lower.astype("float32"), upper.astype("float32")
    low = np.where(nearest[0] < lower, np.nextafter(nearest[0], np.float32(np.inf)), nearest[0])
    high = np.where(nearest[1] > upper, np.nextafter(nearest[1], np.float32(-np.inf)), nearest[1])
    return np.where(low > high, nearest[0], low), np.where(low > high, nearest[0], high)

"""Boxes in float32: what the fast arithmetic and the model are given of a float64 box."""

import numpy as np


def covering(lower, upper):
    """A box in float32, rounded outward."""
    low, high = lower.astype("float32"), upper.astype("float32")
    low = np.where(low > lower, np.nextafter(low, np.float32(-np.inf)), low)
    high = np.where(high < upper, np.nextafter(high, np.float32(np.inf)), high)
    return low, high


def within(lower, upper):
    """The float32 numbers inside a box: a counterexample must be one a model can be given."""
    low, high = lower.astype("float32"), upper.astype("float32")
    low = np.where(low < lower, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > upper, np.nextafter(high, np.float32(-np.inf)), high)
    return low, high

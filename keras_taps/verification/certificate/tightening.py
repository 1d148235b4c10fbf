"""Slopes with which the boxes of neurons are derived once more, tighter than by CROWN's own.

A bound on a neuron goes back through the ReLUs before it. Any slope within its range is sound
there, so each neuron may have the slopes that suit it best, one vector for each side of its box.
"""

from typing import NamedTuple

import numpy as np

from keras_taps.verification.certificate.levels import LEVELS


class Tightening(NamedTuple):
    """Which neurons are bounded once more, and the slopes on the way back from them.

    The ReLUs' neurons are numbered as in `RootBox`. What it holds need not be right, only in range:
    slopes say how tight a box is, and never whether it is one.

    Args:
        asked: int32 array `(R,)`: ascending numbers of neurons.
        columns: int32 array `(U,)`: ascending numbers of the neurons that have slopes.
        slopes: uint8 array `(R, 2, U)`: of the form of each neuron's lower bound and of its upper
            bound, in steps of 1 / 255 of the range of a slope. Those of neurons that do not come
            before it say nothing.

    Example:

    >>> asked, columns = np.array([3], "int32"), np.array([0, 2], "int32")
    >>> given = Tightening(asked, columns, np.full((1, 2, 2), 255, "uint8"))
    >>> given.shares(slice(0, 1), 0, 3)
    array([[ 1., nan,  1.]])
    """

    asked: np.ndarray
    columns: np.ndarray
    slopes: np.ndarray

    def rows_of(self, start, stop):
        """Slice of the rows of the neurons with numbers from `start` to `stop - 1`."""
        return slice(*np.searchsorted(self.asked, (start, stop)))

    def shares(self, rows, side, count):
        """Shares in [0, 1] of the ranges of slopes, NaN where there is none.

        Args:
            rows: Slice of R rows.
            side: 0 for lower bounds, 1 for upper.
            count: Number of neurons, all that come before those of the rows.

        Returns:
            Array `(R, count)`.
        """
        known = np.searchsorted(self.columns, count)
        found = np.full((rows.stop - rows.start, count), np.nan)
        found[:, self.columns[:known]] = self.slopes[rows, side, :known] / LEVELS
        return found

    def check(self, neurons):
        """Raise `ValueError` unless it can be about a network with so many neurons."""
        for name in ("asked", "columns"):
            numbers = getattr(self, name)
            ascending = np.all(np.diff(numbers) > 0) if len(numbers) else True
            if not ascending or (len(numbers) and not 0 <= numbers[0] <= numbers[-1] < neurons):
                raise ValueError(f"`{name}` must be ascending numbers in 0 .. {neurons - 1}.")
        shape = len(self.asked), 2, len(self.columns)
        if self.slopes.shape != shape:
            raise ValueError(f"`slopes` must have shape {shape}. Received: {self.slopes.shape}")

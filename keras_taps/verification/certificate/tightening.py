"""Slopes with which the boxes of neurons are derived once more, tighter than by CROWN's own.

A bound on a neuron goes back through the ReLUs before it. Any slope within its range is sound
there, so each neuron may have the slopes that suit it best, one vector for each side of its box.
Cases go further: the signs of a few neurons before it are one of all combinations of signs, so the
largest of the bounds under each combination is a bound.
"""

from typing import NamedTuple

import numpy as np

from keras_taps.verification.certificate.levels import LEVELS
from keras_taps.verification.certificate.lines import multipliers

MOST_SPLITS = 12  # of a bound by cases


class Cases(NamedTuple):
    """Bounds on neurons by cases: the largest over all combinations of the signs of some others.

    As in `Tightening`, nothing here has to be right. The cases of a row are numbered: in case k the
    pre-activation of its split i is at least 0 if bit i of k is 1, and at most 0 otherwise.

    Args:
        asked: int32 array `(B,)`: ascending numbers of neurons; one may come several times.
        sides: uint8 array `(B,)`: 0 for a lower bound, 1 for an upper.
        splits: int32 array `(B, D)`: numbers of the neurons whose signs are known in a case, those
            of a row first, then -1.
        slopes: uint8 array `(C, U)`, the cases of row after row: slopes as in `Tightening`, with
            its columns.
        betas: float32 array `(C, D)`: multipliers >= 0 of the signs.
    """

    asked: np.ndarray
    sides: np.ndarray
    splits: np.ndarray
    slopes: np.ndarray
    betas: np.ndarray

    @property
    def counts(self):
        """Number of the cases of each row, array `(B,)`."""
        return 2 ** np.sum(self.splits >= 0, axis=1)

    @property
    def numbered(self):
        """Of each case its row and its number there, arrays `(C,)`."""
        counts = self.counts
        row = np.repeat(np.arange(len(counts)), counts)
        return row, np.arange(len(row)) - np.cumsum([0, *counts])[row]

    def of(self, start, size):
        """The cases of the neurons with numbers from `start` on, `size` of them."""
        rows, ends = rows_of(self.asked, start, start + size), np.cumsum([0, *self.counts])
        part = slice(ends[rows.start], ends[rows.stop])
        heads = (self.asked[rows], self.sides[rows], self.splits[rows])
        return Cases(*heads, self.slopes[part], self.betas[part])

    def check(self, neurons, columns):
        """Raise `ValueError` unless it can be about a network with so many neurons."""
        count, most = self.splits.shape
        for name in ("asked", "splits"):
            numbers = getattr(self, name)
            if np.any(numbers < (0 if name == "asked" else -1)) or np.any(numbers >= neurons):
                raise ValueError(f"`{name}` of cases must be numbers in 0 .. {neurons - 1}.")
        if np.any(np.diff(self.asked) < 0) or np.any(np.diff((self.splits >= 0) * 1, axis=1) > 0):
            raise ValueError("`asked` of cases must ascend, and -1 must end the splits of a row.")
        if np.any(self.sides > 1) or most > MOST_SPLITS:
            raise ValueError(
                f"A bound by cases must have a side 0 or 1 and 0 .. {MOST_SPLITS} splits."
            )
        shapes = (count,), (count,), (int(self.counts.sum()), columns), (len(self.slopes), most)
        given = self.asked.shape, self.sides.shape, self.slopes.shape, self.betas.shape
        if given != shapes:
            raise ValueError(f"Cases must have the shapes {shapes}. Received: {given}")


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
        cases: `Cases` by which some neurons are bounded again, or `None`.

    Example:

    >>> asked, columns = np.array([3], "int32"), np.array([0, 2], "int32")
    >>> given = Tightening(asked, columns, np.full((1, 2, 2), 255, "uint8"))
    >>> given.shares(given.slopes[:, 0], 3)
    array([[ 1., nan,  1.]])
    """

    asked: np.ndarray
    columns: np.ndarray
    slopes: np.ndarray
    cases: Cases | None = None

    @property
    def bytes(self):
        """Bytes of the arrays."""
        return sum(array.nbytes for array in [*self[:3], *(self.cases or ())])

    def shares(self, levels, count):
        """Shares in [0, 1] of the ranges of slopes, NaN where there is none.

        Args:
            levels: uint8 array `(n, U)`.
            count: Number of neurons, all that come before those that are bounded.

        Returns:
            Array `(n, count)`.
        """
        known = np.searchsorted(self.columns, count)
        found = np.full((len(levels), count), np.nan)
        found[:, self.columns[:known]] = levels[:, :known] / LEVELS
        return found

    def over(self, before):
        """This, with the rows of an earlier one for neurons that are not asked here.

        Both have the same columns.
        """
        own = np.setdiff1d(before.asked, self.asked)
        rows = np.searchsorted(before.asked, own)
        asked = np.concatenate([self.asked, own])
        order = np.argsort(asked)
        slopes = np.concatenate([self.slopes, before.slopes[rows]])
        return Tightening(asked[order], self.columns, slopes[order], self.cases)

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
        if self.cases is not None:
            self.cases.check(neurons, len(self.columns))


def rows_of(asked, start, stop):
    """Slice of the rows of the neurons with numbers from `start` to `stop - 1`."""
    return slice(*np.searchsorted(asked, (start, stop)).tolist())


def signs_of(splits, number, betas, count):
    """What is known of the neurons before in cases.

    Args:
        splits: Integer array `(n, D)` as in `Cases`, of each case.
        number: Integer array `(n,)`, the number of each case.
        betas: Array `(n, D)`.
        count: Number of neurons before.

    Returns:
        `(signs, pushes)`: arrays `(n, count)`, 0 where nothing is known.
    """
    signs, pushes = np.zeros((len(splits), count), "int8"), np.zeros((len(splits), count))
    for place, neurons in enumerate(splits.T):
        rows = np.flatnonzero((neurons >= 0) & (neurons < count))
        sign = 2 * (number[rows] >> place & 1) - 1
        signs[rows, neurons[rows]] = sign
        pushes[rows, neurons[rows]] = sign * multipliers(betas[rows, place])
    return signs, pushes

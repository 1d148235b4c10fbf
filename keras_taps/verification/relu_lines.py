"""What the checker keeps of a ReLU and of a sum for the way back."""

from dataclasses import dataclass, replace

import numpy as np

from keras_taps.verification.rounding import ROUND, TINY, dot, gamma, lost, size_of


@dataclass(frozen=True)
class ReluLines:
    """Lines of a ReLU: `steep x + over` above, `below x` beneath; `size` bounds |x|."""

    steep: np.ndarray
    over: np.ndarray
    below: np.ndarray
    crossing: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    size: np.ndarray
    slope: float

    @classmethod
    def of(cls, box, slope):
        """Lines of a ReLU with this slope for negative inputs, on a box of inputs."""
        lower, upper = box
        crossing = (lower < 0) & (upper > 0)
        width = np.where(crossing, upper - lower, 1.0)
        chord = np.clip((upper - slope * lower) / width, slope, 1.0)
        settled = np.where(lower >= 0, 1.0, slope)
        steep = np.where(crossing, chord, settled)
        # Any line that is above the function at both ends is above it between: it is convex.
        over = np.maximum((slope - chord) * lower, (1 - chord) * upper) * (1 + 8 * ROUND) + TINY
        over = np.where(crossing, over, 0.0)
        below = np.where(crossing, np.where(upper > -lower, 1.0, slope), settled)[None]
        return cls(steep, over, below, crossing, lower, upper, size_of(box), slope)

    def with_slopes(self, slopes):
        """Other slopes `(n, ...)` beneath, moved to where they are sound; NaN keeps the usual."""
        given = self.crossing & ~np.isnan(slopes)
        return replace(self, below=np.where(given, np.clip(slopes, self.slope, 1.0), self.below))

    def back(self, form):
        """The form on the inputs, from the one on the outputs."""
        rising, falling = np.maximum(form.rows, 0), np.minimum(form.rows, 0)
        return self.through(form, rising * self.steep + falling * self.below, rising)

    def through(self, form, rows, rising):
        """The form with these rows, each one rounded product, and what `rising` is lifted by."""
        lifted = dot(rising, self.over)
        error = gamma(self.over.size) * lifted + lost(self.size)
        error = error + 4 * ROUND * dot(np.abs(rows), self.size)
        return replace(form.plus(lifted, error), rows=rows)


@dataclass(frozen=True)
class Branches:
    """Records of the branches of a sum; `size` bounds its inputs."""

    records: list
    size: np.ndarray


def lines_of(records):
    """List of the `ReluLines` among records, depth-first."""
    found = []
    replaced(records, lambda lines: found.append(lines) or lines)
    return found


def replaced(records, change):
    """The records with `change(lines)` in place of each `ReluLines`, asked for depth-first."""
    found = []
    for record in records:
        if isinstance(record, ReluLines):
            record = change(record)
        elif isinstance(record, Branches):
            record = replace(record, records=[replaced(b, change) for b in record.records])
        found.append(record)
    return found


def by_layer(array, lines):
    """Iterator over the parts of an array `(n, neurons)`, each in the shape `(n, ...)` of a ReLU.

    Args:
        array: Array `(n, neurons)`.
        lines: List of `ReluLines`, depth-first.
    """
    stop = 0
    for own in lines:
        start, stop = stop, stop + own.size.size
        yield array[:, start:stop].reshape(-1, *own.size.shape)

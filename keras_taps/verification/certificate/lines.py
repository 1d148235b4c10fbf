"""What the checker keeps for the way back: of ReLUs and sums, and of a ReLU in leaves."""

from dataclasses import dataclass, replace

import numpy as np

from keras_taps.verification.certificate.rounding import ROUND, TINY, dot, gamma, lost, size_of


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
        rows = form.place.times(rising, self.steep)
        rows += form.place.times(falling, self.below)
        return self.through(form, rows, rising)

    def through(self, form, rows, rising):
        """The form with these rows, each one rounded product, and what `rising` is lifted by."""
        lifted = form.place.dot(rising, self.over)
        error = gamma(self.over.size) * lifted + lost(self.size)
        error = error + 4 * ROUND * form.place.dot(np.abs(rows), self.size)
        return replace(form.plus(lifted, error), rows=rows)


def through_relu(slope, box):
    """Boxes after a ReLU with this slope for negative inputs, rounded outward."""
    lower, upper = box
    return (
        np.where(lower >= 0, lower, slope * lower * (1 + 4 * ROUND) - TINY * (slope > 0)),
        np.where(upper >= 0, upper, slope * upper * (1 - 4 * ROUND) + TINY * (slope > 0)),
    )


@dataclass(frozen=True)
class LeafLines(ReluLines):
    """Lines of each leaf of a chunk, arrays `(L, ...)`; `pushes` are `sign * beta`."""

    signs: np.ndarray
    pushes: np.ndarray

    def back(self, form):
        # What is split is linear: there is no line to lift, and one product to round.
        split = self.signs != 0
        rising, falling = np.maximum(form.rows, 0), np.minimum(form.rows, 0)
        rising = np.where(split, 0.0, rising)
        rows = np.where(
            split,
            form.rows * np.where(self.signs > 0, 1.0, self.slope),
            rising * self.steep + falling * self.below,
        )
        form = self.through(form, rows, rising)
        if self.pushes is not None:
            rows = form.rows + self.pushes
            error = 4 * ROUND * dot(np.abs(rows), self.size)
            form = replace(form.plus(0.0, error), rows=rows)
        return form


@dataclass(frozen=True)
class Branches:
    """Records of the branches of a sum; `size` bounds its inputs."""

    records: list
    size: np.ndarray


def lines_of(records, kinds=ReluLines):
    """List of the `ReluLines`, or of what other kinds are asked for, among records, depth-first."""
    found = []
    replaced(records, lambda lines: found.append(lines) or lines, kinds)
    return found


def replaced(records, change, kinds=ReluLines):
    """The records with `change(lines)` in place of each `ReluLines`, asked for depth-first."""
    found = []
    for record in records:
        if isinstance(record, kinds):
            record = change(record)
        elif isinstance(record, Branches):
            inner = [replaced(branch, change, kinds) for branch in record.records]
            record = replace(record, records=inner)
        found.append(record)
    return found


def by_layer(array, lines):
    """Iterator over the parts of an array `(n, neurons)`, each in the shape `(n, ...)` of a ReLU.

    Args:
        array: Array `(n, neurons)`.
        lines: List of `ReluLines` or `CurveLines`, depth-first.
    """
    stop = 0
    for own in lines:
        start, stop = stop, stop + own.size.size
        yield array[:, start:stop].reshape(-1, *own.size.shape)


@dataclass(frozen=True)
class OwnLines:
    """Lines of the neurons before for each form of a pass: arrays `(n, neurons)`.

    Args:
        shares: Slopes beneath, as shares of their ranges; NaN keeps the usual.
        signs: Signs of those that are split, 0 of the others; or `None`.
        pushes: With signs `sign * beta`, 0 of the others.
    """

    shares: np.ndarray
    signs: np.ndarray = None
    pushes: np.ndarray = None

    def on(self, records, start):
        """The records of a chain that begins after `start` neurons with these lines."""
        lines = lines_of(records)
        parts = zip(*(by_layer(part[:, start:], lines) for part in self._parts), strict=True)

        def change(own):
            shares, *leaf = next(parts)
            own = own.with_slopes(own.slope + (1 - own.slope) * shares)
            return LeafLines(**vars(own), signs=leaf[0], pushes=leaf[1]) if leaf else own

        return replaced(records, change)

    @property
    def _parts(self):
        return (self.shares,) if self.signs is None else (self.shares, self.signs, self.pushes)


def multipliers(values):
    """Numbers as multipliers: float64, and 0 where they are negative or not finite."""
    values = np.asarray(values, "float64")
    return np.where(np.isfinite(values) & (values > 0), values, 0.0)

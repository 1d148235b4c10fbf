"""Bounds on inner neurons by cases: under each combination of the signs of a few neurons before.

The neurons whose lines cost a bound most are split; a bound that is near 0 may get more splits.
"""

import numpy as np

from keras_taps.verification.certificate.levels import quantise
from keras_taps.verification.certificate.tightening import Cases
from keras_taps.verification.search.engine import chunks_of

SPLITS = 7  # of a bound, at most
NEAR = 0.25  # of the width of a box: bounds that are so near to 0 get more splits
BETTER = 1e-3  # of the width of a box: what a bound must win to be kept


class CaseBook:
    """Bounds the neurons of one site after the other by cases, and keeps what a checker needs.

    Args:
        engine: `TighteningEngine`.
        box: Arrays `(batch, ...)`, lower and upper inputs.
        columns: Of each input the neurons whose slopes are kept.
        kinks: Slopes for negative inputs of all neurons.
        iterations: Steps of the optimiser.
        affords: As in `TighteningEngine.tighten`.

    References:
        Wang et al., "Beta-CROWN", 2021; Bunel et al., "Branch and Bound for Piecewise Linear Neural
        Network Verification", 2020.
    """

    def __init__(self, engine, box, columns, kinks, iterations, affords):
        self.engine, self.box, self.columns, self.kinks = engine, box, columns, kinks
        self.iterations, self.affords = iterations, affords
        self.done = 0.0
        self._found = [[] for _ in box[0]]

    def bound(self, index, boxes, own, seen, values, left):
        """Move bounds of the neurons of a site.

        Args:
            index: Number of the site.
            boxes: Boxes of the sites before it.
            own: Pair of arrays `(batch, neurons)`, moved in place.
            seen: Arrays `(batch, n, ...)` about those that were bounded without cases just now:
                numbers, which of them count, slopes, the neurons to split, and their weights.
            values: What a row meets on its way.
            left: The work of bounding this and all later sites without cases.
        """
        low, high = own
        chosen, wanted, slopes, tops, weights = seen
        work = 2.0 * wanted.sum() * values
        self.done += work
        batch = np.arange(len(chosen))[:, None]
        before = sum(side[0].size for side, _ in boxes)
        most = min(SPLITS, tops.shape[-1])
        times, spent = self.affords(self.done, left), 0.0
        for share, near in ((0.5, np.inf), (1.0, NEAR)):
            bottom, top = low[batch, chosen], high[batch, chosen]
            crossing = wanted & (bottom < 0) & (top > 0)
            close = np.stack([-bottom, top], -1) < near * (top - bottom)[..., None]
            asked = (crossing[..., None] & close).reshape(len(chosen), -1)
            once = float(max(asked.sum() * values, 1))
            depth = int(np.log2(max((share * times * work - spent) / once, 1.0)))
            depth = min(depth, most) if asked.any() else 0
            if not depth:
                continue
            spent += once * 2**depth
            limit = max(self.engine.rows_at_once(values, self.iterations) >> depth, 1)
            for places, mine in chunks_of(asked, limit):
                if self.affords(self.done, left) <= 0:
                    return
                self.done += float(mine.sum() * values) * 2**depth
                at, side = np.divmod(places, 2)
                neurons, splits = chosen[batch, at], tops[batch, at, side][..., :depth]
                given = neurons, side, slopes[batch, at, side], splits, weights[batch, at, side]
                given = index, *self.box, boxes, low.shape[1], *given, self.iterations
                bounds, *proof = self.engine.in_cases(*given)
                self._take(before, own, neurons, side, mine, bounds, splits, *proof)

    def _take(self, before, own, neurons, side, mine, bounds, splits, slopes, betas):
        """Move the bounds that won something, and keep why."""
        low, high = own
        for image in range(len(neurons)):
            at, to = neurons[image], side[image]
            margin = BETTER * (high[image, at] - low[image, at])
            won = np.where(to == 0, -bounds[image] > low[image, at] + margin, False)
            won |= np.where(to == 1, bounds[image] < high[image, at] - margin, False)
            rows = np.flatnonzero(won & mine[image])
            for sign, place, values in ((0, low, -bounds[image]), (1, high, bounds[image])):
                chosen = rows[to[rows] == sign]
                place[image, at[chosen]] = values[chosen]
            known = self.columns[image]
            known = known[known < before]
            levels = quantise(slopes[image, rows][..., known], self.kinks[known])
            missing = (0, 0), (0, len(self.columns[image]) - len(known))
            levels = np.pad(levels, ((0, 0), *missing))
            missing = (0, 0), (0, SPLITS - splits.shape[-1])
            own = np.pad(splits[image, rows], missing, constant_values=-1)
            betas_of = np.pad(betas[image, rows], ((0, 0), *missing))
            kept = at[rows] + before, to[rows], own, levels, betas_of
            self._found[image] += zip(*kept, strict=True)

    def cases(self):
        """Of each input the `Cases`, or `None` if there are none."""
        return [_joined(found) for found in self._found]


def _joined(found):
    if not found:
        return None
    neurons, sides, splits, levels, betas = zip(*sorted(found, key=lambda row: row[0]), strict=True)
    return Cases(
        np.array(neurons, "int32"),
        np.array(sides, "uint8"),
        np.array(splits, "int32"),
        np.concatenate(levels),
        np.concatenate(betas).astype("float32"),
    )

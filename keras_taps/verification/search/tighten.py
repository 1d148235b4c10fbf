"""Boxes of neurons by optimised slopes: alpha-CROWN for inner neurons, site after site.

On request each neuron is bounded by cases besides: by the signs of a few neurons before it.
"""

from itertools import product, repeat

import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.bounds.nodes import concretise, substitute
from keras_taps.bounds.optimise import optimise
from keras_taps.bounds.traces import with_multipliers, with_shift, with_signs, with_slopes
from keras_taps.interval import Interval
from keras_taps.verification.certificate.levels import quantise
from keras_taps.verification.certificate.tightening import Tightening
from keras_taps.verification.search.cases import SPLITS, CaseBook
from keras_taps.verification.search.engine import (
    BoundEngine,
    both_sides,
    chunks_of,
)
from keras_taps.verification.search.slopes import sites_of

KEPT = 12  # copies of slopes and rows that a step of the optimiser holds, about
CASE_RATES = 0.1, 1.0  # of slopes, and of multipliers in units of what a bound depends on
CALL = 2**23  # values that rows meet in all steps of a call: no more, for the clock's sake


class TighteningEngine(BoundEngine):
    """`BoundEngine` that also optimises the slopes behind the boxes of neurons.

    Args:
        network: As in `BoundEngine`, like the rest; `tighten` is for those whose nonlinear layers
            are ReLUs.
        batch_size: Boxes at a time.
        memory: Bytes.

    References:
        Xu et al., "Fast and Complete: Enabling Complete Verification with Rapid and Massively
        Parallel Incomplete Verifiers" (alpha-CROWN), 2021; Wang et al., "Beta-CROWN", 2021.
    """

    def tighten(
        self,
        lower,
        upper,
        boxes,
        iterations=10,
        rate=0.3,
        going=lambda done: True,
        affords=None,
        before=None,
    ):
        """Bound each unstable neuron with slopes of its own, between the tightened boxes before it.

        Args:
            lower: Array `(batch, ...)` of inputs, batch at most `batch_size`.
            upper: Array of the same shape.
            boxes: Boxes of the neurons, as from `neuron_boxes`.
            iterations: Steps of the optimiser.
            rate: Its learning rate.
            going: Asked before each chunk of neurons, with the share of the work that is done, in
                [0, 1); once it says no, the rest keep their boxes.
            affords: Function `(done, left)` of the work that is done and that is left, in one unit:
                how many times the latter may be done. What is more than once goes to bounds by
                cases. By default there are none.
            before: The tightenings behind `boxes`, without cases, if there are any: neurons that
                are not asked now keep their slopes.

        Returns:
            `(boxes, tightenings)`: the tightened boxes, and for each input the `Tightening` with
            which a checker derives such boxes.
        """
        boxes = [tuple(np.array(side) for side in box) for box in boxes]
        count, starts = len(lower), np.cumsum([0, *(low[0].size for low, _ in boxes)])
        kinks = np.repeat([node.slope for node in self.sites], np.diff(starts))
        columns = [_unstable([(low[i], high[i]) for low, high in boxes]) for i in range(count)]
        if before is not None:
            columns = [own.columns for own in before]
        found = [[] for _ in range(count)]
        given = self, (lower, upper), columns, kinks, iterations, affords
        book = None if affords is None else CaseBook(*given)
        # A row costs about as much as it meets values on its way.
        crossing = [int(np.sum((low < 0) & (high > 0))) for low, high in boxes]
        costs = (starts[1:] + lower[0].size)[1:]
        total, done = float(np.dot(crossing[1:], costs)), 0.0
        for index in range(1, len(boxes)):
            low, high = (side.reshape(count, -1) for side in boxes[index])
            values, seen = int(costs[index - 1]), []
            asked = (low < 0) & (high > 0)
            for chosen, wanted in chunks_of(asked, self.rows_at_once(2 * values, iterations)):
                if not going(done / total):
                    break
                done += float(wanted.sum() * values)
                given = index, lower, upper, boxes[:index], chosen
                least, most, *known = self._optimised(*given, iterations, rate, book is not None)
                seen.append((chosen, wanted, *known))
                for image, own in enumerate(columns):
                    mine, own = wanted[image], own[own < starts[index]]
                    neurons = chosen[image, mine]
                    low[image, neurons] = np.fmax(low[image, neurons], least[image, mine])
                    high[image, neurons] = np.fmin(high[image, neurons], most[image, mine])
                    levels = quantise(known[0][image, mine][..., own], kinks[own])
                    found[image].append((neurons + starts[index], levels))
            if book is not None and seen:
                seen = [np.concatenate(part, 1) for part in zip(*seen, strict=True)]
                left = 2.0 * np.dot(crossing[index:], costs[index - 1 :])
                book.bound(index, boxes[:index], (low, high), seen, values, left)
            crossed = low > high  # by rounding only
            low[crossed], high[crossed] = high[crossed], low[crossed]
        cases = [None] * count if book is None else book.cases()
        made = [
            Tightening(*_joined(*own), by) for *own, by in zip(found, columns, cases, strict=True)
        ]
        if before is not None:
            made = [new.over(old) for new, old in zip(made, before, strict=True)]
        return boxes, made

    def rows_at_once(self, values, iterations):
        """How many rows a box that meet so many values are sent back at a time, at most."""
        numbers = min(self.memory // (4 * KEPT), CALL // (iterations + 1))
        return 2 ** int(np.log2(max(numbers // (self.batch_size * values), 1)))

    def _optimised(self, index, lower, upper, boxes, neurons, iterations, rate, scored=False):
        """Lower and upper bounds `(batch, n)`, and slopes `(batch, n, 2, neurons before)`.

        If scored, also arrays `(batch, n, 2, ...)`: the neurons before whose lines cost a bound
        most, best first, and how much it depends on an unstable neuron on average.
        """

        def run(box, boxes, neurons):
            start, intercept = self._usual(boxes)
            start = ops.repeat(start, 2 * neurons.shape[1], axis=1)

            def ask(node, here, pull):
                rows, nothing = both_sides(neurons, here)

                def bound(slopes, *shift):
                    back = self._back(boxes, slopes, *shift)
                    return concretise(box, *pull(rows, nothing, walk=back))

                low = ops.convert_to_tensor(self._kinks(boxes), dtype=rows.dtype)
                found, slopes = optimise(bound, start, low, 1.0, iterations, rate)
                if not scored:
                    return found, slopes
                nothing_moved = ops.zeros_like(slopes)
                rows_on = backend.input_gradient(lambda z: bound(slopes, z), nothing_moved)[1]
                most = min(SPLITS, slopes.shape[-1])
                tops = ops.top_k(ops.relu(rows_on) * intercept, most)[1]
                crossing = ops.cast(intercept > 0, rows_on.dtype)
                weight = ops.sum(ops.abs(rows_on) * crossing, -1) / (ops.sum(crossing, -1) + 1.0)
                return found, slopes, tops, weight

            found, *known = self._walk(box, boxes, ask)[2]
            count = neurons.shape[1]
            return -found[:, :count], found[:, count:], *known

        key = ("tighten", index, neurons.shape[1], iterations, rate, scored)
        low, high, *known = self._call(key, run, (lower, upper), list(boxes), neurons)
        sides = (part.reshape(len(part), 2, neurons.shape[1], *part.shape[2:]) for part in known)
        return low, high, *(np.moveaxis(part, 1, 2) for part in sides)

    def in_cases(
        self, index, lower, upper, boxes, size, neurons, sides, slopes, splits, weights, iterations
    ):
        """Bound neurons under each combination of the signs of some neurons before them.

        Args:
            index: Number of their site, with `size` neurons.
            lower: Array `(batch, ...)` of inputs.
            upper: Array of the same shape.
            boxes: Boxes of the sites before.
            size: Number of neurons of the site.
            neurons: Integer array `(batch, n)`.
            sides: Integer array `(batch, n)`: 0 for lower bounds, 1 for upper.
            slopes: Array `(batch, n, neurons before)` to start from.
            splits: Integer array `(batch, n, D)`: whose signs are known, D different neurons.
            weights: Array `(batch, n)` > 0, by how much a bound depends on a neuron.
            iterations: Steps of the optimiser.

        Returns:
            `(bounds, slopes, betas)`: upper bounds `(batch, n)` of the neurons or of what is
            opposite to them, and for each of the cases, numbered as in `Cases`, slopes
            `(batch, n, 2**D, neurons before)` and betas `(batch, n, 2**D, D)`.
        """
        depth = splits.shape[-1]
        cases = np.array(list(product((-1.0, 1.0), repeat=depth)), "float32")[:, ::-1].copy()
        kinks = self._kinks(boxes)
        least = np.concatenate([kinks, np.zeros_like(kinks)])
        largest = np.concatenate([np.ones_like(kinks), np.full_like(kinks, np.inf)])

        def run(box, boxes, neurons, sides, slopes, splits, weights):
            width, rows = slopes.shape[-1], neurons.shape[1] * len(cases)
            places = ops.one_hot(splits, width, dtype=slopes.dtype)
            signs = ops.reshape(ops.matmul(cases, places), (-1, rows, width))
            sign = 2.0 * ops.cast(sides, slopes.dtype) - 1.0
            unit = ops.one_hot(neurons, size, dtype=slopes.dtype) * sign[..., None]
            unit, start, weight = (
                ops.repeat(part, len(cases), axis=1) for part in (unit, slopes, weights[..., None])
            )

            def ask(node, here, pull):
                form = ops.reshape(unit, (-1, rows, *here.lower.shape[1:]))
                nothing = ops.zeros(form.shape[:2], dtype=form.dtype)

                def bound(parameters):
                    own, betas = ops.split(parameters, 2, axis=-1)
                    back = self._back(boxes, own, signs=signs, pushes=betas * signs)
                    return concretise(box, *pull(form, nothing, walk=back))

                rates = ops.full_like(weight, CASE_RATES[0]), CASE_RATES[1] * weight
                rates = ops.repeat(ops.concatenate(rates, -1), width, axis=-1)
                first = ops.concatenate([start, ops.zeros_like(start)], -1)
                limits = (ops.convert_to_tensor(end, dtype=form.dtype) for end in (least, largest))
                return optimise(bound, first, *limits, iterations, rates)

            found, parameters = self._walk(box, boxes, ask)[2]
            each = -1, neurons.shape[1], len(cases)
            own, betas = (
                ops.reshape(part, (*each, width)) for part in ops.split(parameters, 2, axis=-1)
            )
            betas = ops.matmul(betas, ops.transpose(places, (0, 1, 3, 2)))
            return ops.max(ops.reshape(found, each), -1), own, betas

        key = ("cases", index, neurons.shape[1], depth, iterations)
        given = neurons, sides, slopes, splits, weights
        return self._call(key, run, (lower, upper), list(boxes), *given)

    # Of the neurons between known boxes, `(batch, ..., neurons)`

    def _kinks(self, boxes):
        """The slopes for negative inputs."""
        pairs = zip(self.sites, boxes, strict=False)
        kinks = [np.full(int(np.prod(low.shape[1:])), node.slope) for node, (low, _) in pairs]
        return np.concatenate(kinks).astype("float32")

    def _usual(self, boxes):
        """The usual slopes, and the intercepts of the lines above, `(batch, 1, neurons)`."""
        lines = [
            node.lines(Interval(*(ops.reshape(s, (-1, 1, int(np.prod(s.shape[1:])))) for s in box)))
            for node, box in zip(self.sites, boxes, strict=False)
        ]
        slopes = ops.concatenate([own.lower_slope for own in lines], -1)
        return slopes, ops.concatenate([own.upper_intercept for own in lines], -1)

    def _back(self, boxes, slopes, shift=None, signs=None, pushes=None):
        """The way back of n forms with their own slopes; signs are known, lines moved upward, and
        rows pushed, if these are given, all of them `(batch, n, neurons)`.
        """
        number = {id(node): place for place, node in enumerate(self.sites)}
        shapes = [low.shape[1:] for low, _ in boxes]
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()

        def back(nodes, traces, rows, constant):
            def pieces(values):
                for node in sites_of(nodes):
                    place = number[id(node)]
                    piece = values[..., ends[place] : ends[place + 1]]
                    yield ops.reshape(piece, (-1, values.shape[1], *shapes[place]))

            if signs is not None:
                kinks = (site.slope for site in sites_of(nodes))
                traces = with_signs(traces, zip(pieces(signs), kinks, strict=True))
            traces = with_slopes(traces, pieces(slopes))
            if shift is not None:
                traces = with_shift(traces, pieces(shift))
            if pushes is not None:
                traces = with_multipliers(traces, repeat(0.0), pieces(pushes))
            return substitute(nodes, traces, rows, constant)

        return back


def _unstable(boxes):
    """Numbers of the neurons of one input that cross 0."""
    return np.flatnonzero(np.concatenate([np.ravel((low < 0) & (high > 0)) for low, high in boxes]))


def _joined(parts, columns):
    """The first arrays of a `Tightening`, from numbers of neurons and their levels."""
    asked = np.concatenate([np.zeros(0, int), *(neurons for neurons, _ in parts)])
    slopes = np.zeros((len(asked), 2, len(columns)), "uint8")
    start = 0
    for neurons, levels in parts:
        slopes[start : start + len(neurons), :, : levels.shape[-1]] = levels
        start += len(neurons)
    order = np.argsort(asked, kind="stable")
    return asked[order].astype("int32"), columns.astype("int32"), slopes[order]

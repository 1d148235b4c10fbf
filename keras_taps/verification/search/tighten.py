"""Boxes of neurons by optimised slopes: alpha-CROWN for inner neurons, site after site."""

from itertools import pairwise

import numpy as np
from keras import ops

from keras_taps.bounds.nodes import concretise, substitute, with_slopes
from keras_taps.bounds.optimise import optimise
from keras_taps.interval import Interval
from keras_taps.verification.certificate.levels import quantise
from keras_taps.verification.certificate.tightening import Tightening
from keras_taps.verification.search.engine import (
    BoundEngine,
    both_sides,
    chunks_of,
)
from keras_taps.verification.search.slopes import sites_of

KEPT = 12  # copies of slopes and rows that a step of the optimiser holds, about
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
        Parallel Incomplete Verifiers" (alpha-CROWN), 2021.
    """

    def tighten(self, lower, upper, boxes, iterations=10, rate=0.3, going=lambda done: True):
        """Bound each unstable neuron with slopes of its own, between the tightened boxes before it.

        Args:
            lower: Array `(batch, ...)` of inputs, batch at most `batch_size`.
            upper: Array of the same shape.
            boxes: Boxes of the neurons, as from `neuron_boxes`.
            iterations: Steps of the optimiser.
            rate: Its learning rate.
            going: Asked before each chunk of neurons, with the share of the work that is done, in
                [0, 1); once it says no, the rest keep their boxes.

        Returns:
            `(boxes, tightenings)`: the tightened boxes, and for each input the `Tightening` with
            which a checker derives such boxes.
        """
        boxes = [tuple(np.array(side) for side in box) for box in boxes]
        count, starts = len(lower), np.cumsum([0, *(low[0].size for low, _ in boxes)])
        kinks = np.repeat([node.slope for node in self.sites], np.diff(starts))
        columns = [_unstable([(low[i], high[i]) for low, high in boxes]) for i in range(count)]
        found = [[] for _ in range(count)]
        # A row costs about as much as it meets values on its way.
        crossing = [int(np.sum((low < 0) & (high > 0))) for low, high in boxes]
        costs = (starts[1:] + lower[0].size)[1:]
        total, done = float(np.dot(crossing[1:], costs)), 0.0
        for index in range(1, len(boxes)):
            low, high = (side.reshape(count, -1) for side in boxes[index])
            values = int(costs[index - 1])
            asked = (low < 0) & (high > 0)
            for chosen, wanted in chunks_of(asked, self._most(values, iterations)):
                if not going(done / total):
                    break
                done += float(wanted.sum() * costs[index - 1])
                given = index, lower, upper, boxes[:index], chosen
                least, most, slopes = self._optimised(*given, iterations, rate)
                for image, own in enumerate(columns):
                    mine, own = wanted[image], own[own < starts[index]]
                    neurons = chosen[image, mine]
                    low[image, neurons] = np.fmax(low[image, neurons], least[image, mine])
                    high[image, neurons] = np.fmin(high[image, neurons], most[image, mine])
                    levels = quantise(slopes[image, mine][..., own], kinks[own])
                    found[image].append((neurons + starts[index], levels))
            crossed = low > high  # by rounding only
            low[crossed], high[crossed] = high[crossed], low[crossed]
        return boxes, [_joined(*pair) for pair in zip(found, columns, strict=True)]

    def _most(self, values, iterations):
        """How many neurons a box are asked at a time, at most."""
        numbers = min(self.memory // (4 * KEPT), CALL // (iterations + 1))
        return 2 ** int(np.log2(max(numbers // (2 * self.batch_size * values), 1)))

    def _optimised(self, index, lower, upper, boxes, neurons, iterations, rate):
        """Lower and upper bounds `(batch, n)`, and slopes `(batch, n, 2, neurons before)`."""
        number = {id(node): place for place, node in enumerate(self.sites)}
        shapes = [low.shape[1:] for low, _ in boxes]
        sizes = [int(np.prod(shape)) for shape in shapes]
        ends = np.cumsum([0, *sizes]).tolist()
        kinks = np.repeat([node.slope for node in self.sites[:index]], sizes).astype("float32")

        def run(box, boxes, neurons):
            lines = (
                node.lines(Interval(*(ops.reshape(side, (-1, 1, size)) for side in known)))
                for node, known, size in zip(self.sites, boxes, sizes, strict=False)
            )
            start = ops.concatenate([own.lower_slope for own in lines], -1)
            start = ops.repeat(start, 2 * neurons.shape[1], axis=1)

            def ask(node, here, pull):
                rows, nothing = both_sides(neurons, here)

                def bound(slopes):
                    pieces = [
                        ops.reshape(slopes[..., first:last], (-1, rows.shape[1], *shape))
                        for (first, last), shape in zip(pairwise(ends), shapes, strict=True)
                    ]

                    def back(nodes, traces, rows, constant):
                        mine = (number[id(site)] for site in sites_of(nodes))
                        traces = with_slopes(traces, (pieces[place] for place in mine))
                        return substitute(nodes, traces, rows, constant)

                    return concretise(box, *pull(rows, nothing, walk=back))

                low = ops.convert_to_tensor(kinks, dtype=rows.dtype)
                return optimise(bound, start, low, 1.0, iterations, rate)

            found, slopes = self._walk(box, boxes, ask)[2]
            count = neurons.shape[1]
            return -found[:, :count], found[:, count:], slopes

        key = ("tighten", index, neurons.shape[1], iterations, rate)
        low, high, slopes = self._call(key, run, (lower, upper), list(boxes), neurons)
        slopes = slopes.reshape(len(slopes), 2, neurons.shape[1], -1)
        return low, high, np.moveaxis(slopes, 1, 2)


def _unstable(boxes):
    """Numbers of the neurons of one input that cross 0."""
    return np.flatnonzero(np.concatenate([np.ravel((low < 0) & (high > 0)) for low, high in boxes]))


def _joined(parts, columns):
    """The `Tightening` of one input, from numbers of neurons and their levels."""
    asked = np.concatenate([np.zeros(0, int), *(neurons for neurons, _ in parts)])
    slopes = np.zeros((len(asked), 2, len(columns)), "uint8")
    start = 0
    for neurons, levels in parts:
        slopes[start : start + len(neurons), :, : levels.shape[-1]] = levels
        start += len(neurons)
    order = np.argsort(asked, kind="stable")
    return Tightening(asked[order].astype("int32"), columns.astype("int32"), slopes[order])

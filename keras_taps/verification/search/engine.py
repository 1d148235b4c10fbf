"""The fast bounds of one network over many boxes, compiled once for each fixed shape.

It is one long class, because all kinds of bounds share what is compiled and how batches are padded.
"""

import time
from collections.abc import Sequence
from functools import cached_property, partial

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.bounds.crops import Asked, Crop, largest_of, substitute_crops, widest
from keras_taps.bounds.margins import MarginRows, upper_margins
from keras_taps.bounds.nodes import (
    Elementwise,
    as_they_are,
    concretise,
    propagate,
    substitute,
    unfold,
)
from keras_taps.bounds.optimise import optimise
from keras_taps.bounds.traces import with_shift, with_slopes
from keras_taps.interval import Interval
from keras_taps.layers.residual import walk
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.verification.search.slopes import flat_slopes, lines_of, pieces_of, sites_of


class BoundEngine:
    """Bounds on linear forms of the outputs of a network, many boxes at a time.

    Inputs and results are NumPy arrays. Every batch is padded to `batch_size`, so that each
    function is compiled once; the weights are arguments of what is compiled. The arithmetic is the
    backend's float32: these bounds guide the search, and the checker confirms them.

    Args:
        network: `IntervalSequential` built from a graph: affine layers, ReLUs, max pooling, sums,
            and a Dense layer at the end.
        batch_size: Boxes at a time.
        memory: Bytes that one tensor of rows may take, which bounds how many neurons are asked at
            a time.

    Attributes:
        compile_s: Seconds spent in first calls, which compile.

    Example:

    >>> engine = BoundEngine(cnn3((8, 8, 1), 10, width=1), batch_size=2)
    >>> lower, upper = np.zeros((2, 8, 8, 1)), np.full((2, 8, 8, 1), 0.1)
    >>> boxes = engine.neuron_boxes(lower, upper)
    >>> engine.crown(lower, upper, np.eye(10)[None].repeat(2, 0), np.zeros((2, 10)), boxes).shape
    (2, 10)

    References:
        Zhang et al. 2018 (CROWN); Zhang et al. 2020 (CROWN-IBP); Xu et al. 2021 (alpha-CROWN).
    """

    def __init__(self, network: IntervalSequential, batch_size: int = 32, memory: int = 2**28):
        *self._body, self._last = network.layers
        self._variables = network.variables
        self.batch_size = batch_size
        self.memory = memory
        self.compile_s = 0.0
        self._compiled = {}
        self._widest = {}  # of each site the entries of a row on its way back

    @cached_property
    def _nodes(self):
        return unfold(self._body)

    @cached_property
    def sites(self) -> list:
        """The nonlinear nodes, in the order in which a box meets them.

        Raises:
            ValueError: If a layer has no linear relaxation; `ibp` works all the same.
        """
        return list(sites_of(self._nodes))

    def ibp(
        self, lower: np.ndarray, upper: np.ndarray, forms: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        """Upper bounds by interval arithmetic, the last layer merged into the forms.

        Args:
            lower: Array `(batch, ...)` of inputs, batch at most `batch_size`.
            upper: Array of the same shape.
            forms: Array `(batch, n, outputs)`.
            offset: Array `(batch, n)`.

        Returns:
            Array `(batch, n)`.
        """

        def run(box, forms, offset):
            return upper_margins(self._rows(forms, offset), walk(self._body, box))

        return self._call(("ibp", forms.shape[1]), run, (lower, upper), forms, offset)

    def crown(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        forms: np.ndarray,
        offset: np.ndarray,
        boxes: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    ) -> np.ndarray:
        """Upper bounds by one backward pass, or of IBP where those are lower; as `ibp`.

        Args:
            boxes: Boxes of the neurons from `neuron_boxes`; without them those of interval
                arithmetic, which makes the bounds CROWN-IBP's.
        """

        def run(box, boxes, forms, offset):
            features, traces, _ = self._walk(box, boxes)
            rows = self._rows(forms, offset)
            found = concretise(box, *substitute(self._nodes, traces, *rows))
            return ops.minimum(found, upper_margins(rows, features))

        key = ("crown", len(boxes), forms.shape[1])
        return self._call(key, run, (lower, upper), list(boxes), forms, offset)

    def alpha_crown(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        forms: np.ndarray,
        offset: np.ndarray,
        boxes: Sequence[tuple[np.ndarray, np.ndarray]],
        iterations: int = 20,
        rate: float = 0.1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """CROWN with slopes optimised for each form; arguments as `crown`.

        Returns:
            `(bounds, slopes)`: arrays `(batch, n)` and `(batch, n, neurons)`, the slopes of the
            lower lines of all ReLUs and of the lines of all curves that a form meets, in order,
            which let a checker repeat the bound.
        """
        if not any(isinstance(node, Elementwise) for node in self.sites):
            found = self.crown(lower, upper, forms, offset, boxes)
            return found, np.zeros((*found.shape, 0), "float32")

        def run(box, boxes, forms, offset):
            features, traces, _ = self._walk(box, boxes)
            rows = self._rows(forms, offset)
            low, high = self._slope_limits(traces)

            def bound(slopes, change=with_slopes):
                changed = change(traces, iter(pieces_of(traces, slopes)))
                return concretise(box, *substitute(self._nodes, changed, *rows))

            start = ops.repeat(flat_slopes(traces), forms.shape[1], axis=1)
            if any(isinstance(node, Elementwise) and node.curve for node in self.sites):
                shifted = partial(bound, change=with_shift)
                signs = backend.input_gradient(shifted, ops.zeros_like(start))[1]
                start = flat_slopes(traces, signs)

            found, slopes = optimise(bound, start, low, high, iterations, rate)
            return ops.minimum(found, upper_margins(rows, features)), slopes

        key = ("alpha", len(boxes), forms.shape[1], iterations, rate)
        return self._call(key, run, (lower, upper), list(boxes), forms, offset)

    def neuron_boxes(
        self, lower: np.ndarray, upper: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Boxes of the inputs of every nonlinear node, each unstable neuron bounded by CROWN.

        Args:
            lower: Array `(batch, ...)` of inputs, batch at most `batch_size`.
            upper: Array of the same shape.

        Returns:
            List of pairs of arrays `(batch, ...)`, in the order of `sites`.
        """
        boxes = []
        for index, node in enumerate(self.sites):
            low, high = self._here(index, lower, upper, boxes)
            # Interval arithmetic is exact before the first nonlinearity of a common network.
            if index:
                low, high = self._refine(index, node, lower, upper, boxes, low, high)
            boxes.append((low, high))
        return boxes

    def _here(self, index, lower, upper, boxes):
        def run(box, boxes):
            def look(node, here, pull):
                shape = tuple(here.lower.shape[1:])
                if len(shape) == 3 and index not in self._widest:
                    crop = _pixel(shape)
                    self._widest[index] = pull(crop, shape[-1], walk=widest)[1]
                return here

            return self._walk(box, boxes, look)[2]

        return self._call(("box", index), run, (lower, upper), list(boxes))

    def _refine(self, index, node, lower, upper, boxes, low, high):
        count, shape = len(low), low.shape[1:]
        low, high = (np.array(bound).reshape(count, -1) for bound in (low, high))
        kinked = isinstance(node, Elementwise) and node.curve is None
        asked = (low < 0) & (high > 0) if kinked else low < high
        ask = self._ask_pixels if len(shape) == 3 else self._ask_whole
        for (images, neurons), found in ask(index, lower, upper, boxes, asked, shape):
            place = images, neurons
            low[place] = np.fmax(low[place], found[0])
            high[place] = np.fmin(high[place], found[1])
        crossed = low > high  # by rounding only
        low[crossed], high[crossed] = high[crossed], low[crossed]
        return low.reshape(count, *shape), high.reshape(count, *shape)

    def _ask_whole(self, index, lower, upper, boxes, asked, shape):
        """Bounds on neurons by whole rows, the same number for each box of the batch."""
        for chosen, wanted in chunks_of(asked, self._chunk(boxes, shape)):
            found = self._ask(index, lower, upper, boxes, chosen)
            images = np.nonzero(wanted)[0]
            yield (images, chosen[wanted]), [bounds[wanted] for bounds in found]

    def _ask_pixels(self, index, lower, upper, boxes, asked, shape):
        """Bounds on neurons of images by crops, those of all boxes of the batch in one list."""
        images, neurons = np.nonzero(asked)
        pixels, channels = np.divmod(neurons, shape[-1])
        pixels = np.stack(np.divmod(pixels, shape[1]), -1)
        most = max(1, self.memory // (4 * 2 * 4 * self._widest[index]))  # rows and their lines
        most = max(64, 2 ** int(np.log2(most)))
        for start in range(0, len(images), most):
            part = slice(start, start + most)
            count = len(images[part])
            size = next(n for n in (most // 64, most // 8, most) if n >= count)
            given = [
                padded(values[part].astype("int32"), size) for values in (images, pixels, channels)
            ]
            found = self._ask_crops(index, lower, upper, boxes, shape, *given)
            yield (images[part], neurons[part]), [bounds[:count] for bounds in found]

    def _ask_crops(self, index, lower, upper, boxes, shape, images, pixels, channels):
        def run(box, boxes, images, pixels, channels):
            asked = Asked(images, pixels)

            def ask(node, here, pull):
                unit = ops.one_hot(channels, shape[-1], dtype=here.lower.dtype)
                rows = ops.stack([-unit, unit], axis=1)[:, :, None, None, :]
                nothing = ops.zeros(rows.shape[:2], dtype=rows.dtype)
                back = partial(substitute_crops, asked)
                return largest_of(asked, box, *pull(rows, nothing, _pixel(shape), walk=back))

            found = self._walk(box, boxes, ask)[2]
            return -found[:, 0], found[:, 1]

        key, given = ("crops", index, len(images)), (list(boxes), images, pixels, channels)
        return self._call(key, run, (lower, upper), *given, count=len(images))

    def _ask(self, index, lower, upper, boxes, neurons):
        def run(box, boxes, neurons):
            def ask(node, here, pull):
                return concretise(box, *pull(*both_sides(neurons, here)))

            found = self._walk(box, boxes, ask)[2]
            return -found[:, : neurons.shape[1]], found[:, neurons.shape[1] :]

        key = ("ask", index, neurons.shape[1])
        return self._call(key, run, (lower, upper), list(boxes), neurons)

    def _chunk(self, boxes, shape):
        widest = max(int(np.prod(s)) for s in (shape, *(box[0].shape[1:] for box in boxes)))
        rows = self.memory // (4 * widest * 2 * self.batch_size)
        return max(1, 2 ** int(np.log2(max(rows, 1))))

    def _walk(self, box, known, here=None):
        """Propagate with known boxes at the first sites, and look at the site after them."""
        taken, seen = iter(known), []

        def refine(node, arrived, pull):
            found = next(taken, None)
            if found is not None:
                return Interval(*found)
            if here is not None and not seen:
                seen.append(here(node, arrived, pull))
            return arrived

        refine = refine if known or here else as_they_are
        features, traces = propagate(self._nodes, box, refine)
        return features, traces, seen[0] if seen else None

    def _rows(self, forms, offset):
        kernel = ops.transpose(self._last.kernel)
        bias = ops.matmul(forms, self._last.bias[:, None])[..., 0] if self._last.use_bias else 0.0
        return MarginRows(ops.matmul(forms, kernel), bias + offset)

    def _slope_limits(self, traces):
        """Smallest and largest slopes `(neurons,)` of the lower lines of all activations."""
        limits = [node.slopes for node in self.sites if isinstance(node, Elementwise)]
        sizes = [int(np.prod(lines.lower_slope.shape[2:])) for lines in lines_of(traces)]
        sides = (np.repeat(np.array(side, "float32"), sizes) for side in zip(*limits, strict=True))
        return [ops.convert_to_tensor(side, dtype=keras.config.floatx()) for side in sides]

    def _call(self, key, function, box, *arguments, size=None, count=None):
        """Pad, run compiled, cut, and put the seconds of a first call aside."""
        count, size = count or len(box[0]), size or self.batch_size
        tensors = keras.tree.map_structure(
            partial(_tensor, size), [Interval(*box), *arguments], none_is_leaf=False
        )
        if key not in self._compiled:
            self._compiled[key] = backend.compiled(function, self._variables)
            if backend.compiles():
                start = time.perf_counter()
                keras.tree.map_structure(ops.convert_to_numpy, self._compiled[key](*tensors))
                self.compile_s += time.perf_counter() - start
        found = self._compiled[key](*tensors)
        return keras.tree.map_structure(lambda t: ops.convert_to_numpy(t)[:count], found)


def _tensor(size, array):
    array = padded(np.asarray(array), size)
    dtype = "int32" if array.dtype.kind in "iu" else keras.config.floatx()
    return ops.convert_to_tensor(array.astype(dtype))


def padded(array, count):
    """The array with its first entry repeated to `count`, where one shape spares a compilation."""
    missing = count - len(array)
    if missing <= 0 or not backend.compiles():
        return array
    return np.concatenate([array, np.repeat(array[:1], missing, 0)])


def _pixel(shape):
    """The crop of one pixel of a layer of this shape."""
    return Crop((1, 1), (0, 0), (1, 1), tuple(shape[:2]))


def chunks_of(asked, limit):
    """Numbers of neurons to ask, at most so many at a time, equally many for each box of a batch.

    Args:
        asked: Boolean array `(batch, neurons)`.
        limit: Numbers a box.

    Yields:
        `(chosen, wanted)`: an int32 array `(batch, n)`, and which of its entries were asked: those
        that fill it up keep their boxes, or these would depend on the batch.
    """
    most, order = int(asked.sum(1).max()), np.argsort(~asked, axis=1, kind="stable")
    size = min(max(16, 2 ** int(np.ceil(np.log2(max(most, 1))))), limit)  # few shapes to compile
    for start in range(0, most, size):
        chosen = order[:, start : start + size]
        wanted = np.take_along_axis(asked, chosen, 1)
        missing = (0, 0), (0, size - chosen.shape[1])
        yield np.pad(chosen, missing, mode="edge").astype("int32"), np.pad(wanted, missing)


def both_sides(neurons, here):
    """Forms `(rows, constant)` of the lower bounds of neurons `(batch, n)`, then of the upper."""
    shape = tuple(here.lower.shape[1:])
    unit = ops.one_hot(neurons, int(np.prod(shape)), dtype=here.lower.dtype)
    rows = ops.concatenate([-unit, unit], axis=1)
    rows = ops.reshape(rows, (-1, rows.shape[1], *shape))
    return rows, ops.zeros((neurons.shape[0], rows.shape[1]), dtype=rows.dtype)

"""Rows of convolutions as crops: from a pixel of a layer back to the few pixels it sees.

Seen through a few convolutions, a neuron depends on a small part of the image. Here a batch is not
of images but of neurons, each of some image and pixel, and their rows `(neurons, n, height, width,
channels)` are 0 outside of crops of one size. What the nodes keep of their boxes is looked up at
those crops, so that the way back through a node is the same as for whole rows.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_taps.bounds.lines import Lines
from keras_taps.bounds.nodes import Affine, Elementwise, Sum, concretise
from keras_taps.interval import Interval
from keras_taps.layers import IntervalScale


@dataclass(frozen=True)
class Crop:
    """Where the rows of a pixel live, in a layer before: from `pixel * strides - offset` on.

    Args:
        strides: Pair, the product of all strides on the way.
        offset: Pair.
        size: Height and width.
        shape: Height and width of the layer's images.
    """

    strides: tuple
    offset: tuple
    size: tuple
    shape: tuple


@dataclass(frozen=True)
class Asked:
    """The neurons that a batch of rows belongs to.

    Args:
        images: Integer tensor `(neurons,)`: number of the image.
        pixels: Integer tensor `(neurons, 2)`: row and column in the layer.
    """

    images: object
    pixels: object

    def at(self, values, crop):
        """Values `(batch, height, width, channels)` at a crop of each neuron, 0 outside of images.

        Args:
            values: Tensor; of any shape `(batch, ...)` where `crop` is `None`.
            crop: `Crop`, or `None` for the whole image of each neuron.
        """
        if crop is None:
            return ops.take(values, self.images, axis=0)
        batch, (height, width), channels = values.shape[0], crop.shape, values.shape[-1]
        (down, y), (right, x) = self._spans(crop)
        inside = ops.logical_and(down[:, :, None], right[:, None, :])
        numbers = (self.images[:, None, None] * height + y[:, :, None]) * width + x[:, None, :]
        table = ops.reshape(values, (-1, channels))
        table = ops.concatenate([table, ops.zeros_like(table[:1])])
        return ops.take(table, ops.where(inside, numbers, batch * height * width), axis=0)

    def cleared(self, rows, crop):
        """The rows with 0 outside of the image."""
        (down, _), (right, _) = self._spans(crop)
        inside = ops.logical_and(down[:, :, None], right[:, None, :])
        return rows * ops.cast(inside[:, None, :, :, None], rows.dtype)

    def filled(self, rows, crop):
        """Whole rows `(neurons, n, height, width, channels)`: 0 around the crops."""
        spans = []
        for side, (_, places) in enumerate(self._spans(crop)):
            numbers = ops.arange(crop.shape[side], dtype="int32")
            # What lies outside is at no row or column, so it is dropped.
            spans.append(ops.cast(places[..., None] == numbers, rows.dtype))
        tall = ops.einsum("knpqc,kph->knhqc", rows, spans[0])
        return ops.einsum("knhqc,kqw->knhwc", tall, spans[1])

    def _spans(self, crop):
        for side in (0, 1):
            start = self.pixels[:, side] * crop.strides[side] - crop.offset[side]
            places = start[:, None] + ops.arange(crop.size[side], dtype="int32")
            yield ops.logical_and(places >= 0, places < crop.shape[side]), places


def substitute_crops(asked, nodes, traces, rows, constant, crop):
    """Pass bounds back to the inputs of the first node, as `substitute` does.

    Args:
        asked: `Asked`.
        nodes: List of nodes.
        traces: Their traces.
        rows: Tensor `(neurons, n, ...)`.
        constant: Tensor `(neurons, n)`.
        crop: `Crop` of the rows, or `None` where they are whole.

    Returns:
        `(rows, constant, crop)` on the inputs of the first node.
    """
    for node, trace in zip(reversed(nodes), reversed(traces), strict=True):
        rows, constant, crop = _step(asked, node, trace, rows, constant, crop)
    return rows, constant, crop


def widest(nodes, traces, crop, most):
    """Largest number of entries of a row on the way back, of these nodes and of `most`.

    Returns:
        `(crop, most)`.
    """
    for node, trace in zip(reversed(nodes), reversed(traces), strict=True):
        if isinstance(node, Sum):
            inner = [
                widest(*branch, crop, most) for branch in zip(node.branches, trace, strict=True)
            ]
            most = max(count for _, count in inner)
        crop = crop_before(node, trace, crop)
        most = max(most, _entries(crop, _in_shape(node, trace)))
    return crop, most


def largest_of(asked, box, rows, constant, crop):
    """Largest values `(neurons, n)` of forms on the inputs."""
    return concretise(Interval(*(asked.at(side, crop) for side in box)), rows, constant)


def _step(asked, node, trace, rows, constant, crop):
    before = crop_before(node, trace, crop)
    if isinstance(node, Sum):
        total = 0.0
        for branch, inner in zip(node.branches, trace, strict=True):
            back, constant, own = substitute_crops(asked, branch, inner, rows, constant, crop)
            total = total + _moved(asked, back, own, before)
        return total, constant, before
    if crop is None:
        return *node.backward(_of(asked, trace), rows, constant), None
    if isinstance(node, Elementwise):
        trace = Lines(*(asked.at(line[:, 0], crop)[:, None] for line in trace[:4]))
        return *node.backward(trace, rows, constant), crop
    if before is None:
        rows = asked.filled(rows, crop)
        return *node.backward(_of(asked, trace), rows, constant), None
    if isinstance(node, Affine):
        if _padding(node) is not None:
            return asked.cleared(rows, before), constant, before
        return *node.backward((*before.size, trace[-1]), rows, constant), before
    lower, highest, decided = trace
    trace = asked.at(lower, before), asked.at(highest, crop), asked.at(decided, crop)
    return *node.backward(trace, rows, constant), before


def crop_before(node, trace, crop):
    """The crop of rows on the inputs of a node, or `None` where they are whole."""
    if crop is None or isinstance(node, Elementwise):
        return crop
    if isinstance(node, Sum):
        found = []
        for branch, inner in zip(node.branches, trace, strict=True):
            own = crop
            for step, kept in zip(reversed(branch), reversed(inner), strict=True):
                own = crop_before(step, kept, own)
            found.append(own)
        return _union(found)
    padding, window = _padding(node), _window(node)
    shape = _in_shape(node, trace)[:2]
    if padding is not None:
        offset = tuple(a + b for a, b in zip(crop.offset, padding, strict=True))
        return Crop(crop.strides, offset, crop.size, shape)
    if window is None:
        return None
    extent, strides = window
    size = tuple(s * (n - 1) + e for s, n, e in zip(strides, crop.size, extent, strict=True))
    if np.prod(size) >= np.prod(shape):
        return None
    factors, offset = (
        tuple(a * s for a, s in zip(pair, strides, strict=True))
        for pair in (crop.strides, crop.offset)
    )
    return Crop(factors, offset, size, shape)


def _union(crops):
    if any(crop is None or crop.strides != crops[0].strides for crop in crops):
        return None
    offset = tuple(max(crop.offset[side] for crop in crops) for side in (0, 1))
    ends = [max(crop.size[side] - crop.offset[side] for crop in crops) for side in (0, 1)]
    size = tuple(end + start for end, start in zip(ends, offset, strict=True))
    if np.prod(size) >= np.prod(crops[0].shape):
        return None
    return Crop(crops[0].strides, offset, size, crops[0].shape)


def _moved(asked, rows, crop, target):
    """The rows in the place of a larger crop, or whole ones."""
    if crop == target:
        return rows
    if target is None:
        return asked.filled(rows, crop)
    pads = []
    for side in (0, 1):
        start = target.offset[side] - crop.offset[side]
        pads.append((start, target.size[side] - crop.size[side] - start))
    return ops.pad(rows, ((0, 0), (0, 0), *pads, (0, 0)))


def _of(asked, trace):
    """The trace of the image of each neuron, for whole rows."""
    if isinstance(trace, Lines):
        return Lines(*(asked.at(line, None) for line in trace[:4]))
    if isinstance(trace[0], int):
        return trace
    return tuple(asked.at(values, None) for values in trace)


def _in_shape(node, trace):
    """Shape of one input of a node."""
    if isinstance(node, Elementwise):
        return tuple(trace.lower_slope.shape[2:])
    if isinstance(node, Sum):
        branch, inner = next(pair for pair in zip(node.branches, trace, strict=True) if pair[0])
        return _in_shape(branch[0], inner[0])
    return tuple(trace) if isinstance(node, Affine) else tuple(trace[0].shape[1:])


def _entries(crop, shape):
    return int(np.prod(shape if crop is None else (*crop.size, shape[-1])))


def _padding(node):
    """Rows above and columns to the left that a node pads with zeros, if that is what it does."""
    if isinstance(node.layer, keras.layers.ZeroPadding2D):
        return tuple(before for before, _ in node.layer.padding)
    return None


def _window(node):
    """Extent and strides of the windows of a node without padding, or `None` if it has none."""
    layer = node.layer
    if isinstance(layer, IntervalScale) and np.prod(layer.shape[:-1]) == 1:
        return (1, 1), (1, 1)
    if getattr(layer, "padding", None) != "valid" or len(getattr(layer, "strides", ())) != 2:
        return None
    if isinstance(layer, (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)):
        return tuple(layer.pool_size), tuple(layer.strides)
    pairs = zip(layer.kernel_size, layer.dilation_rate, strict=True)
    return tuple(d * (k - 1) + 1 for k, d in pairs), tuple(layer.strides)

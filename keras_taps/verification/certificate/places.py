"""Where the rows of linear forms live: everywhere, or in crops of images.

Seen through a few convolutions, a neuron depends on a small part of the image. Rows that go back
from it are 0 outside of that part, so they are kept as crops of one size, each with its place. A
crop may reach over the border; there its entries are 0, like the padding they stand for.
"""

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.nodes import Conv, MaxPool, Relu, Scale, Sum


class Whole:
    """The place of rows `(n, ...)` that have the shape of what they multiply."""

    origins = np.zeros((1, 2), int)

    def dot(self, rows, values):
        """Inner products `(n,)` with one array of the rows' shape."""
        return rows.reshape(len(rows), -1) @ np.ascontiguousarray(values).reshape(-1)

    def times(self, rows, values):
        """The rows, entry by entry, times an array that broadcasts with them."""
        return rows * values

    def before(self, node):
        """The place of the rows on the inputs of a node, from that on its outputs."""
        return self

    def entries(self, shape):
        """Entries of a row on values of this shape."""
        return int(np.prod(shape))

    def moved(self, rows, target, shape):
        """The rows in another place."""
        return rows


WHOLE = Whole()


@dataclass(frozen=True)
class Crops:
    """The place of rows `(n, height, width, channels)`: the first n / P at the first of P origins.

    Args:
        origins: Integer array `(P, 2)`: the row and column of the image where a crop begins,
            outside of it where they are below 0.
        size: Height and width of a crop.
        shape: Height and width of the image.
    """

    origins: np.ndarray
    size: tuple
    shape: tuple

    @cached_property
    def _inside(self):
        """Boolean array `(P, height, width)`: which entries lie in the image."""
        at = [self.origins[:, side, None] + np.arange(self.size[side]) for side in (0, 1)]
        down, right = ((a >= 0) & (a < n) for a, n in zip(at, self.shape, strict=True))
        return down[:, :, None] & right[:, None, :]

    @cached_property
    def _pixels(self):
        """Numbers of the pixels `(P, height, width)`, outside that after the last."""
        at = [self.origins[:, side, None] + np.arange(self.size[side]) for side in (0, 1)]
        numbers = at[0][:, :, None] * self.shape[1] + at[1][:, None, :]
        return np.where(self._inside, numbers, self.shape[0] * self.shape[1])

    def at(self, values):
        """Crops `(P, height, width, channels)` of an image, 0 outside of it."""
        pixels = values.reshape(-1, values.shape[-1])
        nothing = np.zeros((1, pixels.shape[1]), pixels.dtype)
        return np.concatenate([pixels, nothing])[self._pixels]

    def grouped(self, rows):
        """The rows by origin: `(P, n / P, height, width, channels)`."""
        return rows.reshape(len(self.origins), -1, *rows.shape[1:])

    def dot(self, rows, values):
        """Inner products `(n,)` with the crops of one image."""
        values = self.at(values).reshape(len(self.origins), -1, 1)
        return (rows.reshape(len(values), -1, values.shape[1]) @ values).reshape(-1)

    def times(self, rows, values):
        """The rows, entry by entry, times the crops of one image."""
        values = self.at(values.reshape(values.shape[-3:]))
        return (self.grouped(rows) * values[:, None]).reshape(rows.shape)

    def reach(self, node):
        """The crops of the inputs of a convolution or pooling on which these depend."""
        if isinstance(node, MaxPool):
            extent = node.size
        else:
            pairs = zip(node.dilation, node.kernel.shape, strict=False)
            extent = [step * (taps - 1) + 1 for step, taps in pairs]
        sides = zip(node.strides, self.size, extent, strict=True)
        size = tuple(stride * (count - 1) + more for stride, count, more in sides)
        margin = np.array([before for before, _ in node.padding])
        return Crops(self.origins * np.array(node.strides) - margin, size, node.in_shape[:2])

    def before(self, node):
        """The place of the rows on the inputs of a node; `WHOLE` where crops do not pay."""
        if isinstance(node, (Curve, Relu, Scale)):
            return self
        if isinstance(node, (Conv, MaxPool)):
            found = self.reach(node)
        elif isinstance(node, Sum):
            found = _union([reduce(_before, reversed(branch), self) for branch in node.branches])
        else:
            return WHOLE
        return found if found is WHOLE or np.prod(found.size) < np.prod(found.shape) else WHOLE

    def entries(self, shape):
        """Entries of a row on values of this shape."""
        return int(np.prod(self.size)) * shape[-1]

    def cleared(self, rows):
        """The rows, changed in place to be 0 outside of the image."""
        groups = self.grouped(rows)
        for p in np.flatnonzero(~self._inside.all((1, 2))):
            groups[p][:, ~self._inside[p]] = 0.0
        return rows

    def moved(self, rows, target, shape):
        """The rows in another place, which holds all of them that lies in the image."""
        if target is WHOLE:
            target = Crops(np.zeros_like(self.origins), tuple(shape[:2]), self.shape)
        groups = self.grouped(rows)
        out = np.zeros((*groups.shape[:2], *target.size, rows.shape[-1]))
        start = self.origins - target.origins
        low, high = np.maximum(start, 0), np.minimum(start + self.size, target.size)
        for p in range(len(groups)):
            take, put = (
                tuple(slice(a, max(a, b)) for a, b in zip(low[p] - by, high[p] - by, strict=True))
                for by in (start[p], 0)
            )
            out[(p, slice(None), *put)] = groups[(p, slice(None), *take)]
        return out.reshape(-1, *out.shape[2:])


def _before(place, node):
    return place.before(node)


def _union(places):
    """The smallest crops that hold others of the same image, or `WHOLE` if one of them is."""
    if any(place is WHOLE for place in places):
        return WHOLE
    low = np.min([place.origins for place in places], 0)
    high = np.max([place.origins + place.size for place in places], 0)
    return Crops(low, tuple((high - low).max(0).tolist()), places[0].shape)

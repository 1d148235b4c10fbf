"""Layers that move, drop or repeat pixels, as convolutions whose weights are 0 and 1.

So the checker, the solver and the writers need no node for any of them.
"""

import math

import numpy as np

from keras_taps.verification.graph.nodes import Conv, Reshape


def zero_padding(layer, shape):
    padding = tuple(tuple(int(v) for v in pair) for pair in layer.padding)
    return [_each_channel(np.ones((1, 1)), shape, padding)]


def _each_channel(kernel, shape, padding=((0, 0), (0, 0))):
    """The same kernel `(height, width)` for each channel, without a bias."""
    channels = shape[-1]
    kernel = np.repeat(np.asarray(kernel, "float64")[:, :, None, None], channels, -1)
    return Conv(kernel, np.zeros(channels), shape, padding=padding, groups=channels)


def cropping(layer, shape):
    (top, bottom), (left, right) = layer.cropping
    kernel = np.zeros((top + bottom + 1, left + right + 1))
    kernel[top, left] = 1  # which takes what lies below and to the right of each corner
    return [_each_channel(kernel, shape)]


def _repeated(times, before, after):
    """From shape `(before, after)` to `(before, times, after)`: zeros around, and their sums."""
    padding = ((0, 0), (times - 1, times - 1))
    return _each_channel(np.ones((1, times)), (before, 1, after), padding)


def _chained(shape, nodes, out_shape):
    """Nodes that read the same numbers in shapes of their own."""
    for node in nodes:
        yield Reshape(shape, node.in_shape)
        yield node
        shape = node.out_shape
    yield Reshape(shape, out_shape)


def up_sampling(layer, shape):
    (height, width, channels), (down, right) = shape, layer.size
    rows = _repeated(down, height, width * channels)
    columns = _repeated(right, height * down * width, channels)
    nodes = [node for node, times in ((rows, down), (columns, right)) if times > 1]
    return _chained(shape, nodes, (height * down, width * right, channels))


def repeat_vector(layer, shape):
    return _chained(shape, [_repeated(layer.n, 1, *shape)], (layer.n, *shape))


def permute(layer, shape):
    """Axis after axis goes to the end, by a convolution without overlap that picks its entries."""
    nodes, axes, wanted = [], list(range(len(shape))), [dim - 1 for dim in layer.dims]
    kept = max(k for k in range(len(wanted) + 1) if wanted[:k] == sorted(wanted[:k]))
    for axis in wanted[kept:]:
        place, count = axes.index(axis), shape[axis]
        before, after = (
            math.prod(shape[a] for a in part) for part in (axes[:place], axes[place + 1 :])
        )
        kernel, strides = np.eye(count)[:, None, None, :], (count, 1)
        nodes.append(Conv(kernel, np.zeros(count), (before * count, after, 1), strides))
        axes.append(axes.pop(place))
    return _chained(shape, nodes, tuple(shape[axis] for axis in axes))

"""Max pooling as ReLUs, so that branch and bound has nothing but ReLUs to split."""

import math
from dataclasses import replace

import numpy as np

from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, MaxPool, Relu, Reshape, Sum
from keras_taps.verification.graph.storage import WIDEST
from keras_taps.verification.graph.traverse import nonlinear


def without_pooling(graph):
    """The same function with every max pooling replaced by ReLUs: `max(a, b) = b + relu(a - b)`.

    The new weights are 0, 1 and -1, and a difference is exact in real arithmetic: both graphs are
    one function of the reals, and a proof about the result is a proof about the original. Run in
    floating point they may differ by rounding.

    A window of h x w becomes a maximum over its rows and then one over its columns, each a
    tournament of pairs: h - 1 ReLUs an output, and then w - 1.

    Args:
        graph: `Graph`.

    Returns:
        `Graph` without `MaxPool` nodes; the same object if there was none.

    Raises:
        ValueError: If a max pooling has padding and its input is not known to be at least 0: only
            then can zeros, which are all that a convolution pads with, never win. Or if the
            result would have layers or kernels beyond what a network may have.

    Example:

    >>> from keras_taps.verification.graph.nodes import Dense
    >>> pool, flat = MaxPool((2, 2, 1), (2, 2), (2, 2)), Reshape((1, 1, 1), (1,))
    >>> graph = without_pooling(Graph((pool, flat, Dense(np.ones((1, 1)), np.zeros(1)))))
    >>> graph(np.array([1.0, -3.0, 5.0, 2.0]).reshape(1, 2, 2, 1))
    array([[5.]])
    """
    if not any(isinstance(node, MaxPool) for node in nonlinear(graph.nodes)):
        return graph
    return Graph(_rewritten(graph.nodes, False)[0])


def _rewritten(nodes, positive):
    """Nodes without pooling, and whether what they give is surely at least 0."""
    found = []
    for node in nodes:
        if isinstance(node, MaxPool):
            if np.any(node.padding) and not positive:
                raise ValueError(
                    f"Max pooling with padding {node.padding} can be written as ReLUs only after "
                    "a ReLU, where zeros never win. Accepted: no padding, or a ReLU before it."
                )
            found += _pooling(node)
        elif isinstance(node, Sum):
            pairs = [_rewritten(branch, positive) for branch in node.branches]
            branches, signs = zip(*pairs, strict=True)
            found.append(replace(node, branches=branches))
            positive = all(signs)
        else:
            found.append(node)
            if not isinstance(node, Reshape):  # which keeps signs, and so does max pooling
                positive = isinstance(node, Relu) and node.slope == 0
    return tuple(found), positive


def _pooling(node):
    shape = node.in_shape
    for axis in (0, 1):
        yield from _along(axis, shape, node.size[axis], node.strides[axis], node.padding[axis])
        shape = (*node.out_shape[: axis + 1], *shape[axis + 1 :])


def _along(axis, shape, size, stride, padding):
    """Maximum over windows along one axis of images."""
    if (size, stride, tuple(padding)) == (1, 1, (0, 0)):
        return
    channels = shape[-1]
    # Where one window is all there is, its stride means nothing and is set to 1: with a larger one
    # PyTorch 2.13 on a CPU misreads images of one channel.
    length = shape[axis] + sum(padding)
    alone = length < size + stride
    rows = length if alone else size
    _check_size("a kernel", rows, size, channels)
    # The entries of each window become neighbouring channels, the first channel's first.
    taps = np.tile(np.eye(rows, size), channels)
    stride = 1 if alone else stride
    gather = Conv(
        np.expand_dims(taps, (1 - axis, 2)),
        np.zeros(size * channels),
        shape,
        strides=(stride, 1) if axis == 0 else (1, stride),
        padding=(padding, (0, 0)) if axis == 0 else ((0, 0), padding),
        groups=channels,
    )
    _check_size("a layer", *gather.out_shape)
    yield gather
    shape = (*gather.out_shape[:2], channels)
    count = int(np.prod(shape))
    yield Reshape(gather.out_shape, (count, size, 1))
    while size > 1:
        winners = _round(count, size)
        yield winners
        size = winners.out_shape[1]
    yield Reshape((count, 1, 1), shape)


def _check_size(what, *shape):
    """Raise `ValueError` for more numbers than a layer may have, before any is there."""
    if math.prod(shape) > WIDEST:
        raise ValueError(
            f"Max pooling is written as ReLUs with at most {WIDEST} numbers in {what}. "
            f"Received: windows that take {math.prod(shape)}"
        )


def _round(count, size):
    """One round of the tournament in every row of an image `(count, size, 1)`.

    An odd first entry has no partner and goes through.
    """
    shape, odd = (count, size, 1), size % 2
    # Of two or three entries there is one pair: no stride, as above.
    first = _row([0, 1, -1] if odd else [1, -1], shape, stride=1 if size < 4 else 2)
    gain = (first, Relu(first.out_shape))
    if odd:
        gain = (*gain, _row([1], first.out_shape, stride=1, left=1))
    second = _row([0, 1], shape, left=odd)
    return Sum(shape, (gain, (second,)))


def _row(taps, shape, stride=2, left=0):
    """Convolution along the rows of an image with one channel."""
    kernel = np.reshape(np.array(taps, "float64"), (1, -1, 1, 1))
    return Conv(kernel, np.zeros(1), shape, strides=(1, stride), padding=((0, 0), (left, 0)))

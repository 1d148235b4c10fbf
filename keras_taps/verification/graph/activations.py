"""Activations as nodes: those made of lines become ReLUs, which branch and bound can split.

`min(y, c) = c - relu(c - y)`, so a clip is two ReLUs one after the other, and its box is as small
as its own. In real arithmetic these are the same functions.
"""

import numpy as np

from keras_taps.verification.graph.curves import FUNCTIONS, Curve
from keras_taps.verification.graph.nodes import Relu, Scale, Sum


def activation(name, shape):
    """Nodes of a Keras activation function.

    Args:
        name: One of the names that interval layers accept.
        shape: Shape of one input.

    Returns:
        List of nodes.

    Example:

    >>> [type(node).__name__ for node in activation("relu6", (3,))]
    ['Relu', 'Scale', 'Relu', 'Scale']
    """
    if name in FUNCTIONS:
        return [Curve(shape, name)]
    return _OTHERS[name](shape)


def scale(shape, factor, shift=0.0):
    """`factor * x + shift`."""
    return Scale(np.asarray(factor, "float64"), np.asarray(shift, "float64"), shape)


def at_most(shape, high):
    """Nodes of `min(x, high)`."""
    return [scale(shape, -1.0, high), Relu(shape), scale(shape, -1.0, high)]


def steep(shape, slope):
    """Node of `max(x, 0) - slope * max(-x, 0)` for any slope, a number or an array."""
    negative = (scale(shape, -1.0), Relu(shape), scale(shape, -np.asarray(slope, "float64")))
    return Sum(shape, ((Relu(shape),), negative))


def clip(shape, low, high):
    """Nodes of `min(max(x, low), high)`; `None` stands for no bound."""
    if low is None:
        return [] if high is None else at_most(shape, high)
    first = [scale(shape, 1.0, -low)] if low else []
    if high is None:
        return [*first, Relu(shape), *([scale(shape, 1.0, low)] if low else [])]
    *capped, last = at_most(shape, high - low)
    return [*first, Relu(shape), *capped, scale(shape, -1.0, last.bias + low)]


def _hard_sigmoid(shape):
    *clipped, last = clip(shape, -3.0, 3.0)
    return [*clipped, scale(shape, -1 / 6, (last.bias + 3) / 6)]


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_OTHERS = {
    "relu": lambda shape: [Relu(shape)],
    "leaky_relu": lambda shape: [Relu(shape, 0.2)],
    "relu6": lambda shape: clip(shape, 0.0, 6.0),
    "hard_tanh": lambda shape: clip(shape, -1.0, 1.0),
    "hard_sigmoid": _hard_sigmoid,
    "celu": lambda shape: [Curve(shape, "elu")],
    "selu": lambda shape: [Curve(shape, "elu", _SELU_ALPHA), scale(shape, _SELU_SCALE)],
    "log_sigmoid": lambda shape: [
        scale(shape, -1.0),
        Curve(shape, "softplus"),
        scale(shape, -1.0),
    ],
}

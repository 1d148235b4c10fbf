"""Monotone activations: which they are, and how a box goes through one."""

import keras
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers.base import IntervalLayer, serializable
from keras_taps.layers.passes import PLAIN

# Piecewise linear with one kink at zero: the warm-up regulariser speaks of these.
_RELUS = ("relu", "leaky_relu")
_MONOTONE = (
    *_RELUS,
    "relu6",
    "elu",
    "selu",
    "celu",
    "softplus",
    "softsign",
    "sigmoid",
    "hard_sigmoid",
    "log_sigmoid",
    "tanh",
    "hard_tanh",
    "exponential",
)


def activation_name(function):
    """Name of a Keras activation function; `None` and identity are 'linear'."""
    return "linear" if function is None else getattr(function, "__name__", repr(function))


def _known(function, name):
    # A function of the user's may have any name.
    own = (getattr(keras.activations, name, None), getattr(ops, name, None))
    return name in _MONOTONE and function in own


def check_monotone(function, layer_name):
    """Raise `ValueError` unless `function` is linear or a known non-decreasing activation."""
    name = activation_name(function)
    if name != "linear" and not _known(function, name):
        hint = (
            " Leave the softmax off: margins are differences of logits."
            if "softmax" in name
            else ""
        )
        raise ValueError(
            f"Layer '{layer_name}' has the activation {name!r}, which is not known to be monotone. "
            f"Accepted: 'linear', {', '.join(map(repr, _MONOTONE))}.{hint}"
        )


def activate(function, box, given=PLAIN):
    """Box after a monotone activation, in a `Pass`."""
    name = activation_name(function)
    if name == "linear":
        return box
    if name in _RELUS:
        return rectify(function, box, given)
    return Interval(function(box.lower), function(box.upper))


def rectify(function, box, given=PLAIN):
    """Box after a ReLU or leaky ReLU, in a `Pass` that may ask for the box before or shrink it."""
    given.enters_relu(box)
    lower, upper = function(box.lower), function(box.upper)
    if given.relu_shrinkage != 1:
        crossing = ops.logical_and(box.lower < 0, box.upper > 0)
        upper = ops.where(crossing, given.relu_shrinkage * upper, upper)
    return Interval(lower, upper)


class ActivatedLayer(IntervalLayer):
    """Mixin for stock layers with an `activation` argument, which must be monotone."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        check_monotone(self.activation, self.name)

    @property
    def relus(self):
        return int(activation_name(self.activation) != "linear")

    def propagate(self, box, given):
        return activate(self.activation, self.propagate_affine(box), given)

    def propagate_affine(self, box):
        """Box before the activation."""
        raise NotImplementedError


@serializable
class IntervalActivation(ActivatedLayer, keras.layers.Activation):
    """`keras.layers.Activation` that takes boxes; the function must be monotone.

    Args:
        activation: Name or function, one of the activations that never decrease.

    Raises:
        ValueError: If the activation is not known to be monotone (softmax, gelu, silu, ...).

    Example:

    >>> box = Interval(ops.array([[-1.0]]), ops.array([[2.0]]))
    >>> float(IntervalActivation("relu")(box).lower[0, 0])
    0.0
    """

    def propagate_affine(self, box):
        return box


class _KinkedLayer(IntervalLayer):
    """Mixin for the layers `ReLU` and `LeakyReLU`."""

    relus = 1

    def propagate(self, box, given):
        return rectify(super().call, box, given)


@serializable
class IntervalReLU(_KinkedLayer, keras.layers.ReLU):
    """`keras.layers.ReLU` that takes boxes; Keras itself refuses a negative threshold or slope.

    Example:

    >>> box = Interval(ops.array([[-1.0]]), ops.array([[2.0]]))
    >>> float(IntervalReLU()(box).upper[0, 0])
    2.0
    """


@serializable
class IntervalLeakyReLU(_KinkedLayer, keras.layers.LeakyReLU):
    """`keras.layers.LeakyReLU` that takes boxes; Keras itself refuses a negative slope.

    Example:

    >>> box = Interval(ops.array([[-1.0]]), ops.array([[2.0]]))
    >>> round(float(IntervalLeakyReLU(0.1)(box).lower[0, 0]), 3)
    -0.1
    """


@serializable
class IntervalELU(IntervalLayer, keras.layers.ELU):
    """`keras.layers.ELU` that takes boxes.

    Raises:
        ValueError: If `alpha` is negative: that function is not monotone.

    Example:

    >>> box = Interval(ops.array([[-1.0]]), ops.array([[2.0]]))
    >>> float(IntervalELU()(box).upper[0, 0])
    2.0
    """

    relus = 1

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(alpha=alpha, **kwargs)
        if self.alpha < 0:
            raise ValueError(f"`alpha` must be >= 0 for a monotone ELU. Received: {self.alpha}")

    def propagate(self, box, given):
        stock = super().call
        return Interval(stock(box.lower), stock(box.upper))

"""Activations: which are known, and how a box goes through one."""

from typing import Any

import keras
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers.base import IntervalLayer, serializable
from keras_taps.layers.curves import CURVES
from keras_taps.layers.passes import PLAIN, Pass

# Piecewise linear with one kink at zero: the warm-up regulariser speaks of these.
_RELUS = ("relu", "leaky_relu")
_KNOWN = (*_RELUS, *CURVES)


def activation_name(function):
    """Name of a Keras activation function; `None` and Keras' identity are 'linear'.

    Another function that has the name of one of Keras' goes by where it is from.
    """
    if function is None:
        return "linear"
    name = getattr(function, "__name__", repr(function))
    if name in ("linear", *_KNOWN) and not _is_keras(function, name):
        return f"{getattr(function, '__module__', None)}.{name}"
    return name


def _is_keras(function, name):
    # A function of the user's may have any name.
    own = [getattr(keras.activations, name, None)]
    if name != "gelu":  # which in keras.ops is the approximate one
        own.append(getattr(ops, name, None))
    return any(function is one for one in own)


def check_activation(function, layer_name):
    """Raise `ValueError` unless `function` is linear or an activation of which bounds are known."""
    name = activation_name(function)
    if name not in ("linear", *_KNOWN):
        hint = (
            " Leave the softmax off: margins are differences of logits."
            if "softmax" in name
            else ""
        )
        raise ValueError(
            f"Layer '{layer_name}' has the activation {name!r}, of which no bounds are known. "
            f"Accepted: 'linear', {', '.join(map(repr, _KNOWN))}.{hint}"
        )


def activate(function, box, given=PLAIN):
    """Box after an activation, in a `Pass`."""
    name = activation_name(function)
    if name == "linear":
        return box
    if name in _RELUS:
        return rectify(function, box, given)
    lower, upper = function(box.lower), function(box.upper)
    bottom = CURVES[name].bottom
    if bottom is None:
        return Interval(lower, upper)
    holds = ops.logical_and(box.lower < bottom, box.upper > bottom)
    lowest = function(ops.full((1,) * len(box.lower.shape), bottom, dtype=box.lower.dtype))
    return Interval(ops.where(holds, lowest, ops.minimum(lower, upper)), ops.maximum(lower, upper))


def rectify(function, box, given=PLAIN):
    """Box after a ReLU or leaky ReLU, in a `Pass` that may ask for the box before or shrink it."""
    given.enters_relu(box)
    lower, upper = function(box.lower), function(box.upper)
    if given.relu_shrinkage != 1:
        crossing = ops.logical_and(box.lower < 0, box.upper > 0)
        upper = ops.where(crossing, given.relu_shrinkage * upper, upper)
    return Interval(lower, upper)


class ActivatedLayer(IntervalLayer):
    """Mixin for stock layers with an `activation` argument, which must be a known one."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_activation(self.activation, self.name)

    @property
    def relus(self) -> int:
        return int(activation_name(self.activation) != "linear")

    def propagate(self, box: Interval, given: Pass) -> Interval:
        return activate(self.activation, self.propagate_affine(box), given)

    def propagate_affine(self, box: Interval) -> Interval:
        """Box before the activation."""
        raise NotImplementedError


@serializable
class IntervalActivation(ActivatedLayer, keras.layers.Activation):
    """`keras.layers.Activation` that takes boxes; the function must be a known one.

    Args:
        activation: Name or function.

    Raises:
        ValueError: If no bounds of the activation are known (softmax, mish, ...).

    Example:

    >>> box = Interval(ops.array([[-1.0]]), ops.array([[2.0]]))
    >>> float(IntervalActivation("relu")(box).lower[0, 0])
    0.0
    """

    def propagate_affine(self, box: Interval) -> Interval:
        return box


class _KinkedLayer(IntervalLayer):
    """Mixin for the layers `ReLU` and `LeakyReLU`."""

    relus = 1

    def propagate(self, box: Interval, given: Pass) -> Interval:
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

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(alpha=alpha, **kwargs)
        if self.alpha < 0:
            raise ValueError(f"`alpha` must be >= 0 for a monotone ELU. Received: {self.alpha}")

    def propagate(self, box: Interval, given: Pass) -> Interval:
        stock = super().call
        return Interval(stock(box.lower), stock(box.upper))

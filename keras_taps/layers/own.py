"""Layers of a user's own: what they say of themselves, and the interval layer around them."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_taps import backend
from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import IntervalLayer, serializable
from keras_taps.layers.curves import Curve
from keras_taps.layers.passes import Pass
from keras_taps.typing import Shape, Tensor

RULES: dict[type, "Rule"] = {}  # of registered classes


@dataclass(frozen=True)
class Rule:
    """What a class of layers says of itself, in one of three ways.

    Args:
        expand: Its method from the shape of one input to known layers.
        box: Its method from the bounds of a box of inputs to those of the outputs.
        lines: Beside `box`, its method from such bounds to two lines for each coordinate.
        function: The name of the function that it applies to each coordinate.
        curve: The `Curve` of that function, whose slope is the derivative of the layer.
    """

    expand: object = None
    box: object = None
    lines: object = None
    function: str | None = None
    curve: Curve | None = None


def rule_of(layer):
    """The `Rule` of a layer, or `None`; a class that inherits from a registered one is another."""
    return RULES.get(type(layer))


def layer_of(function):
    """A new layer that applies a function with this name, inside of an `IntervalOwn`.

    Raises:
        ValueError: If no layer does.
    """
    for cls, rule in RULES.items():
        if rule.function == function:
            return IntervalOwn(cls())
    raise ValueError(
        f"No layer applies the function {function!r} of somebody's own, so there are no fast "
        "bounds. Accepted: functions that have layers, by `keras_taps.register_layer`."
    )


@serializable
class IntervalOwn(IntervalLayer, keras.layers.Layer):
    """A registered layer of a user's own that takes boxes.

    `convert` puts it around layers whose class has a method `box` or names a function. In splits
    it counts as one ReLU.

    Args:
        layer: Layer of a class that `keras_taps.register_layer` knows.

    Raises:
        ValueError: If its class is not registered, or expands to other layers.

    Example:

    >>> import keras_taps
    >>> @keras_taps.register_layer
    ... class Cube(keras.layers.Layer):
    ...     def call(self, x):
    ...         return x**3
    ...     def box(self, lower, upper):
    ...         return lower**3, upper**3
    >>> box = Interval(ops.array([[-1.0]]), ops.array([[2.0]]))
    >>> float(IntervalOwn(Cube())(box).upper[0, 0])
    8.0
    """

    relus = 1

    def __init__(self, layer: keras.Layer, **kwargs: Any):
        super().__init__(**{"autocast": False, **kwargs})  # the layer casts for itself
        rule = rule_of(layer)
        if rule is None or rule.expand is not None:
            raise ValueError(
                "`layer` must be of a class that `keras_taps.register_layer` knows, with a method "
                f"`box` or the name of a `function`. Received: {type(layer).__name__}"
            )
        self.layer, self.rule = layer, rule

    def build(self, input_shape: Shape) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, inputs: Tensor | Interval, given: Pass | None = None) -> Tensor | Interval:
        box = as_interval(inputs)
        return self.layer(inputs) if box is None else self.bounds(box, given)

    def propagate(self, box: Interval, given: Pass) -> Interval:
        if self.rule.box is not None:
            return Interval(*self.rule.box(self.layer, *box))
        lower, upper, bottom = self.layer(box.lower), self.layer(box.upper), self.rule.curve.bottom
        low, high = ops.minimum(lower, upper), ops.maximum(lower, upper)
        if bottom is None:
            return Interval(low, high)
        holds = ops.logical_and(box.lower < bottom, box.upper > bottom)
        lowest = self.layer(ops.full((1,) * len(lower.shape), bottom, dtype=lower.dtype))
        return Interval(ops.where(holds, lowest, low), high)

    def slope(self, x: Tensor) -> Tensor:
        """The derivative of a layer that acts on each coordinate."""
        return backend.transposed(self.layer, x, ops.ones_like(x))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        spec = keras.KerasTensor(input_shape, dtype=self.layer.compute_dtype)
        return tuple(self.layer.compute_output_spec(spec).shape)  # by a call, if need be

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "IntervalOwn":
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})

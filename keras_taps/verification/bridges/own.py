"""Registration of layers of a user's own."""

from typing import TypeVar

import keras

from keras_taps.layers.curves import Curve
from keras_taps.layers.own import RULES, Rule
from keras_taps.verification.graph.curves import FUNCTIONS
from keras_taps.verification.graph.foreign import lowest

_WAYS = ("expand", "box", "function")
Class = TypeVar("Class", bound=type)


def register_layer(cls: Class) -> Class:
    """Let `convert` take layers of a class of one's own.

    The class says one of three things about itself:

    - `expand(self, shape)`: the layers, or the model, that do the same to inputs of this shape.
      Everything works with them, from training to ONNX files, and nobody has to trust anything new.
    - `box(self, lower, upper)`: bounds of the outputs for bounds of the inputs, tensors with a
      batch. The layer trains with interval bounds and is attacked. It cannot be certified. One
      that acts on each coordinate may have `lines(self, lower, upper)` as well: four tensors, the
      slope and the intercept of a line below and of a line above it. It then trains with linear
      bounds too.
    - `function = "name"`: it applies to each coordinate a function that
      `keras_taps.verification.register_function` has told the checker of. It trains with all
      bounds and is certified; whoever rechecks the proofs has to register and trust the function.

    `.keras` files with such layers are read where the class has been registered; those of
    expanded layers everywhere.

    Args:
        cls: Class of Keras layers; Keras can make them from their configuration.

    Returns:
        The class.

    Raises:
        ValueError: If it is no class of layers, or says none of the three or several.

    Example:

    >>> @register_layer
    ... class Soft(keras.layers.Layer):
    ...     def call(self, x):
    ...         return ops.tanh(2 * x) / 2
    ...     def expand(self, shape):
    ...         return [keras.layers.Rescaling(2.0), keras.layers.Activation("tanh"),
    ...                 keras.layers.Rescaling(0.5)]
    """
    if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
        raise ValueError(f"`cls` must be a class of Keras layers. Received: {cls!r}")
    said = {name: getattr(cls, name) for name in _WAYS if getattr(cls, name, None) is not None}
    if len(said) != 1:
        raise ValueError(
            f"Class {cls.__name__} must have one of the methods `expand(self, shape)` and "
            "`box(self, lower, upper)`, or the name of a `function`. Received: "
            f"{', '.join(said) or 'none'}"
        )
    if "box" in said:
        said["lines"] = getattr(cls, "lines", None)
    rule = Rule(**said)
    if rule.function is not None:
        rule = Rule(function=rule.function, curve=_curve(rule.function))
    if keras.saving.get_registered_name(cls) == cls.__name__:  # Keras does not know it yet
        cls = keras.saving.register_keras_serializable()(cls)
    RULES[cls] = rule
    return cls


def _curve(name):
    known = FUNCTIONS.get(name)
    if known is None or not known.foreign:
        own = ", ".join(n for n, function in FUNCTIONS.items() if function.foreign)
        raise ValueError(
            "`function` must be one that `keras_taps.verification.register_function` knows. "
            f"Received: {name!r}. Known: {own or 'none'}"
        )
    return Curve(None, known.knots, known.bends, lowest(name), known.flattest, known.steepest)

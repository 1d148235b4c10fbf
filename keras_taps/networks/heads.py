"""The ends of classifiers: whatever gives probabilities or one number becomes logits."""

import warnings

import keras
import numpy as np

from keras_taps import layers as interval_layers
from keras_taps.layers.activations import activation_name

_SOFTMAXES = ("softmax", "log_softmax")


class Softmax:
    """Stands for a softmax while a model is converted; there are no boxes after it.

    Args:
        layer: The stock layer that applies it.
    """

    relus = 0

    def __init__(self, layer):
        self.name = layer.name


def is_softmax(function):
    """Whether an activation is Keras' softmax or log-softmax."""
    name = activation_name(function)
    return name in _SOFTMAXES and function is getattr(keras.activations, name)


def refuse_softmax(layers):
    """Raise `ValueError` if one of the layers is a softmax."""
    for layer in layers:
        if isinstance(layer, Softmax):
            raise ValueError(
                f"Layer '{layer.name}' applies a softmax that is not the end of the model, which "
                "has no interval form. Accepted: a softmax at the end, which is taken off."
            )


def with_logits(layers, model):
    """The layers of a model with logits at their end, in the same order of the classes.

    Args:
        layers: List of interval layers, and of `Softmax` at most at the end.
        model: The stock model, of whose outputs there must be one vector an input for anything to
            change.

    Returns:
        List of interval layers. The softmax is gone; one output z, or the sigmoid of one, is now
        the logits `(0, z)`, whose difference is z; what ends in another layer than Dense has one
        with the identity.

    Raises:
        ValueError: If there is a softmax elsewhere.
    """
    layers = list(layers)
    if layers and isinstance(layers[-1], Softmax):
        layers.pop()
        _say(model, "The softmax at the end", "the order of the classes is the same")
    refuse_softmax(layers)
    shape = model.output_shape[1:]
    if len(shape) != 1 or not layers or shape[0] is None:
        return layers
    (count,), last = shape, layers[-1]
    if count == 1 and _is_sigmoid(last):
        layers.pop()
        _say(model, "The sigmoid at the end", "class 1 has the larger logit where it is above 0.5")
    if count == 1:
        return [
            *layers,
            _dense(np.array([[0.0, 1.0]]), f"{model.name}_two_logits", last.dtype_policy),
        ]
    if isinstance(last, keras.layers.Dense) and activation_name(last.activation) == "linear":
        return layers
    return [*layers, _dense(np.eye(count), f"{model.name}_logits", last.dtype_policy)]


def _is_sigmoid(layer):
    function = getattr(layer, "activation", None)
    plain = isinstance(layer, interval_layers.IntervalActivation)
    return plain and activation_name(function) == "sigmoid"


def _dense(kernel, name, dtype):
    """A Dense layer with this kernel, which is not trained."""
    layer = interval_layers.IntervalDense(kernel.shape[1], use_bias=False, name=name, dtype=dtype)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel])
    layer.trainable = False
    return layer


def _say(model, what, why):
    warnings.warn(
        f"{what} of model '{model.name}' was taken off: certified training and certification take "
        f"logits, and {why}.",
        stacklevel=4,
    )

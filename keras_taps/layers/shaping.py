"""Layers that move or drop coordinates without changing values."""

from typing import Any

import keras

from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import IntervalLayer, MonotoneLayer, serializable
from keras_taps.layers.passes import Pass
from keras_taps.typing import Shape, Tensor


@serializable
class IntervalFlatten(MonotoneLayer, keras.layers.Flatten):
    """`keras.layers.Flatten` that takes boxes.

    Example:

    >>> ops.shape(IntervalFlatten()(Interval(ops.zeros((1, 2, 3)), ops.ones((1, 2, 3)))).upper)
    (1, 6)
    """


@serializable
class IntervalReshape(MonotoneLayer, keras.layers.Reshape):
    """`keras.layers.Reshape` that takes boxes.

    Example:

    >>> ops.shape(IntervalReshape((3, 2))(Interval(ops.zeros((1, 6)), ops.ones((1, 6)))).upper)
    (1, 3, 2)
    """


@serializable
class IntervalZeroPadding2D(MonotoneLayer, keras.layers.ZeroPadding2D):
    """`keras.layers.ZeroPadding2D` that takes boxes; padded pixels have width 0.

    Example:

    >>> layer = IntervalZeroPadding2D(1)
    >>> ops.shape(layer(Interval(ops.zeros((1, 2, 2, 1)), ops.ones((1, 2, 2, 1)))).upper)
    (1, 4, 4, 1)
    """


@serializable
class IntervalCropping2D(MonotoneLayer, keras.layers.Cropping2D):
    """`keras.layers.Cropping2D` that takes boxes.

    Example:

    >>> layer = IntervalCropping2D(((1, 0), (0, 2)))
    >>> ops.shape(layer(Interval(ops.zeros((1, 4, 4, 1)), ops.ones((1, 4, 4, 1)))).upper)
    (1, 3, 2, 1)
    """


@serializable
class IntervalUpSampling2D(MonotoneLayer, keras.layers.UpSampling2D):
    """`keras.layers.UpSampling2D` that takes boxes: each pixel is repeated.

    Raises:
        ValueError: If `interpolation` is not `"nearest"`.

    Example:

    >>> layer = IntervalUpSampling2D((2, 3))
    >>> ops.shape(layer(Interval(ops.zeros((1, 2, 2, 1)), ops.ones((1, 2, 2, 1)))).upper)
    (1, 4, 6, 1)
    """

    def __init__(self, size: int | tuple[int, int] = (2, 2), **kwargs: Any):
        super().__init__(size, **kwargs)
        check_interpolation(self)


def check_interpolation(layer):
    """Raise `ValueError` if a layer makes more pixels in another way than to repeat them."""
    if isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation != "nearest":
        raise ValueError(
            f"Layer '{layer.name}' has interpolation {layer.interpolation!r}, which has no "
            "interval form. Accepted: 'nearest'."
        )


@serializable
class IntervalPermute(MonotoneLayer, keras.layers.Permute):
    """`keras.layers.Permute` that takes boxes.

    Example:

    >>> layer = IntervalPermute((2, 1))
    >>> ops.shape(layer(Interval(ops.zeros((1, 3, 2)), ops.ones((1, 3, 2)))).upper)
    (1, 2, 3)
    """


@serializable
class IntervalRepeatVector(MonotoneLayer, keras.layers.RepeatVector):
    """`keras.layers.RepeatVector` that takes boxes.

    Example:

    >>> ops.shape(IntervalRepeatVector(3)(Interval(ops.zeros((1, 2)), ops.ones((1, 2)))).upper)
    (1, 3, 2)
    """


@serializable
class IntervalDropout(MonotoneLayer, keras.layers.Dropout):
    """`keras.layers.Dropout` that takes boxes, on which it is the identity.

    The certified losses refuse to train a network with a positive rate: its training pass would
    be another network than the one whose bounds are taken.

    Example:

    >>> ops.shape(IntervalDropout(0.5)(Interval(ops.zeros((1, 2)), ops.ones((1, 2)))).upper)
    (1, 2)
    """

    trains_alike = False

    def call(
        self, inputs: Tensor | Interval, training: bool = False, given: Pass | None = None
    ) -> Tensor | Interval:
        box = as_interval(inputs)
        if box is not None:
            return self.bounds(box, given)
        return keras.layers.Dropout.call(self, inputs, training=training)


@serializable
class IntervalTrainingOnly(IntervalLayer, keras.layers.Layer):
    """A stock layer that does something in training alone: noise, or augmentation of images.

    On boxes and at inference it is the identity. The certified losses refuse to train it, as they
    do a Dropout layer.

    Args:
        layer: Stock layer whose outputs are its inputs when it is called with `training=False`.

    Example:

    >>> layer = IntervalTrainingOnly(keras.layers.GaussianNoise(0.5))
    >>> float(layer(Interval(ops.zeros((1, 2)), ops.ones((1, 2)))).upper[0, 0])
    1.0
    """

    trains_alike = False

    def __init__(self, layer: keras.Layer, **kwargs: Any):
        super().__init__(**{"autocast": False, **kwargs})  # the layer casts for itself
        self.layer = layer

    def build(self, input_shape: Shape) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(
        self, inputs: Tensor | Interval, training: bool = False, given: Pass | None = None
    ) -> Tensor | Interval:
        box = as_interval(inputs)
        if box is not None:
            return self.bounds(box, given)
        return self.layer(inputs, training=True) if training else inputs

    def propagate(self, box: Interval, given: Pass) -> Interval:
        return box

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "IntervalTrainingOnly":
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})

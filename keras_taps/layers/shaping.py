"""Layers that move or drop coordinates without changing values."""

import keras

from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import MonotoneLayer, serializable
from keras_taps.layers.passes import Pass
from keras_taps.typing import Tensor


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
class IntervalDropout(MonotoneLayer, keras.layers.Dropout):
    """`keras.layers.Dropout` that takes boxes, on which it is the identity.

    The certified losses refuse to train a network with a positive rate: its training pass would
    be another network than the one whose bounds are taken.

    Example:

    >>> ops.shape(IntervalDropout(0.5)(Interval(ops.zeros((1, 2)), ops.ones((1, 2)))).upper)
    (1, 2)
    """

    def call(
        self, inputs: Tensor | Interval, training: bool = False, given: Pass | None = None
    ) -> Tensor | Interval:
        box = as_interval(inputs)
        if box is not None:
            return self.bounds(box, given)
        return keras.layers.Dropout.call(self, inputs, training=training)

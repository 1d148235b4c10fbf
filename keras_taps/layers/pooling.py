"""Pooling on boxes: maxima and averages never decrease, so each bound goes through alone."""

import keras

from keras_taps import backend
from keras_taps.layers.base import MonotoneLayer, serializable
from keras_taps.typing import Tensor


@serializable
class IntervalMaxPooling2D(MonotoneLayer, keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` that takes boxes.

    Example:

    >>> layer = IntervalMaxPooling2D()
    >>> ops.shape(layer(Interval(ops.zeros((1, 4, 4, 1)), ops.ones((1, 4, 4, 1)))).upper)
    (1, 2, 2, 1)
    """


class _AveragePooling2D(keras.layers.AveragePooling2D):
    def call(self, inputs: Tensor) -> Tensor:
        how = self.pool_size, self.strides, self.padding, self.data_format
        return backend.average_pool(inputs, *how)


@serializable
class IntervalAveragePooling2D(MonotoneLayer, _AveragePooling2D):
    """`keras.layers.AveragePooling2D` that takes boxes.

    With `padding="same"` it is the mean of the pixels in a window on every backend; Keras on
    PyTorch counts repeated border pixels where the padding is uneven.

    Example:

    >>> layer = IntervalAveragePooling2D(2)
    >>> ops.shape(layer(Interval(ops.zeros((1, 4, 4, 1)), ops.ones((1, 4, 4, 1)))).upper)
    (1, 2, 2, 1)
    """


@serializable
class IntervalGlobalAveragePooling2D(MonotoneLayer, keras.layers.GlobalAveragePooling2D):
    """`keras.layers.GlobalAveragePooling2D` that takes boxes.

    Example:

    >>> layer = IntervalGlobalAveragePooling2D()
    >>> ops.shape(layer(Interval(ops.zeros((1, 4, 4, 3)), ops.ones((1, 4, 4, 3)))).upper)
    (1, 3)
    """


@serializable
class IntervalGlobalMaxPooling2D(MonotoneLayer, keras.layers.GlobalMaxPooling2D):
    """`keras.layers.GlobalMaxPooling2D` that takes boxes.

    Example:

    >>> layer = IntervalGlobalMaxPooling2D()
    >>> ops.shape(layer(Interval(ops.zeros((1, 4, 4, 3)), ops.ones((1, 4, 4, 3)))).upper)
    (1, 3)
    """

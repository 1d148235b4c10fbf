"""Input normalisation as part of the network, so that radii stay in pixel units."""

import keras
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers.base import IntervalLayer, MonotoneLayer, serializable
from keras_taps.layers.passes import Pass


@serializable
class IntervalNormalization(MonotoneLayer, keras.layers.Normalization):
    """`keras.layers.Normalization` that takes boxes: a positive scale and a shift.

    Put it first in the network and keep `eps` in pixels; `eps` is never divided by a deviation.

    Example:

    >>> layer = IntervalNormalization(mean=0.5, variance=0.25)
    >>> float(layer(Interval(ops.zeros((1, 2)), ops.ones((1, 2)))).lower[0, 0])
    -1.0
    """


@serializable
class IntervalRescaling(IntervalLayer, keras.layers.Rescaling):
    """`keras.layers.Rescaling` that takes boxes; a negative scale swaps the bounds.

    Example:

    >>> layer = IntervalRescaling(-1.0)
    >>> float(layer(Interval(ops.zeros((1, 2)), ops.ones((1, 2)))).lower[0, 0])
    -1.0
    """

    def propagate(self, box: Interval, given: Pass) -> Interval:
        a, b = super().call(box.lower), super().call(box.upper)
        return Interval(ops.minimum(a, b), ops.maximum(a, b))

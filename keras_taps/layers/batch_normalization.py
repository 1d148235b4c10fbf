"""Batch normalisation on boxes, with the clean batch's statistics."""

import keras
from keras import ops

from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import IntervalLayer, serializable
from keras_taps.layers.scopes import is_replaying, record_moments, replayed_moments


@serializable
class IntervalBatchNormalization(IntervalLayer, keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that takes boxes.

    Called on a tensor with `training=True` it normalises by the biased moments of that batch and
    updates its moving averages, as the stock layer does. Inside `BatchStatistics.replay` it
    normalises tensors and boxes by the recorded clean moments and updates nothing. Otherwise it
    uses the moving averages. Defaults follow the field: `momentum=0.9`, `epsilon=1e-5`.

    Raises:
        ValueError: If a box comes with `training=True` and no recorded statistics, or if
            `renorm=True`, which certified training does not define.

    Example:

    >>> layer = IntervalBatchNormalization()
    >>> ops.shape(layer(Interval(ops.zeros((2, 3)), ops.ones((2, 3)))).lower)
    (2, 3)

    References:
        SPEC of this package; Shi et al. 2021, section 4, who normalise bounds by clean moments.
    """

    def __init__(self, axis=-1, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(axis=axis, momentum=momentum, epsilon=epsilon, **kwargs)
        if self.renorm:
            raise ValueError("`renorm` must be False on interval layers. Received: renorm=True")

    def call(self, inputs, training=None):
        box = as_interval(inputs)
        if box is not None and training and self.trainable and not is_replaying():
            raise ValueError(
                f"Layer '{self.name}' was given a box with training=True, but a box has no batch "
                "moments. Run the clean images in `BatchStatistics.record()` first and the box "
                "in `BatchStatistics.replay()`."
            )
        moments = None
        if training and self.trainable and not is_replaying():
            moments = self._clean_moments(inputs)
        scale, offset = self.affine_form(moments)
        if box is None:
            return ops.cast(inputs * scale + offset, self.compute_dtype)
        return self.bounds((box, scale, offset))

    def propagate(self, box_and_affine):
        box, scale, offset = box_and_affine
        a, b = box.lower * scale + offset, box.upper * scale + offset
        rising = scale >= 0  # a negative gamma swaps the bounds
        return Interval(ops.where(rising, a, b), ops.where(rising, b, a))

    def _clean_moments(self, inputs):
        x, axes = ops.cast(inputs, self.variable_dtype), self._reduction_axes
        if self.synchronized:
            mean, variance = ops.moments(x, axes=axes, synchronized=True)
        else:
            # Two passes: E[x^2] - E[x]^2 loses digits in float32 where the mean dominates.
            mean = ops.mean(x, axis=axes, keepdims=True)
            variance = ops.mean(ops.square(x - mean), axis=axes)
            mean = ops.reshape(mean, variance.shape)
        record_moments(self, mean, variance)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return mean, variance

    def affine_form(self, moments=None):
        """Scale and offset, shaped to broadcast along the normalised axis.

        Args:
            moments: `(mean, variance)`; by default the replayed ones, else the moving averages.
        """
        moments = moments or replayed_moments(self) or (self.moving_mean, self.moving_variance)
        mean, variance = moments
        scale = ops.rsqrt(ops.convert_to_tensor(variance) + self.epsilon)
        if self.scale:
            scale = scale * self.gamma
        offset = -mean * scale
        if self.center:
            offset = offset + self.beta
        shape = [1] * (len(self._reduction_axes) + 1)
        shape[self.axis] = -1
        return ops.reshape(scale, shape), ops.reshape(offset, shape)

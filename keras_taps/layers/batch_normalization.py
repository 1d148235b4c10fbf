"""Batch normalisation on boxes, with the clean batch's statistics."""

from typing import Any

import keras
from keras import ops

from keras_taps import backend
from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import IntervalLayer, serializable
from keras_taps.layers.passes import PLAIN, Pass
from keras_taps.typing import Tensor


@serializable
class IntervalBatchNormalization(IntervalLayer, keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that takes boxes.

    Called on a tensor with `training=True` it normalises by the biased moments of that batch and
    updates its moving averages, as the stock layer does. In a `Pass` with moments of a clean batch
    it normalises tensors and boxes by those and updates nothing. Otherwise it uses the moving
    averages. Defaults follow the field: `momentum=0.9`, `epsilon=1e-5`.

    Raises:
        ValueError: If a box comes with `training=True` and no moments, or if
            `renorm=True`, which certified training does not define.

    Example:

    >>> layer = IntervalBatchNormalization()
    >>> ops.shape(layer(Interval(ops.zeros((2, 3)), ops.ones((2, 3)))).lower)
    (2, 3)

    References:
        SPEC of this package; Shi et al. 2021, section 4, who normalise bounds by clean moments.
    """

    def __init__(self, axis: int = -1, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(axis=axis, momentum=momentum, epsilon=epsilon, **kwargs)
        if self.renorm:
            raise ValueError("`renorm` must be False on interval layers. Received: renorm=True")

    def call(
        self, inputs: Tensor | Interval, training: bool | None = None, given: Pass | None = None
    ) -> Tensor | Interval:
        given = given or PLAIN
        if training is None:
            training = given.taken is not None
        takes = training and self.trainable and not given.replays
        if as_interval(inputs) is None:
            if takes:
                return ops.cast(self._clean(inputs, given), self.compute_dtype)
            scale, offset = self._along_axis(given.form_of(self))
            return ops.cast(inputs * scale + offset, self.compute_dtype)
        if takes:
            raise ValueError(
                f"Layer '{self.name}' was given a box with training=True, but a box has no batch "
                "moments. Run the clean images through `network.clean_pass` first, and the box "
                "with `given=network.replay(moments)`."
            )
        return self.bounds(as_interval(inputs), given)

    def propagate(self, box: Interval, given: Pass) -> Interval:
        scale, offset = self._along_axis(given.form_of(self))
        a, b = box.lower * scale + offset, box.upper * scale + offset
        rising = scale >= 0  # a negative gamma swaps the bounds
        return Interval(ops.where(rising, a, b), ops.where(rising, b, a))

    def _clean(self, inputs, given):
        """Normalise by the moments of the batch and leave them with the averages and the pass."""
        x, axes = ops.cast(inputs, self.variable_dtype), self._reduction_axes
        y = None
        if self.synchronized:
            mean, variance = ops.moments(x, axes=axes, synchronized=True)
        else:
            gamma, beta = self.gamma if self.scale else None, self.beta if self.center else None
            y, mean, variance = backend.normalize(x, axes, self.axis, gamma, beta, self.epsilon)
        form = self.form((mean, variance)) if y is None or given.forms is not None else None
        given.take(self, mean, variance)
        if given.forms is not None:
            given.forms[self] = form
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            backend.move_average(average, value, self.momentum)
        if y is None:
            scale, offset = self._along_axis(form)
            y = x * scale + offset
        return y

    def form(self, moments: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Scale and offset `(channels,)` that normalise by moments.

        Args:
            moments: `(mean, variance)`, by default the moving averages.
        """
        mean, variance = moments or (self.moving_mean, self.moving_variance)
        scale = ops.rsqrt(ops.convert_to_tensor(variance) + self.epsilon)
        if self.scale:
            scale = scale * self.gamma
        offset = mean * scale
        return scale, self.beta - offset if self.center else -offset

    def _along_axis(self, form):
        """A form, shaped to broadcast along the normalised axis."""
        rank = len(self._reduction_axes) + 1
        if self.axis in (-1, rank - 1):
            return form
        shape = [1] * rank
        shape[self.axis] = -1
        return tuple(ops.reshape(part, shape) for part in form)

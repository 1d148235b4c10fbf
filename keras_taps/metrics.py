"""Metrics of certified training that Keras does not have."""

import keras
from keras import ops

from keras_taps.layers.base import serializable
from keras_taps.typing import Tensor


@serializable
class Share(keras.metrics.Mean):
    """Mean so far, of booleans the share of true ones; NaN, not 0, as long as nothing was counted.

    Example:

    >>> share = Share()
    >>> share.update_state(ops.array([True, False]))
    >>> float(share.result())
    0.5
    """

    def result(self) -> Tensor:
        return self.total / self.count


@serializable
class LastValue(keras.metrics.Metric):
    """The value of the last batch, not a mean; NaN before the first.

    Example:

    >>> last = LastValue()
    >>> last.update_state(0.25)
    >>> float(last.result())
    0.25
    """

    def __init__(self, name: str = "last_value", dtype: str | None = None):
        super().__init__(name=name, dtype=dtype)
        self.value = self.add_variable((), keras.initializers.Constant(float("nan")), name="value")

    def update_state(self, value: Tensor) -> None:
        self.value.assign(ops.cast(value, self.dtype))

    def result(self) -> Tensor:
        return self.value + 0.0  # a copy: on PyTorch the value itself would change in old logs

    def reset_state(self) -> None:
        self.value.assign(float("nan"))

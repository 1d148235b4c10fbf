"""Scale and shift of each coordinate."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import IntervalLayer, affine, serializable
from keras_taps.layers.passes import Pass
from keras_taps.typing import Shape, Tensor


@serializable
class IntervalScale(IntervalLayer, keras.layers.Layer):
    """`scale * x + shift`, coordinate by coordinate, on boxes as well as tensors.

    Networks read from ONNX files have such layers, and batch normalisation between two layers into
    which it cannot be folded becomes one.

    Args:
        shape: Shape of both arrays; it broadcasts with one input, as `(channels,)` does.

    Example:

    >>> layer = IntervalScale((2,))
    >>> layer.build((None, 2))
    >>> layer.set_weights([np.array([-1.0, 2.0]), np.zeros(2)])
    >>> box = layer(Interval(ops.zeros((1, 2)), ops.ones((1, 2))))
    >>> float(box.lower[0, 0])
    -1.0
    """

    def __init__(self, shape: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.shape = tuple(shape)

    def build(self, input_shape: Shape) -> None:
        self.scale = self.add_weight(shape=self.shape, initializer="ones", name="scale")
        self.shift = self.add_weight(shape=self.shape, initializer="zeros", name="shift")

    def call(self, inputs: Tensor | Interval, given: Pass | None = None) -> Tensor | Interval:
        box = as_interval(inputs)
        return self.linear(inputs) if box is None else self.bounds(box, given)

    def linear(self, x: Tensor) -> Tensor:
        """The map on a tensor."""
        return x * self.scale + self.shift

    def propagate(self, box: Interval, given: Pass) -> Interval:
        return affine(box, self.linear, lambda r: r * ops.abs(self.scale))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": list(self.shape)}

"""Dense layer on boxes."""

import math
from typing import Any

import keras
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers.activations import ActivatedLayer, activation_name
from keras_taps.layers.base import affine, serializable
from keras_taps.typing import Tensor


@serializable
class IntervalDense(ActivatedLayer, keras.layers.Dense):
    """`keras.layers.Dense` that takes boxes as well as tensors.

    Example:

    >>> layer = IntervalDense(1, kernel_initializer="ones")
    >>> box = layer(Interval(ops.zeros((1, 3)), ops.ones((1, 3))))
    >>> float(ops.convert_to_numpy(box.upper)[0, 0])
    3.0

    References:
        Gowal et al. 2018, equation 6.
    """

    def linear(self, x: Tensor) -> Tensor:
        """The affine part on a tensor."""
        return self.affine_map(x, self.kernel, self.bias if self.use_bias else None)

    def affine_map(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        """The affine part with another kernel and bias, or none, in place of the layer's."""
        y = ops.matmul(x, kernel)
        return y if bias is None else ops.add(y, self.offset(bias))

    def offset(self, bias: Tensor) -> Tensor:
        """A bias in the shape in which it is added."""
        return bias

    def propagate_affine(self, box: Interval) -> Interval:
        return affine(box, self.linear, lambda r: ops.matmul(r, ops.abs(self.kernel)))


@serializable
class IntervalEqualizedDense(IntervalDense):
    """A Dense layer whose weights are divided by `sqrt(inputs)` when they are used.

    They start as N(0, 1), so that steps of Adam are relative to their size. `kernel` is what is
    used; `get_weights` returns what is trained.

    Example:

    >>> layer = IntervalEqualizedDense(1, kernel_initializer="ones")
    >>> float(ops.convert_to_numpy(layer(ops.ones((1, 4))))[0, 0])
    2.0

    References:
        Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and
        Variation", 2018, section 4.1 (equalized learning rate); Zhang et al. 2022 (SortNet).
    """

    def __init__(self, units: int, *args: Any, kernel_initializer: Any = None, **kwargs: Any):
        initializer = kernel_initializer or keras.initializers.RandomNormal(stddev=1.0)
        super().__init__(units, *args, kernel_initializer=initializer, **kwargs)

    @property
    def kernel(self) -> Tensor:
        """Tensor `(inputs, units)`, the weights as they are used."""
        return self._kernel * (1 / math.sqrt(self._kernel.shape[0]))

    def save_own_variables(self, store: Any) -> None:
        for index, variable in enumerate(self.weights):
            store[str(index)] = variable


def check_logits(layer):
    """Raise `ValueError` unless `layer` is a Dense layer of logits whose rows can be subtracted."""
    name = activation_name(getattr(layer, "activation", None))
    if not isinstance(layer, keras.layers.Dense) or name != "linear":
        raise ValueError(
            "The last layer must be a Dense layer of logits without activation, because it is "
            f"merged with the differences of logits. Received: layer '{layer.name}' of type "
            f"{type(layer).__name__}, activation {name!r}"
        )

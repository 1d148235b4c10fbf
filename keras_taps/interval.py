"""The box: a lower and an upper bound that travel through a network together."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_taps.checks import check_pixels, check_radius
from keras_taps.typing import Tensor


class Interval(NamedTuple):
    """An axis-parallel box, one closed interval a coordinate.

    Being a `NamedTuple` of tensors it is a pytree on every backend, so Keras layers, compiled
    functions and `keras.tree` take it in place of a tensor.

    Args:
        lower: Tensor of any shape `(batch, ...)`, the lower bounds.
        upper: Tensor of the same shape, the upper bounds, `upper >= lower`.

    Example:

    >>> box = Interval(ops.zeros((1, 2)), ops.ones((1, 2)))
    >>> float(box.radius[0, 0])
    0.5

    References:
        Gowal et al., "On the Effectiveness of Interval Bound Propagation", 2018.
    """

    lower: Tensor
    upper: Tensor

    @property
    def centre(self) -> Tensor:
        """Midpoint of the box, same shape as a bound."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half the width of the box, same shape as a bound."""
        return (self.upper - self.lower) / 2

    @property
    def width(self) -> Tensor:
        """`upper - lower`, same shape as a bound."""
        return self.upper - self.lower


def as_interval(inputs: Any) -> Interval | None:
    """Return `inputs` as an `Interval`, or `None` when it is a single tensor.

    Keras hands a `NamedTuple` back as a plain list after a model is reloaded, so pairs count too.
    """
    if isinstance(inputs, Interval):
        return inputs
    if isinstance(inputs, (list, tuple)):
        if len(inputs) != 2:
            raise ValueError(
                "A box is a pair (lower, upper) of tensors. "
                f"Received: a {type(inputs).__name__} of {len(inputs)} items."
            )
        return Interval(*inputs)
    return None


def input_box(x: Tensor, eps: Tensor) -> Interval:
    """The box of all images within `eps` of `x` in the l-infinity norm, clipped to [0, 1].

    Args:
        x: Array or tensor `(batch, ...)` of pixels in [0, 1], before any normalisation.
        eps: Radius in pixel units: a Python number in [0, 1] or a scalar tensor.

    Returns:
        `Interval(max(x - eps, 0), min(x + eps, 1))`.

    Raises:
        ValueError: If `eps` is a number outside [0, 1], or an array has pixels outside it; of
            tensors, which compiled functions pass, the values are not looked at.

    Example:

    >>> ops.shape(input_box(ops.array([[0.05, 0.5]]), 0.1).upper)
    (1, 2)
    """
    if isinstance(eps, (int, float, str)):
        eps = check_radius("eps", eps)
    if not keras.ops.is_tensor(x):
        check_pixels(x)
    x = ops.convert_to_tensor(x)
    if keras.backend.standardize_dtype(x.dtype) not in ("float32", "float64"):
        x = ops.cast(x, keras.config.floatx())  # integer pixels would round eps to 0
    eps = ops.cast(eps, x.dtype)
    return Interval(ops.maximum(x - eps, 0.0), ops.minimum(x + eps, 1.0))

"""The box: a lower and an upper bound that travel through a network together."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_taps.domain import UNIT, Domain, check_radius
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


def input_box(x: Tensor, eps: Tensor, domain: Any = UNIT) -> Interval:
    """The box of all inputs within `eps` of `x` in the l-infinity norm, cut to their domain.

    Args:
        x: Array or tensor `(batch, ...)` of values in the domain, before any normalisation.
        eps: Radius, at least 0: a number, an array that broadcasts to one input (one number a
            channel or a feature, for instance), or a tensor that broadcasts to `x`.
        domain: What values inputs may take, by default [0, 1]: `(low, high)`, numbers or arrays
            that broadcast to one input, or `None` for no bounds.

    Returns:
        `Interval(max(x - eps, low), min(x + eps, high))`.

    Raises:
        ValueError: If `eps` is out of range or does not broadcast, or an array has values outside
            the domain; of tensors, which compiled functions pass, the values are not looked at.

    Example:

    >>> ops.shape(input_box(ops.array([[0.05, 0.5]]), 0.1).upper)
    (1, 2)
    >>> box = input_box(ops.array([[-2.9, 5.0]]), [0.5, 1.0], domain=(-3, None))
    >>> [round(float(bound), 1) for bound in ops.concatenate(box)[:, 0]]
    [-3.0, -2.4]
    """
    domain = Domain.of(domain)
    if not ops.is_tensor(x):
        x = np.asarray(x)
        domain.check(x)
    if isinstance(eps, (int, float, str, list, tuple, np.ndarray, np.number)):
        eps = check_radius("eps", eps, domain, tuple(x.shape[1:]))
    x = ops.convert_to_tensor(x)
    if keras.backend.standardize_dtype(x.dtype) not in ("float32", "float64"):
        x = ops.cast(x, keras.config.floatx())  # integer pixels would round eps to 0
    eps = ops.cast(eps, x.dtype)
    low, high = (_constant(side, x.dtype) for side in (domain.low, domain.high))
    return Interval(ops.maximum(x - eps, low), ops.minimum(x + eps, high))


def all_inside(x, domain):
    """Whether all values of a tensor lie in a `Domain` and are finite, a boolean scalar."""
    low, high = (_constant(limit, x.dtype) for limit in domain.limits)
    return ops.all(ops.logical_and(x >= low, x <= high))


def _constant(value, dtype):
    """A number as it is, an array as a tensor."""
    return value if isinstance(value, float) else ops.convert_to_tensor(value, dtype=dtype)

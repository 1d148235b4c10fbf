"""What inputs may be: the domain that their values lie in, and radii around them."""

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_LARGEST = float(np.finfo("float32").max)  # inputs are float32


@dataclass(frozen=True, eq=False)
class Domain:
    """The values that inputs may take, coordinate by coordinate; boxes are cut to them.

    `Domain.of` makes one of what users write. Its bounds are numbers that float32 holds, moved
    outward, so that a value of the domain is still in it when it has become float32.

    Args:
        low: Number, or float64 array that broadcasts to one input; -inf where there is no bound.
        high: The same, above `low`; inf where there is no bound.

    Example:

    >>> Domain.of((-3, 3)), Domain.of(None).width > 1e38
    (Domain([-3, 3]), True)
    """

    low: Any = 0.0
    high: Any = 1.0

    @classmethod
    def of(cls, value: Any) -> "Domain":
        """`Domain` of a pair `(low, high)`, of text such as "-3,3" or "none", or of `None`.

        Args:
            value: A `Domain`; a pair of numbers, or of arrays that broadcast to one input, with
                `None` where there is no bound; or `None` for no bounds at all.

        Raises:
            ValueError: If it is none of these, or `low` is not below `high`.
        """
        if isinstance(value, cls):
            return value
        pair = value
        if value is None or (isinstance(value, str) and value.strip() == "none"):
            pair = None, None
        elif isinstance(value, str):
            pair = [None if part.strip() == "none" else part for part in value.split(",")]
        try:
            low, high = pair
            low, high = _read(low, -np.inf), _read(high, np.inf)
            if not np.all(np.less(low, high)):
                raise ValueError
        except (TypeError, ValueError, ArithmeticError):
            raise ValueError(
                "`domain` must be (low, high), numbers or arrays that broadcast to one input with "
                "low < high, or None for inputs without bounds. "
                f"Received: domain={value!r:.200}"
            ) from None
        found = cls(_outward(low, -np.inf), _outward(high, np.inf))
        return UNIT if found.to_config() == UNIT.to_config() else found

    def to_config(self) -> list:
        """List `[low, high]` of numbers or nested lists, `None` where there is no bound."""
        return [_without_infinity(plain(side)) for side in (self.low, self.high)]

    def __repr__(self):
        return f"Domain({self})"

    def __str__(self):
        if np.all(np.isinf(self.low) & np.isinf(self.high)):
            return "all numbers"
        return f"[{radius_text(self.low)}, {radius_text(self.high)}]"

    @property
    def width(self) -> float:
        """Largest width of a coordinate, at most the largest float32: no radius needs more."""
        with np.errstate(invalid="ignore"):
            return min(float(np.max(np.subtract(self.high, self.low))), _LARGEST)

    @property
    def limits(self) -> tuple:
        """`(low, high)` with the largest float32 numbers where there is no bound."""
        limits = np.maximum(self.low, -_LARGEST), np.minimum(self.high, _LARGEST)
        return tuple(_canonical(limit) for limit in limits)

    def fitted(self, shape: Sequence[int]) -> "Domain":
        """This domain, if its bounds broadcast to one input of this shape; else `ValueError`."""
        for side in (self.low, self.high):
            _check_fit("domain", side, shape)
        return self

    def agrees(self, other: "Domain", shape: Sequence[int]) -> bool:
        """Whether another domain is the same for inputs of this shape."""
        return same(self.low, other.low, shape) and same(self.high, other.high, shape)

    def holds(self, x: np.ndarray) -> bool:
        """Whether all values of an array `(count, ...)` lie in the domain."""
        low, high = self.limits
        if isinstance(low, float) and isinstance(high, float):  # without arrays of truth values
            return bool(x.size == 0 or (x.min() >= low and x.max() <= high))  # NaN is not
        return bool(np.all((x >= low) & (x <= high)))

    def check(self, x: ArrayLike, name: str = "x") -> None:
        """Raise `ValueError` unless the array `x` `(count, ...)` holds values of the domain."""
        x = np.atleast_1d(np.asarray(x))
        if x.dtype.kind not in "fiub":
            raise ValueError(f"`{name}` must hold real numbers. Received: dtype {x.dtype}")
        if self.holds(x):
            return
        wrong, received, hint = ~np.isfinite(x), "that are NaN or infinite", ""
        if not wrong.any():
            low, high = self.limits
            wrong = (x < low) | (x > high)
            received = f"outside, of values from {float(x.min()):g} to {float(x.max()):g}"
            hint = _PIXELS if self is UNIT else ""
        where = np.flatnonzero(wrong.reshape(len(x), -1).any(axis=1))
        raise ValueError(
            f"`{name}` must hold values in {self}. Received: {np.count_nonzero(wrong)} values "
            f"{received}, in {len(where)} of {len(x)} inputs, the first at index {where[0]}{hint}"
        )


_PIXELS = (
    ". Scale the data, so that eps is in pixel units, and put any mean/std normalisation into the "
    "network; or say what values inputs may take, as domain=(low, high)"
)
UNIT = Domain()  # pixels


def check_radius(name, value, domain=UNIT, shape=None):
    """Return a perturbation radius: a float, or a float64 array that broadcasts to one input.

    Args:
        name: How the message calls it.
        value: A number, text such as "2/255", or an array or list of them; each at least 0 and at
            most the width of the domain.
        domain: `Domain` of the inputs.
        shape: Shape of one input, to which an array must broadcast; by default it is not looked
            at.

    Raises:
        ValueError: If it is not a number, out of range, or does not broadcast.

    Example:

    >>> check_radius("eps", "51/255"), check_radius("eps", [0.1, 0]).shape
    (0.2, (2,))
    """
    try:
        radius = _read(value, None)
    except _NotANumber:
        raise ValueError(
            f"`{name}` must be a number or a fraction such as 2/255. Received: {name}={value!r}"
        ) from None
    except (TypeError, ValueError, ArithmeticError):
        radius = np.nan
    if not np.all((np.asarray(radius) >= 0) & (np.asarray(radius) <= domain.width)):
        hint = (
            ". Radii are in pixel units on images in [0, 1]: write 2 / 255, not 2."
            if domain is UNIT
            else f", with inputs in {domain}"
        )
        raise ValueError(
            f"`{name}` must be a number in [0, {domain.width:g}], or an array of such numbers that "
            f"broadcasts to one input. Received: {name}={value!r:.200}{hint}"
        )
    if shape is not None:
        _check_fit(name, radius, shape)
    return radius


def check_images(x, input_shape, domain=UNIT, name="x"):
    """Raise `ValueError` unless the array `x` holds inputs of `input_shape` within a domain.

    Args:
        x: Array `(batch, ...)`.
        input_shape: Expected shape of one input; `None` entries match anything.
        domain: `Domain` of the values.
        name: How the message calls `x`.
    """
    x = np.asarray(x)
    expected = tuple(input_shape)
    fits = x.ndim == len(expected) + 1 and all(
        want is None or want == got for want, got in zip(expected, x.shape[1:], strict=True)
    )
    if not fits:
        lacks = x.ndim == len(expected) and x.shape[1:] == expected[:-1] and expected[-1] == 1
        hint = f" (no channel axis: use {name}[..., None])" if lacks else ""
        raise ValueError(
            f"`{name}` must have shape (batch, {', '.join(map(str, expected))}). "
            f"Received: shape {x.shape}{hint}"
        )
    domain.check(x, name)


def plain(value):
    """A number or an array as JSON has it: a float, or nested lists of floats.

    Example:

    >>> plain(np.array([0.5, 1.0]))
    [0.5, 1.0]
    """
    return np.asarray(value, "float64").tolist()


def same(one, other, shape):
    """Whether two numbers or arrays are equal once they are broadcast to one input."""
    return bool(np.array_equal(*(np.broadcast_to(value, shape) for value in (one, other))))


def radius_text(value, digits=6):
    """A radius, or a bound, in a message: "0.1", or "0.1 to 0.3" for an array.

    Args:
        value: Number, array or list.
        digits: How many digits of a number, at most.

    Example:

    >>> radius_text(0.1), radius_text([0.3, 0.1])
    ('0.1', '0.1 to 0.3')
    """
    ends = sorted({float(np.min(value)), float(np.max(value))})
    return " to ".join(f"{end:.{digits}g}" for end in ends)


class _NotANumber(ValueError):
    """Text that is not a number."""


def _read(value, missing):
    """Float or float64 array of numbers, texts, lists, none NaN; `None` stands for `missing`."""
    found = _canonical(_numbers(value, missing))
    if np.size(found) == 0 or np.any(np.isnan(found)):
        raise ValueError
    return found


def _numbers(value, missing):
    if value is None and missing is not None:
        return missing
    if isinstance(value, (list, tuple)):
        return np.array([_numbers(part, missing) for part in value], "float64")
    if isinstance(value, str):
        return _parsed(value)
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    if isinstance(value, numbers.Real):
        return float(value)
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError
    return array.astype("float64")


def _parsed(text):
    text = text.replace(" ", "")
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ArithmeticError):
        raise _NotANumber from None


def _canonical(value):
    """What has no axes as a float."""
    return float(value) if np.ndim(value) == 0 else np.asarray(value, "float64")


def _outward(value, end):
    """The nearest float32 numbers that are not on the inner side, towards `end`, as float64."""
    value = np.asarray(value, "float64")  # a number of Python would be compared in float32
    with np.errstate(over="ignore"):
        near = value.astype("float32")
        inside = near > value if end < 0 else near < value
        return _canonical(np.where(inside, np.nextafter(near, np.float32(end)), near))


def _without_infinity(value):
    if isinstance(value, list):
        return [_without_infinity(part) for part in value]
    return None if np.isinf(value) else value


def _check_fit(name, value, shape):
    """Raise `ValueError` unless a number or an array broadcasts to one input of this shape."""
    own = np.shape(value)
    if len(own) > len(shape) or any(
        mine not in (1, want) and want is not None
        for mine, want in zip(own[::-1], tuple(shape)[::-1], strict=False)
    ):
        raise ValueError(
            f"`{name}` must be a number or broadcast to one input, of shape {tuple(shape)}. "
            f"Received: an array of shape {own}"
        )

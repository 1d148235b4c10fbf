"""Activations that are not piecewise linear, as nodes; and where each of them bends which way.

`value` and `slope` are computed with NumPy and the standard library, whose elementary functions are
not rounded correctly. What a proof assumes of the result, for finite inputs: it is within
`ERROR * |result| + floor + 1e-300` of the real function, `ERROR` being 64 units in the last place.
C libraries and NumPy's own vector code promise 4; the formulas here lose a few more, and the tests
compare with an arithmetic of 60 digits.
"""

import math
from dataclasses import dataclass

import numpy as np

ERROR = 2.0**-46
_SILU_BEND = 2.3993572805154677  # where x tanh(x / 2) = 2
_erfc = np.frompyfunc(math.erfc, 1, 1)


@dataclass(frozen=True)
class Function:
    """A function of one variable in pieces, each of which is convex, concave or a line.

    Args:
        value: Function of a float64 array and `alpha`.
        slope: Its derivative, likewise, at points inside of pieces that are not lines, and the one
            from inside at their ends.
        knots: Where pieces meet, ascending, each within 2**-50 of the real place.
        bends: Of each piece 1 if it is convex, -1 if it is concave, 0 if it is a line.
        flattest: At most every slope; the smallest slope of a line that is worth a try.
        steepest: At least every slope, likewise.
        floor: Absolute error of the value.
        exact: Whether the knots are exact.
        foreign: Whether somebody else says all that, by `register_function`.
    """

    value: object
    slope: object
    knots: tuple
    bends: tuple
    flattest: float = 0.0
    steepest: float = 1.0
    floor: float = 0.0
    exact: bool = True
    foreign: bool = False


class UnknownFunctionError(ValueError):
    """A network has a function that is not known here."""


def _sigmoid(x, alpha=1.0):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1 + small)


def _tanh_slope(x, alpha):
    small = np.exp(-2 * np.abs(x))
    return 4 * small / (1 + small) ** 2


def _sigmoid_slope(x, alpha):
    small = np.exp(-np.abs(x))
    return small / (1 + small) ** 2


def _elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x, alpha):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _silu(x, alpha):
    return x * _sigmoid(x)


def _silu_slope(x, alpha):
    return _sigmoid(x) + x * _sigmoid_slope(x, alpha)


def _normal(x):
    """Share of the standard normal distribution below x."""
    return np.asarray(_erfc(-x / math.sqrt(2)), "float64") / 2


def _gelu(x, alpha):
    return x * _normal(x)


def _gelu_slope(x, alpha):
    return _normal(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _hard_silu(x, alpha):
    return np.where(x > 3, x, x * (np.maximum(x, -3.0) + 3) / 6)


FUNCTIONS = {
    "tanh": Function(lambda x, alpha: np.tanh(x), _tanh_slope, (0.0,), (1, -1)),
    "sigmoid": Function(_sigmoid, _sigmoid_slope, (0.0,), (1, -1), 0.0, 0.25),
    "softplus": Function(_softplus, _sigmoid, (), (1,)),
    "softsign": Function(
        lambda x, alpha: x / (1 + np.abs(x)),
        lambda x, alpha: 1 / (1 + np.abs(x)) ** 2,
        (0.0,),
        (1, -1),
    ),
    "exponential": Function(
        lambda x, alpha: np.exp(x), lambda x, alpha: np.exp(x), (), (1,), 0.0, math.inf
    ),
    "elu": Function(
        _elu, lambda x, alpha: alpha * np.exp(np.minimum(x, 0)), (0.0,), (1, 0), 0.0, math.inf
    ),
    # The second derivative is sigmoid'(x) (2 - x tanh(x / 2)).
    "silu": Function(
        _silu, _silu_slope, (-_SILU_BEND, _SILU_BEND), (-1, 1, -1), -0.1, 1.1, ERROR, False
    ),
    # The second derivative is the normal density times 2 - x**2.
    "gelu": Function(
        _gelu,
        _gelu_slope,
        (-math.sqrt(2), math.sqrt(2)),
        (-1, 1, -1),
        -0.13,
        1.13,
        ERROR,
        False,
    ),
    "hard_silu": Function(
        _hard_silu, lambda x, alpha: (2 * x + 3) / 6, (-3.0, 3.0), (0, 1, 0), -0.5, 1.5
    ),
}


@dataclass(frozen=True)
class Curve:
    """An activation, coordinate by coordinate.

    Args:
        in_shape: Shape of one input.
        function: A name in `FUNCTIONS`.
        alpha: Number >= 0: the size of an ELU's negative part; 1 for all others.
    """

    in_shape: tuple
    function: str
    alpha: float = 1.0

    def __post_init__(self):
        if self.function not in FUNCTIONS:
            raise UnknownFunctionError(
                f"`function` must be one of {', '.join(FUNCTIONS)}. Received: {self.function!r}. "
                "One of somebody's own must be registered before, by `register_function`"
            )
        usual = self.alpha == 1
        if not (usual or (self.function == "elu" and 0 <= self.alpha < 1e9)):
            raise ValueError(f"`alpha` must be a number >= 0 of an elu. Received: {self.alpha!r}")

    @property
    def out_shape(self):
        return self.in_shape

    @property
    def known(self):
        """The `Function`."""
        return FUNCTIONS[self.function]

    def __call__(self, x):
        with np.errstate(all="ignore"):
            return self.known.value(x, self.alpha)

    def steepest(self, high):
        """At least every slope of inputs up to `high`."""
        if self.function == "exponential":
            return np.exp(high) * (1 + 1e-9)
        known = self.known
        return max(1.0, self.alpha) if self.function == "elu" else max(known.steepest, 1.0)

    def slope(self, x):
        """The derivative."""
        return self.known.slope(x, self.alpha)

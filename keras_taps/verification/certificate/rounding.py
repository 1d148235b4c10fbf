"""Float64 arithmetic whose rounding errors are bounded.

How rounding is bounded: a sum of k products differs from the real one by at most gamma(k) times the
sum of absolute values (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1).
Sending rows R back through an affine map W gives rows R' with |R' - RW| <= gamma |R||W|, and on
inputs z with |z| <= m this changes the form by at most gamma |R| (|W| m). The vector |W| m does not
depend on R, so a form pays one inner product a layer for its rigour.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.domain import UNIT, Domain
from keras_taps.verification.certificate.places import WHOLE

ROUND = 2.0**-53
TINY = 1e-280  # more than every error by underflow
MOST = 2**20  # numbers of rows that are worth having at a time


def input_interval(
    x: ArrayLike, eps: ArrayLike, domain: Domain = UNIT
) -> tuple[np.ndarray, np.ndarray]:
    """The box of the real inputs within `eps` of `x` and in their domain, rounded outward.

    Args:
        x: Array of values in the domain.
        eps: Radius, a number or an array that broadcasts to `x`.
        domain: `Domain` of the inputs.

    Returns:
        `(lower, upper)`, float64 arrays shaped like `x`.

    Example:

    >>> lower, upper = input_interval(np.array([0.5, 1.0]), 0.1)
    >>> bool(lower[0] < 0.4), float(upper[1])
    (True, 1.0)
    """
    x, eps = np.asarray(x, "float64"), np.nextafter(np.asarray(eps, "float64"), np.inf)
    return (
        np.maximum(np.nextafter(x - eps, -np.inf), domain.low),
        np.minimum(np.nextafter(x + eps, np.inf), domain.high),
    )


def inner_interval(x, eps, domain=UNIT):
    """The float64 points within `eps` of `x` and in the domain: `input_interval` rounded inward.

    A counterexample must lie in it, so that it is one whatever the outer box has beside the ball.

    Args:
        x: As in `input_interval`.
        eps: The same.
        domain: The same.

    Returns:
        `(lower, upper)`, float64 arrays shaped like `x`.

    Example:

    >>> lower, upper = inner_interval(np.array([0.5]), np.nextafter(0.125, 0))
    >>> bool(upper[0] < 0.625)
    True
    """
    x, eps = np.asarray(x, "float64"), np.asarray(eps, "float64")
    lower, upper = (_towards(x, sign * eps) for sign in (-1, 1))
    return np.maximum(lower, domain.low), np.minimum(upper, domain.high)


def _towards(x, step):
    """The float64 numbers nearest to the real `x + step` on the side of `x`."""
    total = x + step
    other = total - x
    missed = (x - (total - other)) + (step - other)  # exactly, Knuth's two-sum
    beyond = missed * np.sign(step) < 0
    return np.where(beyond, np.nextafter(total, x), total)


@dataclass(frozen=True)
class Form:
    """`rows . z + constant + error` bounds what is asked from above, for every z of a box.

    Args:
        rows: Array `(n, ...)`.
        constant: Array `(n,)`.
        error: Array `(n,)` >= 0, at least all rounding so far.
        place: `WHOLE`, or the `Crops` in which the rows live.
    """

    rows: np.ndarray
    constant: np.ndarray
    error: np.ndarray
    place: object = WHOLE

    def plus(self, constant, error):
        """The form with a constant and an error added, and the rounding of that addition."""
        constant = self.constant + constant
        return replace(
            self, constant=constant, error=(self.error + error) * (1 + 4 * ROUND) + unit(constant)
        )

    def parts(self, entries):
        """The form in a few, each of which has fewer numbers if a row takes so many `entries`."""
        origins = len(self.place.origins)
        count = origins if origins > 1 else len(self.constant)
        pieces = min(count, -(-len(self.constant) * entries // MOST))
        edges = np.linspace(0, count, pieces + 1).astype(int)
        for start, stop in pairwise(edges):
            place = self.place
            if origins > 1:
                place = replace(place, origins=place.origins[start:stop])
                start, stop = (edge * len(self.constant) // origins for edge in (start, stop))
            part = slice(start, stop)
            yield Form(self.rows[part], self.constant[part], self.error[part], place)


def largest(form, box):
    """Largest value of a form over a box, with all rounding."""
    lower, upper = box
    rising, falling, dot = np.maximum(form.rows, 0), np.minimum(form.rows, 0), form.place.dot
    value = dot(rising, upper) + dot(falling, lower)
    error = 2 * gamma(lower.size) * dot(np.abs(form.rows), size_of(box))
    form = form.plus(value, error + unit(value))
    bound = form.constant + form.error * (1 + 1e-9)
    return bound + unit(bound) + TINY


def dot(rows, values):
    """Inner products `(n,)` of rows `(n, ...)` with an array of their shape."""
    return WHOLE.dot(rows, values)


def size_of(box):
    """Largest absolute value of each coordinate of a box."""
    return np.maximum(np.abs(box[0]), np.abs(box[1]))


def lost(size):
    """What products that underflow add up to, in a form on inputs of this size."""
    return TINY * (1 + size.sum())


def unit(value):
    """More than the rounding errors of a few operations that end in `value`."""
    return 4 * ROUND * np.abs(value)


def gamma(terms):
    """Relative error of a sum of `terms` products, doubled, with room for folded weights."""
    terms = 2 * (terms + 16)
    return terms * ROUND / (1 - terms * ROUND)

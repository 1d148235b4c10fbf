"""Functions of a user's own: what the checker is told of them, and what a grid can see of it.

Nothing of a function is in a file but its name. Who checks proofs about it registers it as well,
and says by `recheck(trusted=...)` that he believes what he registered.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from keras_taps.checks import check_real
from keras_taps.verification.graph.curves import ERROR, FUNCTIONS, Function

_WIDE = np.geomspace(1e-3, 1e4, 200)
_GRID = np.sort(np.concatenate([-_WIDE, np.linspace(-10, 10, 2001), _WIDE]))
_CLOSE = 1e-6  # of quotients on the grid


def register_function(
    name: str,
    value: Callable[[np.ndarray], np.ndarray],
    slope: Callable[[np.ndarray], np.ndarray],
    knots: Sequence[float] = (),
    bends: Sequence[int] = (1,),
    flattest: float = 0.0,
    steepest: float = 1.0,
    floor: float = 0.0,
) -> None:
    """Tell the checker of a function of one variable.

    Proofs about networks with it are as true as what is said here. The float64 results of `value`
    and `slope` are believed to 64 units in the last place, and `value` moreover to `floor`. The
    places of the knots are exact. What a grid shows to be wrong is refused.

    Args:
        name: Of letters, digits and underscores. One that was registered before is replaced.
        value: The function of an array, with NumPy.
        slope: Its derivative inside of pieces, and at their ends the one from inside.
        knots: Where pieces meet, ascending.
        bends: Of each piece 1 if it is convex, -1 if it is concave, 0 if it is a line.
        flattest: At most every slope.
        steepest: At least every slope; `math.inf` if there is no largest.
        floor: Absolute error of `value`, beside the relative one.

    Raises:
        ValueError: If the name is none or the checker's own, the pieces do not fit together, or a
            grid of points shows that the function bends otherwise or has another slope.

    Example:

    >>> import math
    >>> register_function("softcurve", lambda x: (x + np.sqrt(x * x + 4)) / 2,
    ...                   lambda x: (1 + x / np.sqrt(x * x + 4)) / 2, floor=1e-15)
    """
    own = FUNCTIONS.get(name)
    if not (isinstance(name, str) and name.isidentifier() and (own is None or own.foreign)):
        raise ValueError(
            "`name` must be an identifier that is none of "
            f"{', '.join(n for n, f in FUNCTIONS.items() if not f.foreign)}. Received: {name!r}"
        )
    check_real("floor", floor, 0, 1)
    knots, bends = tuple(map(float, knots)), tuple(bends)
    if len(bends) != len(knots) + 1 or list(knots) != sorted(set(knots)) or {*bends} - {-1, 0, 1}:
        raise ValueError(
            "`bends` must be 1, -1 or 0 for each piece between ascending `knots`. "
            f"Received: knots={knots}, bends={bends}"
        )
    if not np.all(np.isfinite(knots)) or not -np.inf < flattest <= steepest:
        raise ValueError(
            "`knots` must be finite and `flattest` a number that is at most `steepest`. "
            f"Received: knots={knots}, flattest={flattest}, steepest={steepest}"
        )
    found = Function(
        lambda x, alpha: np.asarray(value(x), "float64"),
        lambda x, alpha: np.asarray(slope(x), "float64"),
        knots,
        bends,
        float(flattest),
        float(steepest),
        float(floor),
        foreign=True,
    )
    with np.errstate(all="ignore"):
        _check(name, found)
    FUNCTIONS[name] = found


def _check(name, known):
    """Raise `ValueError` where points of a grid contradict what is said of a function."""
    if np.shape(known.value(_GRID, 1.0)) != _GRID.shape:
        raise ValueError(f"`value` of '{name}' must return an array of the shape of its input")
    edges = (-np.inf, *known.knots, np.inf)
    for (left, right), bend in zip(pairwise(edges), known.bends, strict=True):
        x = _GRID[np.clip(_GRID, left, right) == _GRID]
        x = np.unique([*x, *(end for end in (left, right) if np.isfinite(end))])
        y = known.value(x, 1.0)
        quotients = np.diff(y) / np.diff(x)
        # Of differences of rounded values, which is all that is known of either.
        doubt = _CLOSE + 4 * (ERROR * np.abs(y) + known.floor)[1:] / np.diff(x)
        bent, low, high = np.diff(quotients), known.flattest - doubt, known.steepest + doubt
        slopes = known.slope(x, 1.0) if bend else np.zeros(len(x))
        order = quotients - slopes[:-1], slopes[1:] - quotients
        size = doubt + _CLOSE * np.abs(quotients)
        wrong = {
            "is NaN": np.any(np.isnan(y)) or np.any(np.isnan(slopes)),
            "bends otherwise": np.any(bent * bend < -(size[1:] + size[:-1])),
            "is no line": bend == 0 and np.any(np.abs(bent) > size[1:] + size[:-1]),
            "has another slope": bend and any(np.any(bend * part < -size) for part in order),
            "has slopes out of range": np.any((quotients < low) | (quotients > high)),
        }
        for what, is_so in wrong.items():
            if is_so:
                raise ValueError(
                    f"'{name}' {what} between {left:g} and {right:g}. Received: knots="
                    f"{known.knots}, bends={known.bends}, flattest={known.flattest}, "
                    f"steepest={known.steepest}"
                )


def lowest(name):
    """Where a registered function is lowest, `None` if it rises or falls everywhere.

    Raises:
        ValueError: If it falls after it has risen.
    """
    known = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        y = known.value(_GRID, 1.0)
        steps = np.diff(y)
        steps = np.where(np.abs(steps) <= 4 * (ERROR * np.abs(y[1:]) + known.floor), 0.0, steps)
    falls, rises = np.flatnonzero(steps < 0), np.flatnonzero(steps > 0)
    if not (len(falls) and len(rises)):
        return None
    if falls[-1] > rises[0]:
        raise ValueError(
            f"'{name}' falls after it has risen, so its boxes do not follow from its ends and one "
            "lowest point. Accepted: functions that rise, fall, or fall and then rise."
        )
    low, high = _GRID[falls[-1]], _GRID[rises[0] + 1]
    for _ in range(200):  # thirds: what is convex nowhere else still has one lowest point
        third = (high - low) / 3
        left, right = known.value(np.array([low + third, high - third]), 1.0)
        low, high = (low + third, high) if left > right else (low, high - third)
    return float((low + high) / 2)

"""Whether a point is a counterexample in real arithmetic."""

import numpy as np

from keras_taps.verification.graph.exact_values import exact_forms


def surely_reached(checker, point, forms, offset, strict=None, beside=None):
    """Whether all of several forms of the outputs reach 0 at a point, whatever rounding did.

    Args:
        checker: `Checker` of the graph.
        point: Float array of the shape of one input.
        forms: Array `(n, outputs)`.
        offset: Array `(n,)`.
        strict: Boolean array `(n,)`: forms that must be above 0; by default none.
        beside: Another point: the forms must reach 0 everywhere between both. What is meant may be
            a number that float64 does not hold, between two neighbours.

    Returns:
        True if `forms @ outputs + offset` is above 0 by more than its rounding error, or if exact
        arithmetic says so.

    Example:

    >>> graph = Graph((Dense(np.array([[1.0, 2.0**60, -(2.0**60)]]), np.zeros(3)),))
    >>> forms, offset = np.ones((1, 3)), np.array([-1.0])
    >>> surely_reached(Checker(graph), np.array([1.0]), forms, offset)
    True
    """
    point = np.asarray(point, "float64")
    beside = point if beside is None else np.asarray(beside, "float64")
    box = np.minimum(point, beside), np.maximum(point, beside)
    bounds = checker.upper_bounds(*box, -forms, -offset, "crown-ibp")
    if np.all(bounds < 0) or np.any(point != beside):
        return bool(np.all(bounds < 0))
    values = exact_forms(checker.graph, point, forms, offset)
    strict = np.zeros(len(offset), bool) if strict is None else strict
    return values is not None and all(
        value > 0 or (value == 0 and not above) for value, above in zip(values, strict, strict=True)
    )

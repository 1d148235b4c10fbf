"""Sets of counterexamples from the disjuncts of a VNNLIB file, rounded so that none is lost."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from keras_taps.verification.formats.onnx_reader import OnnxNetwork
from keras_taps.verification.formats.vnnlib_formulas import conjunction
from keras_taps.verification.graph.unsafe import Unsafe


def unsafe_sets(
    parts: list[list[tuple]], network: OnnxNetwork, spell: Callable[[tuple[str, int]], str]
) -> list[Unsafe]:
    """The sets that all of some disjunctions describe; what they share is computed once.

    Args:
        parts: Disjunctions to conjoin: lists of disjuncts, as `Formulas` makes them.
        network: `OnnxNetwork`.
        spell: Function that names a variable.

    Raises:
        ValueError: If an input has no bounds, or float64 does not hold a number.
    """
    shared = [atom for part in parts if len(part) == 1 for atom in part[0]]
    count = network.places.size
    free = np.full(count, -math.inf), np.full(count, math.inf)
    boxes = _tightened((free, free), shared)
    common = [atom for atom in shared if atom[0] == "form"]
    found = []
    for disjunct in conjunction([part for part in parts if len(part) != 1]):
        outer, inner = _tightened(boxes, disjunct)
        if _empty(outer, inner, [*shared, *disjunct]):
            continue
        loose = np.flatnonzero(np.isinf(outer[0]) | np.isinf(outer[1]))
        if loose.size:
            name = spell(("X", int(loose[0])))
            raise ValueError(f"{name} has no lower or no upper bound")
        forms = common + [atom for atom in disjunct if atom[0] == "form"]
        rows = [_row(weights, offset, network.graph.outputs) for _, weights, offset, _ in forms]
        weights = np.array([row for row, _, _ in rows]).reshape(-1, network.graph.outputs)
        # Adding 0.0 turns the -0.0 of rounding upward into 0.0.
        above, lowered = (np.array([r[i] for r in rows], "float64") + 0.0 for i in (1, 2))
        outer, inner = ([network.to_graph(side) + 0.0 for side in box] for box in (outer, inner))
        strict = np.array([atom[3] for atom in forms], bool)
        found.append(
            Unsafe(outer[0], outer[1], weights, above, strict, (inner[0], inner[1], lowered))
        )
    return found


def _tightened(boxes, atoms):
    """The outer and the inner box of inputs with more bounds."""
    bounds = [atom for atom in atoms if atom[0] != "form"]
    if not bounds:
        return boxes
    (lower, upper), (low, high) = (tuple(side.copy() for side in box) for box in boxes)
    for kind, index, number, strict in bounds:
        if kind == "lower":
            lower[index] = max(lower[index], below(number))
            low[index] = max(low[index], -_inside(-number, strict))
        else:
            upper[index] = min(upper[index], -below(-number))
            high[index] = min(high[index], _inside(number, strict))
    return (lower, upper), (low, high)


def _empty(outer, inner, atoms):
    """Whether no real input meets all bounds; where float64 has one between them, one does."""
    if np.any(outer[0] > outer[1]):
        return True
    for index in np.flatnonzero(inner[0] > inner[1]):
        mine = [atom for atom in atoms if atom[0] != "form" and atom[1] == index]
        # Of equal bounds the strict one is the tighter.
        low = max((n, strict) for kind, _, n, strict in mine if kind == "lower")
        high = min((n, not strict) for kind, _, n, strict in mine if kind == "upper")
        if low[0] > high[0] or (low[0] == high[0] and (low[1] or not high[1])):
            return True
    return False


def below(number):
    """The largest float64 that is not above a fraction."""
    try:
        nearest = float(number)
    except OverflowError:
        raise ValueError("a number is too large for float64") from None
    return nearest if nearest <= number else math.nextafter(nearest, -math.inf)


def _inside(number, strict):
    """The largest float64 that is not above a fraction, or is below it."""
    nearest = below(number)
    return math.nextafter(nearest, -math.inf) if strict and nearest == number else nearest


def _row(weights, offset, outputs):
    """A form as a float64 row and an offset, rounded up and rounded down; the row must be exact.

    Rounding a coefficient could lose counterexamples, so a form such as `0.1 Y_0 - 0.3 Y_1` is
    multiplied until its coefficients are whole.
    """
    if not _exact(weights):
        factor = math.lcm(*(Fraction(weight).denominator for weight in weights.values()))
        weights = {index: weight * factor for index, weight in weights.items()}
        offset = offset * factor
        if not _exact(weights):
            raise ValueError("coefficients of outputs have too many digits for float64")
    row = np.zeros(outputs)
    row[list(weights)] = [float(weight) for weight in weights.values()]
    return row, -below(-offset), below(offset)


def _exact(weights):
    return all(below(weight) == weight for weight in weights.values())

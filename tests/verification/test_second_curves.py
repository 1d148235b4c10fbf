"""Lines of smooth activations, compared with series in rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from keras_taps.verification.certificate.curves import CurveLines, slope_range
from keras_taps.verification.graph.curves import FUNCTIONS, Curve
from tests.verification.second_checker.curves import curve

pytestmark = pytest.mark.once

BENT = {"softsign": 2.0, "exponential": 3.0, "elu": 2.0}  # second derivatives, else at most 1


def allowed(slope, low, high, bent=1):
    """How far ours moves a line outward whose curve's second derivative is at most `bent`."""
    width, size = high - low, 1 + max(abs(low), abs(high))
    return bent * width**2 / 2**30 + (2 + abs(slope)) * (size + width) / 2**45


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lines_of_curves(name):
    """Usual lines are alike or as near, and lie where the page says, no nearer to the curve."""
    rng, alpha = np.random.default_rng(3), 2.0 if name == "elu" else 1.0
    boxes = np.sort(rng.uniform(-4, 1 if name == "exponential" else 4, (3, 2)))
    boxes = np.concatenate([boxes, [[0.5, 0.5], [-3, 1], [-1, 0]]])
    box = tuple(boxes.T)
    node, theirs = Curve((len(boxes),), name, alpha), curve(name, Fraction(alpha))
    ours, ranges = CurveLines.of(node, box), slope_range(node, box)
    for i, (low, high) in enumerate(boxes.tolist()):
        low, high = Fraction(low), Fraction(high)
        for side, slope, lift in (
            (1, ours.steep[0, i], ours.over[0, i]),
            (-1, ours.below[0, i], -ours.under[0, i]),
        ):
            room = allowed(slope, low, high, BENT.get(name, 1.0))
            best = theirs.usual(side, low, high)
            reach = [
                theirs.largest(side, s, low, high) + side * s * (low + high) / 2
                for s in (best, Fraction(slope))
            ]
            alike = abs(best - Fraction(slope)) * (high - low) <= room
            assert alike or abs(reach[1] - reach[0]) <= room
            gap = Fraction(lift) - theirs.largest(side, Fraction(slope), low, high)
            assert -(2.0**-90) <= gap <= room
        np.testing.assert_allclose(
            [float(end) for end in theirs.range(low, high)], [end[i] for end in ranges], atol=1e-13
        )

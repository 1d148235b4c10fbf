"""A point counts as a counterexample only if all that is asked holds there, and beside it."""

import numpy as np
import pytest

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.counterexamples import surely_reached
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense

pytestmark = pytest.mark.once
SAME = Checker(Graph((Dense(np.eye(2), np.zeros(2)),)))
BOTH, HALF = np.eye(2), np.full(2, -0.5)  # x0 >= 0.5 and x1 >= 0.5


@pytest.mark.parametrize("point", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_one_of_two_conditions_is_not_enough(point):
    point = np.array(point)
    assert not surely_reached(SAME, point, BOTH, HALF)
    assert not surely_reached(SAME, point, BOTH, HALF, beside=np.nextafter(point, 2))
    assert not surely_reached(SAME, point, BOTH, HALF, beside=np.array([1.0, 1.0]))
    assert surely_reached(SAME, np.ones(2), BOTH, HALF)
    assert surely_reached(SAME, np.ones(2), BOTH, HALF, beside=np.nextafter(np.ones(2), 2))


def test_both_ends_count_though_they_share_a_coordinate():
    high, low = np.array([1.0, 1.0]), np.array([1.0, 0.0])
    assert not surely_reached(SAME, high, BOTH, HALF, beside=low)
    assert not surely_reached(SAME, low, BOTH, HALF, beside=high)


def test_ties():
    """Exactly 0 is reached, unless a condition is strict; between two points it is not sure."""
    point = np.array([0.5, 1.0])
    assert surely_reached(SAME, point, BOTH, HALF)
    assert surely_reached(SAME, point, BOTH, HALF, np.array([False, True]))
    assert not surely_reached(SAME, point, BOTH, HALF, np.array([True, False]))
    assert not surely_reached(SAME, point, BOTH, HALF, beside=np.array([0.5, 1.5]))

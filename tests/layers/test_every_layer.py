"""The harness over every interval layer (SPEC section 8, property 4)."""

import pytest

from tests.layers import harness

pytestmark = pytest.mark.parametrize("case", harness.CASES, ids=str)


def test_same_as_stock(case):
    harness.check_same_as_stock(case)


def test_build_from_box(case):
    harness.check_build_from_box(case)


def test_bounds_contain_samples(case):
    """Property 4."""
    harness.check_bounds(case)


def test_bounds_are_reached(case):
    harness.check_bounds_reached(case)


def test_zero_width_box_is_the_point(case):
    harness.check_zero_width(case)


def test_round_trip(case, tmp_path):
    harness.check_round_trip(case, tmp_path / "network.keras")


def test_float64(case):
    harness.check_float64(case)


def test_coarse_precision_refused(case):
    harness.check_refuses_coarse(case, "bfloat16")


def test_gradients_flow(case):
    harness.check_gradients(case)


def test_symbolic_call(case):
    harness.check_symbolic(case)

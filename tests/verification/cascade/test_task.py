"""Groups of forms: which are open, which are safe, and what NaN and infinity may not do."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification.cascade.task import Query, Task
from keras_taps.verification.graph.unsafe import safe, worst_of


def task(groups=(0, 0, 1)):
    forms = np.ones((len(groups), 2))
    return Task.of(np.zeros(3), np.ones(3), forms, np.zeros(len(groups)), np.array(groups))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats()), min_size=1, max_size=8))
def test_worst_of(pairs):
    """The smallest of each group; NaN says nothing."""
    groups, values = (np.array(side) for side in zip(*pairs, strict=True))
    found = worst_of(groups, values)
    for group in range(groups.max() + 1):
        known = values[(groups == group) & ~np.isnan(values)]
        assert found[group] == (known.min() if known.size else np.inf)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([-1, 1, -1], True),
        ([1, -1, -1], True),
        ([-1, -1, 0], False),  # a tie is unsafe
        ([-1, -1, np.nan], False),
        ([-1, -1, -np.inf], False),  # only overflow gives that
        ([-1, -1, np.inf], False),
        ([np.nan, -1, -1], True),
        ([-np.inf, 1, -1], False),
    ],
)
def test_safe(bounds, expected):
    assert safe(np.array([0, 0, 1]), np.array(bounds, "float64")) is expected


def test_one_form_of_a_group_rules_it_out():
    one = task()
    assert one.query.conjunctive
    assert not task((0, 1, 2)).query.conjunctive
    assert one.open_forms.tolist() == [0, 1, 2]
    one.improve(np.array([1]), np.array([-0.5]))
    assert one.open_forms.tolist() == [2]
    one.improve(np.array([0, 1, 2]), np.array([5.0, 3.0, 1.0]))
    assert one.bounds.tolist() == [5.0, -0.5, 1.0]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_bounds_that_are_none_improve_nothing(value):
    one = task()
    one.improve(np.arange(3), np.full(3, value))
    assert one.bounds.tolist() == [np.inf] * 3
    assert one.open_forms.tolist() == [0, 1, 2]


def test_reached():
    one = task()
    assert one.query.reached(np.array([0.0, 0.0, -1.0]))
    assert one.query.reached(np.array([-1.0, 1.0, 0.0]))
    assert not one.query.reached(np.array([-1.0, 1.0, -1.0]))
    assert not one.query.reached(np.array([np.nan, 1.0, np.nan]))  # no evidence of anything


def test_around():
    one = Query.around(np.array([0.0, 0.5], "float32"), 1, 0.25, 3, index=7)
    assert one.forms.tolist() == [[1, -1, 0], [0, -1, 1]]
    assert (one.index, one.groups.tolist(), one.conjunctive) == (7, [0, 1], False)
    assert one.lower[0] == 0
    assert one.lower[1] < 0.25 < 0.75 < one.upper[1] < 0.7500001


def test_a_query_is_frozen_and_what_was_found_can_be_dropped():
    one = task()
    with pytest.raises(FrozenInstanceError):
        one.query.forms = None
    one.boxes = one.proved = [(np.zeros(2), np.ones(2))]
    one.slopes = one.trees = "found"
    assert one.bytes == 64
    one.forget_boxes()
    assert (one.bytes, one.slopes) == (0, "found")
    one.release()
    assert one.slopes is one.trees is None


def test_seconds():
    one = task()
    one.spend("ibp", 1.0)
    one.spend("crown", 0.5)
    one.spend("ibp", 0.25)
    assert one.seconds == {"ibp": 1.25, "crown": 0.5}
    assert one.total_seconds == 1.75

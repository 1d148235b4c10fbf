"""Every stage ends when its time is up; the clock here counts how often it is looked at."""

import numpy as np
import pytest

from keras_taps.verification.cascade.stages import Verifier
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.search.branch_and_bound import BranchAndBound
from tests.helpers import BACKEND
from tests.verification.images import network
from tests.verification.search.test_crops import FORMS, OFFSET

GRAPH = network(4)


class Clock:
    """A second goes by between any two looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def tasks(count=2):
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        centre = rng.normal(size=GRAPH.in_shape)
        forms = FORMS, OFFSET + 1e3, np.arange(2)  # nothing of it can be proved
        found.append(Task(centre - 0.3, centre + 0.3, *forms, index))
    return found


@pytest.fixture(scope="module")
def verifier():
    return Verifier(GRAPH, batch_size=2, cuts=2)


@pytest.mark.parametrize("stage", ["crown", "alpha-crown", "bab"])
@pytest.mark.skipif(BACKEND != "torch", reason="the loops are the same on every backend")
def test_a_stage_ends_with_its_time(verifier, stage):
    """After the timeout nothing looks at the clock but to book what was spent."""
    clock = verifier.clock = Clock()
    verifier._branch_and_bound = None
    given = tasks()
    verifier.run(stage, given, timeout=20.0)
    assert all(task.verdict is None for task in given)
    spent = sum(task.total_seconds for task in given)
    assert 20 <= spent <= 2 * (20 + 6)
    assert clock.now <= 2 * (20 + 6)
    after = clock.now
    verifier.run(stage, given, timeout=20.0)  # none of them has time left
    assert clock.now == after


def test_time_enough_is_as_no_limit(verifier):
    verifier.clock = Clock()
    with_limit, without = tasks(1), tasks(1)
    verifier.run("crown", with_limit, timeout=1e9)
    verifier.run("crown", without)
    assert with_limit[0].bound == without[0].bound
    assert np.isfinite(without[0].bound)


@pytest.mark.skipif(BACKEND != "torch", reason="the loops are the same on every backend")
def test_domains_left_over_are_kept():
    """Where the time ends between two batches of a round, no domain is lost."""
    search = BranchAndBound(GRAPH, Verifier(GRAPH).checker, lambda *a: None, cuts=0, sizes=(1, 1))
    search.clock = Clock()
    given = tasks(1)
    search.solve(given, timeout=400.0)
    assert given[0].verdict is None
    assert given[0].total_seconds >= 400

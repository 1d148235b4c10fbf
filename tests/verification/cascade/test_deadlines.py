"""Every stage ends when its time is up; the clock here counts how often it is looked at."""

import numpy as np
import pytest

from keras_taps.verification.cascade.stages import Verifier
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.deadline import Deadline
from tests.helpers import BACKEND
from tests.verification.images import network
from tests.verification.search.test_branch_and_bound import problems
from tests.verification.search.test_crops import FORMS, OFFSET
from tests.verification.searches import KINDS, loaded

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
        found.append(Task.of(centre - 0.3, centre + 0.3, *forms, index))
    return found


@pytest.fixture(scope="module")
def verifier():
    return Verifier(GRAPH, batch_size=2)


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


def test_domains_left_over_are_bounded_later(monkeypatch):
    """Where the time ends within a round and then there is more of it, no domain is lost."""
    search = loaded(KINDS[0], 2)
    given, truth = problems(search.graph, 6, margin=0.05, seed=7)
    original, rounds = search._expand, []

    def expand(cases, pool, fresh):
        rounds.append(len(fresh["bound"]))
        if len(rounds) in (1, 3, 4):
            for case in cases.values():
                case.root.deadline = Deadline.after(-1)
        original(cases, pool, fresh)

    monkeypatch.setattr(search, "_expand", expand)
    search.solve(given)
    assert [task.verdict for task in given] == truth
    assert len(rounds) > 4

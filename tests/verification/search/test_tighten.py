"""Optimised boxes of neurons: sound, tighter than CROWN's, and derived again by the checker."""

import itertools

import numpy as np
import pytest

from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.cascade import stages, tightener
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.proofs import pack_tightening, unpack_tightening
from keras_taps.verification.search.boxes import covering
from keras_taps.verification.search.tighten import TighteningEngine
from tests.helpers import BACKEND
from tests.verification.helpers import inputs_of_sites, random_graph, sample
from tests.verification.problems import deep

pytestmark = pytest.mark.usefixtures("eager")

KINDS = ("deep", "residual") if BACKEND == "torch" else ("deep",)


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    """Graph, two boxes of which the second is a point, and what was found."""
    graph = deep()[0] if request.param == "deep" else random_graph("residual", 0)
    engine = TighteningEngine(build_network(graph), 2)
    x = np.random.default_rng(3).random((2, *graph.in_shape)).astype("float32").astype("float64")
    radius = np.array([0.1, 0.0]).reshape(2, *[1] * (x.ndim - 1))
    lower, upper = x - radius, x + radius
    forms, nothing = np.eye(graph.outputs), np.zeros(graph.outputs)
    crown = [
        Checker(graph).bounds_and_boxes(*b, forms, nothing)[1]
        for b in zip(lower, upper, strict=True)
    ]
    boxes = [covering(*map(np.stack, zip(*pair, strict=True))) for pair in zip(*crown, strict=True)]
    asked = []
    found = engine.tighten(
        *covering(lower, upper), boxes, going=lambda done: asked.append(done) or True
    )
    return graph, engine, (lower, upper), crown, boxes, asked, *found


def test_inside_the_boxes_of_crown_and_around_every_sample(case):
    graph, _, (lower, upper), _, boxes, asked, tight, _ = case
    inputs = []
    inputs_of_sites(graph.nodes, sample(lower[0], upper[0], 2000), inputs)
    narrower = 0
    for x, old, new in zip(inputs, boxes, tight, strict=True):
        assert np.all((new[0] >= old[0]) & (new[1] <= old[1]))
        slack = 1e-4 * (1 + np.abs(x))
        assert np.all((x >= new[0][0] - slack) & (x <= new[1][0] + slack))
        narrower += np.sum(new[1][0] - new[0][0] < 0.99 * (old[1][0] - old[0][0]))
    assert narrower >= 3
    assert asked[0] == 0.0
    assert asked == sorted(asked)
    assert asked[-1] < 1


def test_the_checker_derives_about_the_same(case):
    graph, _, (lower, upper), crown, _, _, tight, tightenings = case
    proved = Checker(graph).tightened(lower[0], upper[0], tightenings[0], boxes=crown[0])
    for found, old, new in zip(tight, crown[0], proved, strict=True):
        # Slopes are rounded to bytes; sometimes the way forward alone gives narrower boxes.
        slack = 0.01 * (1 + np.abs(old[0]) + np.abs(old[1]))
        assert np.all(new[0] >= np.fmax(found[0][0] - slack, old[0]))
        assert np.all(new[1] <= np.fmin(found[1][0] + slack, old[1]))
    assert not len(tightenings[1].asked)  # nothing is unstable at a point


def test_it_stops_when_it_is_told(case):
    _, engine, box, _, boxes, *_ = case
    same, tightenings = engine.tighten(*covering(*box), boxes, going=lambda done: False)
    assert not len(tightenings[0].asked)
    for old, new in zip(boxes, same, strict=True):
        np.testing.assert_array_equal(old, new)


def test_cases_are_sound_and_tighter_and_the_checker_derives_them(case):
    graph, engine, (lower, upper), crown, _, _, tight, before = case
    given = {"affords": lambda done, left: 12.0, "before": before}
    found, made = engine.tighten(*covering(lower, upper), tight, **given)
    cases = made[0].cases
    assert cases is not None
    assert made[1].cases is None
    assert np.all(cases.counts >= 2)
    proved = Checker(graph).tightened(lower[0], upper[0], made[0], boxes=crown[0])
    inputs = []
    inputs_of_sites(graph.nodes, sample(lower[0], upper[0], 2000), inputs)
    for x, old, new, sure in zip(inputs, tight, found, proved, strict=True):
        assert np.all((new[0] >= old[0]) & (new[1] <= old[1]))
        slack = 1e-4 * (1 + np.abs(x))
        for low, high in ((new[0][0], new[1][0]), sure):
            assert np.all((x >= low - slack) & (x <= high + slack))
        slack = 0.02 * (1 + np.abs(old[0][0]) + np.abs(old[1][0]))
        assert np.all((sure[0] >= new[0][0] - slack) & (sure[1] <= new[1][0] + slack))
    width = [sum(np.sum(high[0] - low[0]) for low, high in b) for b in (tight, found)]
    assert width[1] < width[0]


def test_it_proves_what_slopes_of_the_last_forms_do_not(monkeypatch):
    graph, x, label = deep()
    verifier = stages.Verifier(graph, batch_size=1)
    tasks = [Task.around(x, label, 0.11, 3) for _ in range(2)]
    monkeypatch.setattr(tightener, "SHARES", {True: 0.0, False: 0.0})
    verifier.run("alpha-crown", tasks[:1], timeout=60)
    assert tasks[0].verdict is None
    assert tasks[0].tightening is None
    monkeypatch.undo()
    verifier.run("alpha-crown", tasks[1:])
    assert tasks[1].verdict == "certified"
    assert tasks[1].checked
    assert tasks[1].bound < 0 < tasks[0].bound


@pytest.mark.once
def test_a_second_round_begins_with_boxes_by_cases(monkeypatch):
    graph, x, label = deep()
    monkeypatch.setattr(tightener, "LEAST", 0.0)
    monkeypatch.setattr(stages, "FIRST", 1e-9)  # which proves nothing
    ticks = itertools.count()  # a clock that no other process slows down
    verifier = stages.Verifier(graph, batch_size=1, clock=lambda: next(ticks) / 1000)
    tasks = [Task.around(x, label, 0.12, 3) for _ in range(3)]
    verifier.run("alpha-crown", tasks, timeout=60)
    assert all(task.verdict is None and task.pass_seconds > 0 for task in tasks)
    tasks[1].seconds["bab"] = 3.0  # as after a round in vain
    verifier.run("bab", tasks[1:2], timeout=60, budget=30)
    assert tasks[1].verdict == "certified"
    assert tasks[1].checked
    cases = tasks[1].tightening.cases
    assert len(cases.asked) > 0
    packed = unpack_tightening(pack_tightening(tasks[1].tightening))
    for mine, theirs in zip(cases, packed.cases, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    verifier.run("bab", tasks[2:], budget=30)  # without a timeout there is no share of it
    assert tasks[2].verdict == "certified"
    assert tasks[2].tightening.cases is None

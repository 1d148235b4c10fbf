"""The stages one by one: who is asked, who decides, and what a proof needs."""

import numpy as np
import pytest

from keras_taps.choices import STAGES
from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.cascade import stages
from keras_taps.verification.cascade.attacks import Attacks
from keras_taps.verification.cascade.stages import Verifier
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from tests.helpers import BACKEND
from tests.verification.problems import EPS, deep, tiny, truth


@pytest.fixture(scope="module")
def problem():
    network, x, y = tiny()
    verdicts = truth(network, x, y)
    chosen = [i for i, verdict in enumerate(verdicts) if verdict != "misclassified"]
    return read_network(network), x[chosen], y[chosen], [verdicts[i] for i in chosen]


@pytest.fixture(scope="module")
def verifier(problem):
    return Verifier(problem[0], batch_size=4)


def tasks_of(problem):
    _, x, y, _ = problem
    return [Task.around(*pair, EPS, 3, i) for i, pair in enumerate(zip(x, y, strict=True))]


# The two attacks compile alike.
ALONE = [stage for stage in STAGES if BACKEND != "jax" or stage != "strong-attack"]


@pytest.mark.parametrize("stage", ALONE)
def test_no_stage_is_wrong(problem, verifier, stage):
    """Each on its own, without those before it."""
    tasks = tasks_of(problem)
    if stage == "strong-attack":  # a second an input on PyTorch
        tasks = [task for task in tasks if problem[3][task.query.index] == "falsified"]
    verifier.run(stage, tasks)
    decided = [task for task in tasks if task.verdict is not None]
    assert decided
    for task in decided:
        assert task.verdict == problem[3][task.query.index]
        assert task.stage == stage
        assert task.checked
        assert set(task.seconds) == {stage}
    if stage == "milp":
        assert len(decided) == len(tasks)


def test_decided_and_late_tasks_are_left_alone(problem, verifier):
    tasks = tasks_of(problem)
    tasks[0].decide("certified", "oracle")
    tasks[1].spend("before", 2.0)
    verifier.run("ibp", tasks, timeout=1.0)
    assert tasks[0].stage == "oracle"
    assert not tasks[0].seconds
    assert set(tasks[1].seconds) == {"before"}
    assert all("ibp" in task.seconds for task in tasks[2:])


def test_the_strong_attack_leaves_time_for_proofs(problem, monkeypatch):
    asked = []

    def points(self, tasks, stage, options, seconds):
        asked.append(seconds)
        return np.stack([task.query.lower[None] for task in tasks])

    monkeypatch.setattr(Attacks, "points", points)
    slow, tasks = Verifier(problem[0]), tasks_of(problem)
    slow.run("strong-attack", tasks[:2], timeout=10.0)
    slow.run("strong-attack", tasks[2:3])
    assert asked == [2 * 2.5, np.inf]


def test_a_second_pass_keeps_the_slopes_of_closed_forms(monkeypatch):
    """Those that the first closed are part of the proof, and are not asked again."""
    graph, x, label = deep()
    task, kept = Task.around(x, label, 0.3, 3), []

    def tightened(self, tasks, *given):
        (task,) = tasks
        first, *others = task.open_forms
        assert others
        task.bounds[first] = -1.0
        kept.append((first, task.slopes[first].copy()))
        return tasks

    monkeypatch.setattr(stages.Tightener, "tightened", tightened)
    Verifier(graph, batch_size=1).run("alpha-crown", [task])
    ((form, slopes),) = kept
    assert np.all(np.isfinite(slopes))
    np.testing.assert_array_equal(task.slopes[form], slopes)


def test_bounds_only_improve(problem, verifier):
    tasks = tasks_of(problem)
    before = {task.query.index: task.bounds.copy() for task in tasks}
    for stage in ("ibp", "crown-ibp", "crown", "alpha-crown"):
        verifier.run(stage, tasks)
        for task in tasks:
            if not task.checked:
                assert np.all(task.bounds <= before[task.query.index])
                before[task.query.index] = task.bounds.copy()


def test_the_checker_has_the_last_word(problem, monkeypatch):
    """A proof that it does not repeat is none, and the forms are open again."""
    verifier = Verifier(problem[0], batch_size=4)
    monkeypatch.setattr(
        verifier.checker, "bounds_and_boxes", lambda *a, **k: (np.array([-1.0, 0.0]), [])
    )
    tasks = tasks_of(problem)
    verifier.run("ibp", tasks)
    assert all(task.verdict is None for task in tasks)
    asked = [task for task in tasks if task.method == "ibp"]
    assert asked
    assert all(task.open_forms.tolist() == [1] for task in asked)


def test_the_model_has_a_word_in_counterexamples(problem):
    """What breaks in float64 alone is not falsified."""
    graph, _, _, verdicts = problem
    stubborn = Verifier(graph, lambda points: np.array([[np.nan] * 3]), batch_size=4)
    tasks = tasks_of(problem)
    stubborn.run("attack", tasks)
    assert "falsified" in verdicts
    assert all(task.verdict is None for task in tasks)


@pytest.mark.parametrize("weight", [1e38] if BACKEND == "jax" else [1e300, 1e38])
def test_overflow_decides_nothing(weight):
    """float32 overflows, and the stages go on without a verdict; float64 may still know."""
    kernel = np.array([[weight], [weight]])
    graph = Graph((Dense(kernel, np.zeros(1)), Relu((1,)), Dense(-kernel[:1], np.zeros(1))))
    with np.errstate(over="ignore"):
        verifier = Verifier(graph, batch_size=1)
        form = np.ones((1, 1)), np.full(1, -1.0), np.zeros(1, int)
        task = Task.of(np.ones(2), np.ones(2), *form)
        for stage in ("ibp", "crown-ibp", "crown", "alpha-crown"):
            verifier.run(stage, [task])
    assert task.stage == ("crown" if weight == 1e38 else None)

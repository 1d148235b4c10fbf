"""Branch and bound: the verdicts of mixed-integer programming, whatever the engine says."""

import time
from dataclasses import replace

import numpy as np
import pytest

from keras_taps.choices import BRANCHINGS
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.proofs import pack_trees, unpack_trees
from keras_taps.verification.certificate.schema import CERTIFIED, FALSIFIED
from keras_taps.verification.certificate.tree import Tree
from keras_taps.verification.exact.milp import exact_verdict
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.graph.unsafe import Unsafe
from keras_taps.verification.search.branch_and_bound import BranchAndBound
from keras_taps.verification.search.instance import Instance
from tests.helpers import BACKEND
from tests.verification.helpers import sample
from tests.verification.searches import (
    KINDS,
    attempt,
    graph_of,
    largest,
    loaded,
    problem,
    proved,
    with_graph,
)

BUT_UPB = [name for name in BRANCHINGS if name != "upb"]  # which is babsr with other scores
SEARCHES = [(kind, branching) for kind in KINDS for branching in BUT_UPB]
SEARCHES += [(KINDS[0], "upb")] if BACKEND == "torch" else []
PER_SEARCH = {"dense": 6, "leaky": 8, "conv": 2, "residual": 6}
ONE = np.zeros(1, int)


def problems(graph, count, margin=1e-3, seed=0):
    pairs = [problem(graph, seed + i, margin, i) for i in range(count)]
    return [task for task, _ in pairs], [FALSIFIED if u else CERTIFIED for _, u in pairs]


def copies(tasks):
    return [Task(t.query) for t in tasks]


def spoiled(monkeypatch, search, change):
    """Let the engine return what `change` makes of its results."""
    bound = search.engine.domains
    monkeypatch.setattr(
        search.engine, "domains", lambda *a: bound(*a)._replace(**change(bound(*a)))
    )


# Right verdicts


@pytest.mark.parametrize(("kind", "branching"), SEARCHES)
def test_verdicts_are_exact(kind, branching):
    """A thousandth above or below 0, in groups of one to three forms."""
    seed = SEARCHES.index((kind, branching))
    search = loaded(kind, seed, branching)
    count = PER_SEARCH[kind] // (2 if branching == "gap" else 1)  # which needs the most domains
    tasks, truth = problems(search.graph, count, seed=100 * seed)
    search.solve(tasks, timeout=60)
    assert [task.verdict for task in tasks] == truth
    for task in tasks:
        assert all(type(spent) is float for spent in task.seconds.values())
        values = (
            search.graph(sample(task.query.lower, task.query.upper, 200)) @ task.query.forms.T
            + task.query.offset
        )
        if task.verdict == FALSIFIED:
            assert attempt(search.graph, task, task.point[None]) is None
        else:
            assert (task.checked, task.method, task.stage) == (True, "bab", "bab")
            assert task.bound < 0
            assert np.all(proved(search, task) < 0)
            assert not any(task.query.reached(row) for row in values)


def test_truth_of_the_problems():
    """The exact solver, asked for verdicts, sees the margins as they were made."""
    graph = graph_of(KINDS[0], 1)
    for task, verdict in zip(*problems(graph, 6), strict=True):
        sets = [
            Unsafe(
                task.query.lower, task.query.upper, task.query.forms[mine], task.query.offset[mine]
            )
            for mine in (task.query.groups == group for group in range(task.query.groups.max() + 1))
        ]
        boxes = Checker(graph).root(task.query.lower, task.query.upper).boxes
        assert exact_verdict(graph, sets, boxes)[0] == verdict


def test_one_at_a_time():
    """Inputs and groups that share batches do not touch each other."""
    search = loaded(KINDS[0], 2)
    tasks, truth = problems(search.graph, 5, seed=7)
    alone = copies(tasks)
    search.solve(tasks)
    for task in alone:
        search.solve([task])
    assert [task.verdict for task in tasks] == [task.verdict for task in alone] == truth


@pytest.mark.once
def test_proofs_survive_a_file():
    search = loaded(KINDS[0], 3)
    tasks, _ = problems(search.graph, 6, seed=20)
    search.solve(tasks)
    found = [task for task in tasks if task.verdict == CERTIFIED]
    assert any(len(tree.leaves) > 1 for task in found for tree in task.trees)
    for task in found:
        task.trees = unpack_trees(pack_trees(task.trees))
        assert np.all(proved(search, task) < 0)


@pytest.mark.once
def test_going_on_from_trees():
    """Whoever asks for a little more than trees prove pays for what is missing alone."""
    search = loaded(KINDS[0], 3)
    tasks, _ = problems(search.graph, 5, margin=1e-2, seed=50)
    search.solve(tasks)
    verdicts, nodes = set(), np.zeros(2)
    for task in (task for task in tasks if task.verdict == CERTIFIED):
        for more in (0.9e-2, 1.1e-2):
            query = replace(task.query, offset=task.query.offset + more, inner=None)
            trees = [Tree.unpack(tree.pack()) for tree in task.trees]
            pair = Task(query), Task(query, trees=trees)
            for i, other in enumerate(pair):
                before = search.nodes
                search.solve([other])
                nodes[i] += search.nodes - before
            assert pair[0].verdict == pair[1].verdict
            verdicts.add(pair[1].verdict)
            if pair[1].verdict == CERTIFIED:
                assert np.all(proved(search, pair[1]) < 0)
        assert np.all(proved(search, task) < 0)
    assert verdicts == {CERTIFIED, FALSIFIED}
    assert nodes[1] < nodes[0] / 2


def test_slopes_of_an_earlier_stage():
    """They count at the root, NaN and nonsense among them."""
    search = loaded(KINDS[0], 2)
    tasks, truth = problems(search.graph, 4, seed=7)
    rng = np.random.default_rng(0)
    size = search.checker.root(tasks[0].query.lower, tasks[0].query.upper).neurons
    for task in tasks:
        slopes = rng.uniform(-2, 3, (len(task.query.offset), size)).astype("float32")
        slopes[rng.random(slopes.shape) < 0.3] = np.nan
        task.slopes = slopes
    search.solve(tasks)
    assert [task.verdict for task in tasks] == truth


# Edge cases, on one structure: one input, two neurons, one output


@pytest.fixture(scope="module")
def tiny():
    zeros = np.zeros
    graph = Graph((Dense(zeros((1, 2)), zeros(2)), Relu((2,)), Dense(zeros((2, 1)), zeros(1))))
    found = BranchAndBound(graph, None, None, sizes=(16,))
    found.attempt = lambda task, points: attempt(found.graph, task, points)
    return found


def set_up(search, kernel, bias, last, end):
    """The search for `last . relu(kernel x + bias) + end`."""
    first = Dense(np.array([kernel], "float64"), np.array(bias, "float64"))
    behind = Dense(np.array(last, "float64")[:, None], np.array([end], "float64"))
    return with_graph(search, Graph((first, Relu((2,)), behind)))


def question(lower=-1.0, upper=1.0, offset=0.0):
    return Task.of(np.full(1, lower), np.full(1, upper), np.ones((1, 1)), np.full(1, offset), ONE)


@pytest.mark.parametrize(
    ("offset", "verdict"), [(-1.001, CERTIFIED), (-0.999, FALSIFIED), (-1.0, None)]
)
def test_ties(tiny, offset, verdict):
    """|x| - 1 is 0 at the ends of its box: never certified, and falsified if a point shows it."""
    search = set_up(tiny, [1, -1], [0, 0], [1, 1], 0)
    task = question(offset=offset)
    search.solve([task], timeout=20)
    assert task.verdict == (verdict or FALSIFIED)
    wide = question(-1 / 3, 1 / 3, -1 / 3)  # the ends are no float32 numbers
    search.solve([wide], timeout=20)
    assert wide.verdict != CERTIFIED


@pytest.mark.parametrize("value", [-0.5, 0.25])
def test_boxes_without_width(tiny, value):
    search = set_up(tiny, [1, -1], [0, 0], [1, 1], 0)
    task = question(value, value, -0.3)
    search.solve([task])
    assert task.verdict == (CERTIFIED if abs(value) < 0.3 else FALSIFIED)


@pytest.mark.parametrize("bias", [5.0, -5.0, [5.0, -5.0], 0.0])
def test_dead_and_always_on_neurons(tiny, bias):
    """Nothing to split but at 0: one linear program decides."""
    kernel = [1, -1] if bias != 0.0 else [0, 0]
    search = set_up(tiny, kernel, np.broadcast_to(bias, 2), [1, -1], 0)
    top = largest(search.graph, np.full(1, -1.0), np.ones(1), np.ones((1, 1)), np.zeros(1))
    for margin, verdict in ((1e-4, FALSIFIED), (-1e-4, CERTIFIED)):
        task = question(offset=margin - top)
        search.solve([task])
        assert task.verdict == verdict


def test_no_neurons():
    graph = Graph((Dense(np.array([[1.0], [-1.0]]), np.zeros(1)),))
    search = BranchAndBound(graph, Checker(graph), lambda *a: attempt(graph, *a))
    for offset, verdict in ((-2.001, CERTIFIED), (-1.999, FALSIFIED)):
        task = Task.of(-np.ones(2), np.ones(2), np.ones((1, 1)), np.full(1, offset), ONE)
        search.solve([task])
        assert task.verdict == verdict
    search.solve([])


def test_contradictory_splits(tiny):
    """relu(x) + relu(-x): both cannot be active but at 0, and the domain is proved all the same."""
    search = set_up(tiny, [1, -1], [-0.5, -0.5], [1, 1], 0)
    task = question(offset=-0.51)
    search.solve([task])
    assert task.verdict == CERTIFIED
    assert np.all(proved(search, task) < 0)


@pytest.mark.parametrize("weight", [1e38, 1e200, 1.7e308])
def test_overflow(tiny, weight):
    """Never certified by numbers that are none, and no crash."""
    with np.errstate(all="ignore"):
        search = set_up(tiny, [weight, -weight], [0, 0], [weight, -weight], 0)
        task = question(offset=-1.0)
        search.solve([task], timeout=5)
    assert task.verdict != CERTIFIED


def test_bounds_that_float32_cannot_tell_from_zero(tiny, monkeypatch):
    """What the checker proved is proved; it must not come back as a domain to split."""
    search = set_up(tiny, [1, -1], [0, 0], [1, 1], 0)
    task = question(offset=-1.5)
    monkeypatch.setattr("keras_taps.verification.search.instance.bound_leaves", lambda *a: np.full(
        len(a[4]), -1e-60))  # fmt: skip
    monkeypatch.setattr("keras_taps.verification.certificate.leaves.RootBox.upper_bounds",
                        lambda *a, **k: np.full(1, np.inf))  # fmt: skip
    search.solve([task], timeout=5)
    assert task.verdict == CERTIFIED
    assert task.bound == -1e-60


def test_an_undecided_leaf_does_not_hide_a_counterexample(tiny, monkeypatch):
    """It leaves a task that can be falsified elsewhere, and only that."""
    search = set_up(tiny, [1, -1], [0, 0], [1, 1], 0)
    shy = lambda task, points: attempt(search.graph, task, points[points[:, 0] > 0])  # noqa: E731
    monkeypatch.setattr(search, "attempt", shy)
    task = question(-1.0, 0.5, -0.25)
    search.solve([task], timeout=10)
    assert task.verdict == FALSIFIED
    alone = question(-1.0, -0.25, -0.25)
    search.solve([alone], timeout=10)
    assert alone.verdict is None


@pytest.mark.once
def test_stuck_cases_go_on():
    """As long as there are domains; then the task is left open, and no domain is missed."""
    search = loaded(KINDS[0], 2)
    tasks, truth = problems(search.graph, 4, seed=7)
    keep = search._keep

    def hasty(instances, *rest):
        for instance in instances.values():
            instance.stuck = True
        keep(instances, *rest)

    search._keep = hasty
    try:
        search.solve(tasks)
    finally:
        del search._keep
    assert [task.verdict for task in tasks] == truth


def test_engine_and_checker_speak_of_the_same(monkeypatch):
    """Groups with fewer forms than others share batches: what is proved is what was bounded."""
    search, seen, close = loaded(KINDS[0], 2), [], Instance.close

    def spy(instance, *fields):
        found = close(instance, *fields)
        seen.extend(zip(fields[-1], found, strict=True))
        return found

    monkeypatch.setattr(Instance, "close", spy)
    tasks, truth = problems(search.graph, 6, margin=0.05, seed=7)
    assert any(len(set(np.bincount(task.query.groups))) > 1 for task in tasks)
    search.solve(tasks)
    assert [task.verdict for task in tasks] == truth
    given, found = np.array(seen).T
    assert np.all(found <= given + 0.02 * (1 + np.abs(given)))  # slopes are rounded to bytes


# Limits


@pytest.mark.once
def test_time(monkeypatch):
    """A task whose time is up stays open; one that has none left is not begun."""
    search = loaded(KINDS[0], 2)
    tasks, _ = problems(search.graph, 3, seed=40)
    monkeypatch.setattr(search, "attempt", lambda task, points: None)
    monkeypatch.setattr(search.checker, "root", _loose(search.checker.root))
    search.solve(tasks, timeout=1e-3)
    assert all(task.verdict is None for task in tasks)
    assert all(1e-3 <= task.total_seconds < 30 for task in tasks)
    spent = [dict(task.seconds) for task in tasks]
    search.solve(tasks, timeout=1e-3)
    search.solve(tasks, budget=1e-3)
    assert [task.seconds for task in tasks] == spent


def _loose(root):
    """Roots on which no bound is proved."""

    def found(*arguments):
        box = root(*arguments)
        box.upper_bounds = lambda forms, *a, **k: np.ones(len(forms))
        return box

    return found


@pytest.mark.once
def test_seconds_are_all_of_the_time():
    """What goes by between the batches is booked too."""
    search = loaded(KINDS[0], 4)
    tasks, _ = problems(search.graph, 4, seed=60)
    search.solve(copies(tasks))  # compiles
    began = time.perf_counter()
    search.solve(tasks)
    spent = time.perf_counter() - began
    assert sum(task.total_seconds for task in tasks) == pytest.approx(spent, rel=0.1, abs=0.02)


@pytest.mark.once
def test_memory(monkeypatch):
    """The input with the most domains is left open, the others are decided."""
    search = loaded(KINDS[0], 2)
    tasks, truth = problems(search.graph, 4, seed=7)
    search.memory = 1
    search.solve(tasks)
    assert all(task.verdict in (None, right) for task, right in zip(tasks, truth, strict=True))
    assert any(task.verdict is None for task in tasks)


def test_without_the_checker():
    search = loaded(KINDS[0], 2, check=False)
    tasks, truth = problems(search.graph, 4, margin=0.05, seed=7)
    search.solve(tasks)
    assert [task.verdict for task in tasks] == truth
    assert not any(task.checked for task in tasks if task.verdict == CERTIFIED)


# An engine that lies


def all_of(found, value):
    return {name: np.full_like(array, value) for name, array in found._asdict().items()}


def proof_of(found, **changed):
    """A claim that everything is proved."""
    return {"bounds": np.full_like(found.bounds, -1.0), **changed}


NONSENSE = {
    "bounds": proof_of,
    "nan": lambda found: all_of(found, np.nan),
    "infinite": lambda found: all_of(found, np.inf),
    "negative": lambda found: proof_of(
        found, betas=found.betas - 5, mix=-found.mix, slopes=found.slopes - 3
    ),
    "large": lambda found: proof_of(found, betas=found.betas + 1e30, mix=found.mix * 1e30),
    "no form": lambda found: proof_of(found, mix=0 * found.mix),
    "others'": lambda found: {name: array[::-1] for name, array in found._asdict().items()},
}


@pytest.mark.once
@pytest.mark.parametrize("name", NONSENSE)
def test_the_checker_saves_us(monkeypatch, name):
    """Whatever the engine returns, nothing false is certified and nothing loops or is lost."""
    search = loaded(KINDS[0], 2)
    tasks, truth = problems(search.graph, 4, seed=7)
    spoiled(monkeypatch, search, NONSENSE[name])
    with np.errstate(all="ignore"):
        search.solve(tasks, timeout=2)
    for task, right in zip(tasks, truth, strict=True):
        assert task.verdict in (None, right)


@pytest.mark.once
def test_points_are_not_believed(monkeypatch):
    search = loaded(KINDS[0], 2)
    tasks, truth = problems(search.graph, 4, seed=7)
    spoiled(monkeypatch, search, lambda found: {
        "points": found.points + 9, "values": np.ones_like(found.values)})  # fmt: skip
    search.solve(tasks, timeout=5)
    for task, right in zip(tasks, truth, strict=True):
        assert task.verdict in (None, right)

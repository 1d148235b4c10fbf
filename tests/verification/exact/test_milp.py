"""Exact bounds: against enumeration of all linear pieces, against samples, and when refused."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from keras_taps.verification.exact import solver as milp_solver
from keras_taps.verification.exact.milp import (
    exact_bound,
    exact_maximum,
    exact_verdict,
)
from keras_taps.verification.exact.model import Program, sparse_rows
from keras_taps.verification.exact.solver import lagrangian_bound, minimise
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Sum
from keras_taps.verification.graph.unsafe import Unsafe
from tests.verification.helpers import KINDS, interval_boxes, random_box, random_graph, sample

pytestmark = pytest.mark.once

WEIGHTS, OFFSET = np.array([1.0, -1.0, 0.5]), 0.3


def problem(kind, seed=0):
    """Arguments of `exact_bound` for a random graph."""
    graph = random_graph(kind, seed)
    lower, upper = random_box(graph, seed + 100)
    return graph, lower, upper, WEIGHTS, OFFSET, interval_boxes(graph, lower, upper)


def single(graph, lower, upper):
    """Arguments of `exact_bound` for the one output of a graph."""
    return graph, lower, upper, np.ones(1), 0.0, interval_boxes(graph, lower, upper)


def pieces(nodes, form, rows):
    """All linear pieces of a chain: the outputs as rows over (input, 1), and rows that are >= 0."""
    if not nodes:
        yield form, rows
        return
    node, *rest = nodes
    for entry, more in _pieces_of(node, form, rows):
        yield from pieces(rest, entry, more)


def _pieces_of(node, form, rows):
    if isinstance(node, Relu):
        for on in itertools.product((True, False), repeat=len(form)):
            on = np.array(on)[:, None]
            yield np.where(on, form, node.slope * form), [*rows, np.where(on, form, -form)]
    elif isinstance(node, MaxPool):
        windows = [w[w >= 0] for w in node.members().reshape(-1, np.prod(node.size))]
        for best in itertools.product(*windows):
            pairs = zip(best, windows, strict=True)
            yield form[list(best)], [*rows, *(form[i] - form[window] for i, window in pairs)]
    elif isinstance(node, Sum):
        yield from _pieces_of_branches(node.branches, form, rows)
    else:
        image = node.apply(form.T.reshape(-1, *node.in_shape))
        image[-1] += node.bias
        yield image.reshape(len(image), -1).T, rows


def _pieces_of_branches(branches, form, rows):
    if not branches:
        yield 0, rows
        return
    for first, more in pieces(branches[0], form, rows):
        for rest, all_rows in _pieces_of_branches(branches[1:], form, more):
            yield first + rest, all_rows


def enumerated(graph, lower, upper):
    """Maximum of the one output, by a linear program a piece."""
    size = lower.size
    best, whole = -np.inf, np.eye(size, size + 1)
    for form, rows in pieces(graph.nodes, whole, []):
        rows = np.vstack([np.zeros((1, size + 1)), *rows])
        found = linprog(
            -form[0, :-1],
            A_ub=-rows[:, :-1],
            b_ub=rows[:, -1],
            bounds=np.stack([lower.ravel(), upper.ravel()], axis=1),
        )
        if found.status == 0:
            best = max(best, form[0, -1] - found.fun)
    return best


def tiny(kind, seed):
    """A graph with few enough pieces to enumerate."""
    rng = np.random.default_rng(seed)

    def dense(inputs, outputs):
        return Dense(rng.normal(size=(inputs, outputs)), rng.normal(size=outputs) / 2)

    if kind == "pool":
        pool = MaxPool((2, 3, 1), (2, 2), (1, 1))
        flat = Reshape(pool.out_shape, (2,))
        return Graph((pool, flat, dense(2, 2), Relu((2,)), dense(2, 1)))
    if kind == "residual":
        inner = Sum((2,), ((dense(2, 2), Relu((2,), 0.1), dense(2, 2)), ()))
        return Graph((inner, Relu((2,)), dense(2, 1)))
    slope = {"plain": 0.0, "leaky": 0.3}[kind]
    nodes = dense(2, 3), Relu((3,), slope), dense(3, 2), Relu((2,), slope), dense(2, 1)
    return Graph(nodes)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["plain", "leaky", "pool", "residual"])
def test_equals_the_enumeration_of_all_pieces(kind, seed):
    graph = tiny(kind, seed)
    lower, upper = random_box(graph, seed, radius=1.0)
    found = exact_bound(*single(graph, lower, upper))
    best = enumerated(graph, lower, upper)
    np.testing.assert_allclose([found.value, found.bound], best, rtol=0, atol=1e-5)
    assert found.optimal


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_brackets_the_maximum(kind, seed):
    graph, lower, upper, *_ = arguments = problem(kind, seed)
    found = exact_bound(*arguments)
    assert found.optimal
    assert found.value <= found.bound <= found.value + 1e-5
    assert np.all((found.point >= lower) & (found.point <= upper))
    assert found.value == (graph(found.point[None]) @ WEIGHTS + OFFSET)[0]
    samples = graph(sample(lower, upper, 10_000)) @ WEIGHTS + OFFSET
    assert samples.max() <= found.bound


def test_two_neurons_by_hand():
    """`relu(x) - 2 relu(x)` on [-1, 1] is at most 0."""
    last = Dense(np.array([[1.0], [-2.0]]), np.zeros(1))
    graph = Graph((Dense(np.ones((1, 2)), np.zeros(2)), Relu((2,)), last))
    assert exact_bound(*single(graph, -np.ones(1), np.ones(1))).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["conv", "padded_pool", "residual"])
def test_any_multipliers_bound(kind):
    graph, lower, upper, weights, offset, boxes = problem(kind)
    program = Program(graph, lower, upper, boxes)
    form = program.form(weights[None], np.array([offset]))
    cost, rows = -form.matrix.toarray()[0], program.rows()[0].shape[0]
    least = form.constant[0] - exact_bound(graph, lower, upper, weights, offset, boxes).value
    for seed in range(5):
        multipliers = np.random.default_rng(seed).normal(size=rows) * 10.0**-seed
        # Columns are known up to the slack of the boxes; the minimum over them is no higher.
        assert lagrangian_bound(program, cost, multipliers) <= least


@pytest.mark.parametrize("groups", [1, 2])
def test_sparse_rows_of_a_convolution(groups):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2, 4 // groups, 6))
    node = Conv(kernel, rng.normal(size=6), (7, 6, 4), (2, 1), ((1, 2), (0, 1)), (1, 2), groups)
    x = rng.normal(size=(1, 7, 6, 4))
    rows = sparse_rows(node)
    np.testing.assert_allclose(rows @ x.ravel(), node.apply(x).ravel(), atol=1e-12)
    assert np.diff(rows.indptr).max() <= kernel[..., 0].size


def test_points_fill_the_columns():
    """What `assign` gives solves every row, so that HiGHS can start from it."""
    for kind in KINDS:
        graph, lower, upper, _, _, boxes = problem(kind)
        program = Program(graph, lower, upper, boxes)
        matrix, low, high = program.rows()
        for point in sample(lower, upper, 20):
            values = program.assign(point)
            assert np.all(matrix @ values >= low - 1e-9)
            assert np.all(matrix @ values <= high + 1e-9)
            assert np.all((values >= program.lower) & (values <= program.upper))
            form = program.form(WEIGHTS[None], np.array([OFFSET]))
            found = form.matrix @ values + form.constant
            assert found == pytest.approx(graph(point[None])[0] @ WEIGHTS + OFFSET)


def test_start_is_taken():
    arguments = problem("residual")
    best = exact_bound(*arguments)
    again = exact_bound(*arguments, start=best.point, timeout=0)
    assert again.value == best.value
    assert np.array_equal(again.point, best.point)
    assert exact_bound(*arguments, start=best.point).value >= best.value
    with pytest.raises(ValueError, match="start"):
        exact_bound(*arguments, start=best.point[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_maximum_of_several_forms(kind):
    graph = random_graph(kind, 3)
    lower, upper = random_box(graph, 3)
    random = np.random.default_rng(3)
    weights, offset = random.normal(size=(4, graph.outputs)), random.normal(size=4)
    boxes = interval_boxes(graph, lower, upper)
    box = graph, lower, upper
    each = [exact_bound(*box, w, b, boxes) for w, b in zip(weights, offset, strict=True)]
    best = max(bracket.value for bracket in each)
    bounds = np.array([bracket.bound for bracket in each])
    for known in (None, bounds, bounds + 5, np.full(4, np.nan)):
        found = exact_maximum(*box, weights, offset, boxes, known)
        assert found.optimal
        assert found.value == pytest.approx(best, abs=1e-6)
        assert found.value <= found.bound <= max(bounds) + 1e-9
        scores = graph(found.point[None])[0] @ weights.T + offset
        assert max(scores) == pytest.approx(found.value)
    stopped = exact_maximum(*box, weights, offset, boxes, timeout=0)
    assert stopped.bound >= best
    with pytest.raises(ValueError, match="one number a form"):
        exact_maximum(*box, weights, offset, boxes, bounds[:2])


def test_threshold_stops_on_either_side():
    arguments = problem("residual")
    best = exact_bound(*arguments)
    below = exact_bound(*arguments, threshold=best.value + 5)
    assert best.value <= below.bound < best.value + 5
    above = exact_bound(*arguments, threshold=best.value - 5)
    assert best.value - 5 <= above.value <= best.value
    assert above.bound >= best.value
    assert below.nodes + above.nodes <= best.nodes


@pytest.mark.parametrize("timeout", [0, 1e-4, 0.05])
def test_a_timeout_leaves_a_bracket(timeout):
    arguments = problem("residual", 2)
    best = exact_bound(*arguments)
    found = exact_bound(*arguments, timeout=timeout)
    assert found.value <= best.value + 1e-6
    assert found.bound >= best.value
    assert not found.optimal


def test_gap_and_threads():
    arguments = problem("conv", 1)
    best = exact_bound(*arguments)
    for options in ({"gap": 0.5}, {"threads": 2}, {"threads": 1}):
        found = exact_bound(*arguments, **options)
        assert found.value <= best.value + 1e-6
        assert found.bound >= best.value


def test_rejects_what_is_not_finite():
    graph, lower, upper, weights, offset, boxes = problem("dense")
    nan = np.full_like(lower, np.nan)
    bad_boxes = [boxes[0], (boxes[1][0], np.full_like(boxes[1][1], np.inf))]
    first = graph.nodes[0]
    spoiled = Graph((Dense(first.kernel * np.nan, first.bias), *graph.nodes[1:]))
    for arguments in (
        (graph, nan, upper, weights, offset, boxes),
        (graph, lower, upper + np.inf, weights, offset, boxes),
        (graph, lower, upper, weights * np.nan, offset, boxes),
        (graph, lower, upper, weights, np.inf, boxes),
        (graph, lower, upper, weights, offset, bad_boxes),
        (spoiled, lower, upper, weights, offset, boxes),
    ):
        with pytest.raises(ValueError, match="finite"):
            exact_bound(*arguments)


def test_rejects_what_does_not_fit():
    graph, lower, upper, weights, offset, boxes = problem("dense")
    with pytest.raises(ValueError, match="one pair for each"):
        exact_bound(graph, lower, upper, weights, offset, boxes[:1])
    with pytest.raises(ValueError, match="shape"):
        exact_bound(graph, lower[:-1], upper, weights, offset, boxes)
    with pytest.raises(ValueError, match="weights"):
        exact_bound(graph, lower, upper, weights[:-1], offset, boxes)
    with pytest.raises(ValueError, match="empty"):
        exact_bound(graph, upper, lower, weights, offset, boxes)


def test_contradictions_raise():
    graph, lower, upper, weights, offset, boxes = problem("conv")
    moved = [(low + 100, high + 100) for low, high in boxes]
    sets = [Unsafe(lower, upper, weights[None], np.array([offset]))]
    with pytest.raises(RuntimeError, match="not bounds"):
        exact_bound(graph, lower, upper, weights, offset, moved)
    with pytest.raises(RuntimeError, match="not bounds"):
        exact_verdict(graph, sets, moved)
    program = Program(graph, lower, upper, boxes).extended()
    program.add_rows(np.eye(1, program.size), program.upper[:1] + 1, program.upper[:1] + 2)
    with pytest.raises(RuntimeError, match="contradict"):
        minimise(program, np.zeros(program.size), 10)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_solver_that_fails_is_asked_again_and_then_claims_nothing(monkeypatch, failures):
    ends, solve = [], milp_solver.solve

    def failing(job, *arguments):
        found = solve(job, *arguments)
        ends.append(job["options"]["presolve"])
        return {**found, "status": "kSolveError"} if len(ends) <= failures else found

    arguments = problem("dense")
    exact = exact_bound(*arguments)
    monkeypatch.setattr(milp_solver, "solve", failing)
    bracket = exact_bound(*arguments)
    assert ends == ["choose", "off"]
    assert bracket.value <= exact.bound
    assert bracket.bound >= exact.value
    assert bracket.optimal == (failures == 1)


@pytest.mark.parametrize(("coefficient", "span"), [(1e-11, 1e11), (1e-13, 1e13), (1e-13, 1.0)])
def test_tiny_coefficients_count(coefficient, span):
    """`relu(c x + z) - relu(z)` reaches `c span`, though c is too small for HiGHS."""
    first = Dense(np.array([[coefficient, 0.0], [1.0, 1.0]]), np.zeros(2))
    graph = Graph((first, Relu((2,)), Dense(np.array([[1.0], [-1.0]]), np.zeros(1))))
    arguments = single(graph, np.array([0.0, -1.0]), np.array([span, 1.0]))
    assert exact_bound(*arguments).bound >= coefficient * span


def test_verdicts():
    graph, lower, upper, weights, _, boxes = problem("conv", 1)
    best = exact_bound(graph, lower, upper, weights, 0.0, boxes).value
    low, high = (Unsafe(lower, upper, weights[None], np.array([-best + d])) for d in (-0.5, 0.5))
    verdict, point, bounds = exact_verdict(graph, [low], boxes)
    assert (verdict, point) == ("certified", None)
    assert -0.5 <= bounds[0] < 0
    verdict, point, bounds = exact_verdict(graph, [low, high], boxes)
    assert verdict == "falsified"
    assert high.contains(graph, point[None])[0]
    assert np.isfinite(bounds).all()
    # The set with the higher bound goes first, and nothing is known of the other.
    _, _, bounds = exact_verdict(graph, [low, high], boxes, bounds=[-1.0, 2.0])
    assert np.isinf(bounds[0])
    assert exact_verdict(graph, [low, high], boxes, timeout=0)[0] == "unknown"
    with pytest.raises(ValueError, match="bounds"):
        exact_verdict(graph, [low, high], boxes, bounds=[1.0])


def test_all_forms_of_a_set_at_once():
    """A form between -0.1 and 0.1 is attained; one at least 0.1 and at most -0.1 is not."""
    graph, lower, upper, weights, _, boxes = problem("conv", 2)
    centre = float(graph(((lower + upper) / 2)[None])[0] @ weights)
    both = np.stack([weights, -weights])
    offset = np.array([-centre, centre]) + 1
    near = Unsafe(lower, upper, both, offset + 0.1)
    verdict, point, _ = exact_verdict(graph, [near], boxes, start=lower)
    assert verdict == "falsified"
    assert near.contains(graph, point[None])[0]
    never = replace(near, offset=np.array([-centre, centre]) - 0.1)
    verdict, _, bounds = exact_verdict(graph, [never], boxes)
    assert verdict == "certified"
    assert -0.1 - 1e-6 <= bounds[0] < 0

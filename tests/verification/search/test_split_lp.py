"""Domains in which all signs are known: against other solvers, and multipliers re-evaluated."""

import numpy as np
import pytest
from scipy.optimize import linprog

from keras_taps.verification.exact.milp import exact_bound
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu, Sum
from keras_taps.verification.graph.traverse import nonlinear
from keras_taps.verification.graph.unpool import without_pooling
from keras_taps.verification.search import split_lp as module
from keras_taps.verification.search.split_lp import split_lp
from tests.verification.helpers import interval_boxes, random_box, random_graph, sample

pytestmark = pytest.mark.once

KINDS = ("dense", "leaky", "conv", "strided", "grouped", "scale", "residual", "pool")
FORMS = np.array([[1.0, -1.0, 0.5], [-0.5, 1.0, 1.0], [0.2, 0.1, -1.0]])
OFFSET = np.array([0.3, -0.2, 0.1])


def setting(kind, seed):
    """Graph, box, and the pattern of a random input, with half the neurons constrained."""
    graph = without_pooling(random_graph(kind, seed))
    lower, upper = random_box(graph, seed + 100, 0.5)
    rng = np.random.default_rng(seed)
    x = rng.uniform(lower, upper)
    z = entering(graph, x[None])[0]
    return graph, lower, upper, np.where(z > 0, 1, -1).astype("int8"), rng.random(len(z)) < 0.5, x


def entering(graph, x, gates=None):
    """Array `(batch, neurons)` of what enters the ReLUs, and with gates of outputs behind it."""
    found = []

    def follow(nodes, y):
        for node in nodes:
            if isinstance(node, Sum):
                y = sum(follow(branch, y) for branch in node.branches)
            elif isinstance(node, Relu):
                first = sum(part.shape[1] for part in found)
                found.append(y.reshape(len(y), -1))
                if gates is None:
                    y = node(y)
                else:
                    own = gates[first : first + found[-1].shape[1]].reshape(y.shape[1:])
                    y = np.where(own > 0, y, node.slope * y)
            else:
                y = node(y)
        return y

    outputs = follow(graph.nodes, np.asarray(x, "float64"))
    z = np.concatenate(found, 1)
    return z if gates is None else np.concatenate([z, outputs], 1)


def affine(graph, pattern):
    """Rows and constants of `(z, outputs)` on the domain, by unit vectors pushed forward."""
    size = int(np.prod(graph.in_shape))
    points = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(-1, *graph.in_shape)
    values = entering(graph, points, pattern)
    return (values[1:] - values[0]).T, values[0]


def functions(graph, pattern, constrained, forms, offset):
    """Rows and constants of the forms, and those of the signed constraints."""
    rows, constants = affine(graph, pattern)
    count, sign = len(pattern), pattern.astype("float64")
    return (
        (forms @ rows[count:], forms @ constants[count:] + offset),
        ((sign[:, None] * rows[:count])[constrained], (sign * constants[:count])[constrained]),
    )


def reference(graph, lower, upper, forms, offset, pattern, constrained):
    """The maximum by another solver, or `None` if the domain is empty."""
    (a, b), (c, d) = functions(graph, pattern, constrained, forms, offset)
    size = a.shape[1]
    matrix = np.block([[-a, np.ones((len(a), 1))], [-c, np.zeros((len(c), 1))]])
    bounds = [*zip(lower.ravel(), upper.ravel(), strict=True), (None, None)]
    cost = -np.eye(size + 1)[-1]
    found = linprog(cost, matrix, np.concatenate([b, d]), bounds=bounds, method="highs-ipm")
    assert found.status in (0, 2)
    return -found.fun if found.status == 0 else None


def lagrangian(found, graph, lower, upper, forms, offset, pattern, constrained):
    """The bound of the multipliers, derived with none of the code under test."""
    (a, b), (c, d) = functions(graph, pattern, constrained, forms, offset)
    betas = found.betas[constrained]
    row, constant = found.mix @ a + betas @ c, found.mix @ b + betas @ d
    return constant + np.maximum(row * lower.ravel(), row * upper.ravel()).sum()


def solve(*problem):
    """The answer, with what holds of every answer."""
    graph, lower, upper, _, _, pattern, constrained = problem
    found = split_lp(*problem)
    assert found.mix.min() >= 0
    assert found.mix.sum() == pytest.approx(1, abs=1e-12)
    assert found.betas.shape == pattern.shape
    assert np.all(found.betas >= 0)
    assert not np.any(found.betas[~constrained])
    again = lagrangian(found, *problem)
    rounding = 1e-9 + 1e-15 * found.betas.sum()
    assert found.bound == pytest.approx(again, rel=1e-9, abs=rounding)
    if found.point is not None:
        assert found.point.shape == graph.in_shape
        assert np.all((found.point >= lower) & (found.point <= upper))
    return found


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_reachable_patterns(kind, m):
    """Against another solver; above all samples of the domain; and the point is as good."""
    for seed in range(4):
        graph, lower, upper, pattern, constrained, x = setting(kind, seed)
        problem = (graph, lower, upper, FORMS[:m], OFFSET[:m], pattern, constrained)
        found = solve(*problem)
        assert found.status == "optimal"
        assert found.bound == pytest.approx(reference(*problem), abs=1e-6)
        points = np.concatenate([sample(lower, upper, 200, seed), x[None], found.point[None]])
        values = entering(graph, points, pattern)
        z, outputs = values[:, : len(pattern)], values[:, len(pattern) :]
        inside = np.all((z * pattern >= -1e-7)[:, constrained], axis=1)
        assert inside[-2:].all()
        reached = (outputs @ FORMS[:m].T + OFFSET[:m]).min(1)
        assert np.all(reached[inside] <= found.bound + 1e-6)
        assert reached[-1] == pytest.approx(found.bound, abs=1e-6)


@pytest.mark.parametrize("kind", ["dense", "leaky", "residual"])
def test_agrees_with_mixed_integer_programming(kind):
    """Which meets the signs as boxes of the neurons of the original graph."""
    graph, lower, upper, pattern, _, x = setting(kind, 5)
    boxes, first = [], 0
    for low, high in interval_boxes(graph, lower, upper):
        on = pattern[first : first + low.size].reshape(low.shape) > 0
        first += low.size
        # Of a neuron that is never above 0 the program keeps no row, so it gets a little room.
        low, high = np.where(on, np.fmax(low, 0), low), np.where(on, high, np.fmin(high, 1e-9))
        boxes.append((low, high))
    bracket = exact_bound(graph, lower, upper, FORMS[0], OFFSET[0], boxes, x, slack=0.0)
    everywhere = np.ones(len(pattern), bool)
    found = solve(graph, lower, upper, FORMS[:1], OFFSET[:1], pattern, everywhere)
    assert found.bound == pytest.approx(bracket.value, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_random_patterns(kind):
    """Mostly empty: the multipliers prove it, whatever the forms."""
    empty = 0
    for seed in range(6):
        graph, lower, upper, pattern, _, _ = setting(kind, seed)
        rng = np.random.default_rng(seed + 50)
        pattern = np.where(rng.random(len(pattern)) < 0.2, -pattern, pattern)
        constrained = rng.random(len(pattern)) < 0.8
        problem = (graph, lower, upper, FORMS, OFFSET + 100.0, pattern, constrained)
        found, expected = solve(*problem), reference(*problem)
        if expected is None:
            empty += 1
            assert found.status == "infeasible"
            assert found.bound < -1
            assert found.point is None
        else:
            assert found.status == "optimal"
            assert found.bound == pytest.approx(expected, abs=1e-6)
    assert empty


def line(weights, biases, out, slope=0.0):
    """One input, one hidden layer, one output; box [-1, 1] and the form of the output."""
    count = len(weights)
    first = Dense(np.array([weights], "float64"), np.array(biases, "float64"))
    last = Dense(np.reshape(np.array(out, "float64"), (count, 1)), np.zeros(1))
    return Graph((first, Relu((count,), slope), last)), -np.ones(1), np.ones(1), *ONE


ONE = (np.ones((1, 1)), np.zeros(1))


def test_a_neuron_by_hand():
    """x >= 0.5 behind a leaky ReLU and another one: 2 x - 0.1 x is most at 1."""
    problem = line([1, -1], [-0.5, 0], [2, 1], 0.1)
    found = solve(*problem, np.array([1, -1]), np.array([True, True]))
    assert found.bound == pytest.approx(2 * 0.5 - 0.1)
    found = solve(*problem, np.array([-1, -1]), np.array([True, True]))  # 0 <= x <= 0.5
    assert found.bound == pytest.approx(-0.05)
    np.testing.assert_allclose(found.point, 0.5)


def test_ties_and_contradictions():
    """Twins of one sign, of two, and opposites that leave a point."""
    both = np.array([True, True])
    twins = line([1, 1], [0, 0], [1, 1])
    assert solve(*twins, np.array([1, 1]), both).bound == pytest.approx(2)
    assert solve(*twins, np.array([1, -1]), both).bound == pytest.approx(0, abs=1e-8)
    apart = line([1, 1], [-0.5, 0.5], [1, 1])
    assert solve(*apart, np.array([1, -1]), both).status == "infeasible"


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15])
def test_slivers(gap):
    """Domains that are empty by ever less; a bound holds in each, and a wide gap is refuted."""
    problem = line([1, 1], [-gap, gap], [1, 1])
    found = solve(*problem, np.array([1, -1]), np.array([True, True]))  # x >= gap, x <= -gap
    assert found.status in ("optimal", "infeasible")
    assert found.bound < 1e-6
    assert found.status == "infeasible" or gap < 1e-8


def test_dead_neurons():
    """Without any weight a neuron has the sign of its bias, or the domain is empty."""
    problem = line([0, 1, 0], [2, 0, 0], [1, 1, 1])
    all_three = np.ones(3, bool)
    assert solve(*problem, np.array([1, 1, -1]), all_three).bound == pytest.approx(3)
    found = solve(*problem, np.array([-1, 1, 1]), all_three)
    assert found.status == "infeasible"
    assert found.bound < 0


def test_zero_width():
    """A single input, and one where only some pixels move."""
    graph, lower, upper, pattern, constrained, x = setting("conv", 3)
    expected = (graph(x[None])[0] @ FORMS.T + OFFSET).min()
    rest = FORMS, OFFSET, pattern, constrained
    found = solve(graph, x, x, *rest)
    assert found.status == "optimal"
    assert found.bound == pytest.approx(np.min(expected), abs=1e-9)
    np.testing.assert_array_equal(found.point, x)
    solid = np.random.default_rng(0).random(x.shape) < 0.7
    lower, upper = np.where(solid, x, lower), np.where(solid, x, upper)
    problem = (graph, lower, upper, *rest)
    assert solve(*problem).bound == pytest.approx(reference(*problem), abs=1e-6)
    wrong = np.where(constrained, -pattern, pattern)
    assert solve(graph, x, x, FORMS, OFFSET, wrong, constrained).status == "infeasible"


def test_no_constraints():
    """Then it is the affine map on the whole box."""
    graph, lower, upper, pattern, constrained, _ = setting("dense", 1)
    problem = (graph, lower, upper, FORMS, OFFSET, pattern, np.zeros_like(constrained))
    assert solve(*problem).bound == pytest.approx(reference(*problem), abs=1e-6)


def test_scales():
    """Weights of very different sizes from layer to layer change nothing but the scale."""
    graph, lower, upper, pattern, constrained, _ = setting("dense", 2)
    one = solve(graph, lower, upper, FORMS, OFFSET, pattern, constrained)
    first, relu, second, again, last = graph.nodes
    factor = 2.0**40
    first = Dense(first.kernel / factor, first.bias / factor)
    last = Dense(last.kernel * factor, last.bias)
    second = Dense(second.kernel, second.bias / factor)
    other = Graph((first, relu, second, again, last))
    found = solve(other, lower, upper, FORMS, OFFSET, pattern, constrained)
    assert found.status == one.status
    assert found.bound == pytest.approx(one.bound, abs=1e-6)


def test_chunks(monkeypatch):
    """Rows that go back few at a time are the same rows."""
    graph, lower, upper, pattern, constrained, _ = setting("residual", 2)
    problem = (graph, lower, upper, FORMS, OFFSET, pattern, constrained)
    whole = solve(*problem)
    monkeypatch.setattr(module, "_BYTES", 1)
    assert solve(*problem).bound == pytest.approx(whole.bound, abs=1e-9)


def test_out_of_time():
    graph, lower, upper, pattern, constrained, _ = setting("dense", 1)
    problem = (graph, lower, upper, FORMS, OFFSET, pattern, constrained)
    found = split_lp(*problem, timeout=0.0)
    assert found.status == "failed"
    assert found.point is None
    assert found.bound == pytest.approx(lagrangian(found, *problem))
    assert found.bound >= reference(*problem) - 1e-9


def test_what_is_not_finite_fails():
    graph, *box = line([1e300], [0.0], [1e300])
    found = split_lp(graph, *box, np.array([1]), np.array([True]))
    assert (found.status, found.bound) == ("failed", np.inf)


def test_refusals():
    graph, lower, upper, pattern, constrained, _ = setting("dense", 0)
    rest = FORMS, OFFSET
    for wrong, match in (
        ((lower[1:], upper, *rest, pattern, constrained), "shape"),
        ((upper, lower, *rest, pattern, constrained), "lower <= upper"),
        ((lower, upper, *rest, pattern[1:], constrained), "pattern"),
        ((lower, upper, *rest, 0 * pattern, constrained), "1 and -1"),
        ((lower, upper, *rest, pattern, constrained.astype(int)), "boolean"),
        ((lower, upper, FORMS[:, :2], OFFSET, pattern, constrained), "weights"),
    ):
        with pytest.raises(ValueError, match=match):
            split_lp(graph, *wrong)
    graph = random_graph("pool", 0)
    neurons = sum(int(np.prod(node.in_shape)) for node in nonlinear(graph.nodes))
    signs = np.ones(neurons, "int8"), np.zeros(neurons, bool)
    with pytest.raises(ValueError, match="nonlinear node 0"):
        split_lp(graph, *random_box(graph, 0), *rest, *signs)

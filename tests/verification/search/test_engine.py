"""The fast bounds: in order, above every sampled value and above the exact maximum."""

import highspy
import numpy as np
import pytest

from keras_taps.attacks.falsifier import Falsifier
from keras_taps.interval import Interval
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.exact.milp import exact_bound
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, MaxPool, Relu, Reshape
from keras_taps.verification.search.engine import BoundEngine
from tests.helpers import numpy
from tests.verification.engines import (
    BOXES,
    FORMS,
    KINDS,
    OFFSET,
    all_bounds,
    asked,
    engine_of,
    loaded,
)
from tests.verification.helpers import inputs_of_sites, sample

SEEDS = range(4)
CASES = [(kind, seed) for kind in KINDS for seed in ((0, 1) if kind == "every" else (0,))]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request):
    graph, engine, lower, upper = loaded(*request.param)
    return graph, engine, lower, upper, *all_bounds(engine, lower, upper), request.param[0]


def test_bounds_are_in_order(case):
    """CROWN may lie above CROWN-IBP now and then: other boxes choose other lower lines."""
    bounds = case[5]
    for looser, tighter in (("ibp", "crown-ibp"), ("ibp", "crown"), ("crown", "alpha-crown")):
        slack = 1e-4 * (1 + np.abs(bounds[looser]))
        assert np.all(bounds[tighter] <= bounds[looser] + slack), (looser, tighter)


def test_above_every_sampled_value(case):
    graph, _, lower, upper, boxes, bounds, *_ = case
    for i in range(BOXES):
        points = sample(lower[i], upper[i], 10_000)
        reached, inputs = (graph(points) @ FORMS.T + OFFSET).max(0), []
        for name, bound in bounds.items():
            assert np.all(reached <= bound[i] + 1e-4 * (1 + np.abs(reached))), name
        inputs_of_sites(graph.nodes, points, inputs)
        assert len(inputs) == len(boxes)
        for x, (low, high) in zip(inputs, boxes, strict=True):
            slack = 1e-4 * (1 + np.abs(x))
            assert np.all((x >= low[i] - slack) & (x <= high[i] + slack))


def test_above_the_exact_maximum(case):
    graph, _, lower, upper, boxes, bounds, *_ = case
    for i in range(BOXES):
        mine = [(low[i], high[i]) for low, high in boxes]
        form = FORMS[0], OFFSET[0]
        exact = exact_bound(graph, lower[i], upper[i], *form, mine, slack=1e-4, timeout=5)
        for name, bound in bounds.items():
            assert exact.value <= bound[i, 0] + 1e-4 * (1 + abs(exact.value)), name


def test_tighter_stages_are_tighter():
    """In the mean, and by far: or the slopes and boxes would not be worth their time."""
    gaps = dict.fromkeys(("ibp", "crown-ibp", "crown", "alpha-crown"), 0.0)
    for seed in SEEDS:
        graph, engine, lower, upper = loaded("leaky", seed)
        _, bounds, _ = all_bounds(engine, lower, upper)
        reached = [
            (graph(sample(lower[i], upper[i], 2000)) @ FORMS.T + OFFSET).max(0)
            for i in range(BOXES)
        ]
        for name in gaps:
            gaps[name] += np.mean(bounds[name] - reached)
    assert gaps["ibp"] > 1.5 * gaps["crown-ibp"] > 1.5 * gaps["crown"]
    assert gaps["crown"] > 1.1 * gaps["alpha-crown"]


def test_above_what_attacks_find():
    graph, engine, lower, upper = loaded("leaky", 1)
    _, bounds, _ = all_bounds(engine, lower, upper)
    network, _ = engine_of("leaky")
    box = Interval(lower.astype("float32"), upper.astype("float32"))
    forms, offset = (a.astype("float32") for a in asked())
    points, values = Falsifier(network, [0, 1], steps=20)(box, forms, offset)
    points = numpy(points).astype("float64")
    for i in range(BOXES):
        exact = np.diag(graph(points[i]) @ FORMS.T + OFFSET)
        np.testing.assert_allclose(numpy(values)[i], exact, rtol=1e-3, atol=1e-3)
        for bound in bounds.values():
            assert np.all(exact <= bound[i] + 1e-4 * (1 + np.abs(exact)))


def triangle_maximum(graph, lower, upper, weights, offset, boxes):
    """Maximum of a form over the triangles of ReLUs in their boxes, the best that CROWN can do."""
    program, boxes = highspy.Highs(), iter(boxes)
    program.silent()
    values = [program.addVariable(*ends) for ends in zip(lower.flat, upper.flat, strict=True)]
    for node in graph.nodes:
        if isinstance(node, Dense):
            columns = zip(node.kernel.T, node.bias, strict=True)
            values = [program.qsum(values * column) + bias for column, bias in columns]
            continue
        box = map(np.ravel, next(boxes))
        values = [relu_of(program, node.slope, *each) for each in zip(values, *box, strict=True)]
    program.maximize(program.qsum(values * weights) + offset)
    return program.getObjectiveValue()


def relu_of(program, slope, value, low, high):
    """What stands for a ReLU of a value between two ends."""
    if low >= 0 or high <= 0:
        return value * (1 if low >= 0 else slope)
    new = program.addVariable(-highspy.kHighsInf, highspy.kHighsInf)
    program.addConstrs(new >= value, new >= value * slope)
    steep = (high - slope * low) / (high - low)
    program.addConstr(new <= value * steep + (1 - steep) * high)
    return new


def test_triangle_by_hand():
    """`relu(x) - 2 relu(x)` is at most 1/2 on [-1, 1] if the two may differ, and exact above 0."""
    last = Dense(np.array([[1.0], [-2.0]]), np.zeros(1))
    graph = Graph((Dense(np.ones((1, 2)), np.zeros(2)), Relu((2,)), last))
    for low, best in ((-1.0, 0.5), (0.25, -0.25)):
        lower, upper = np.array([low]), np.ones(1)
        boxes = [(np.full(2, low), np.ones(2))]
        found = triangle_maximum(graph, lower, upper, np.ones(1), 0.0, boxes)
        assert found == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_alpha_crown_converges_to_the_triangle(seed):
    """With the same boxes no lower lines do better than the linear program (Salman et al.)."""
    graph, engine, lower, upper = loaded("leaky", seed)
    boxes, bounds, _ = all_bounds(engine, lower, upper, iterations=300)
    for i in range(BOXES):
        mine = [(low[i].astype("float64"), high[i].astype("float64")) for low, high in boxes]
        for j in range(2):
            best = triangle_maximum(graph, lower[i], upper[i], FORMS[j], OFFSET[j], mine)
            found = bounds["alpha-crown"][i, j]
            assert found == pytest.approx(best, rel=2e-3, abs=2e-3)


def test_slopes_repeat_the_bound(case):
    """The checker reaches the bounds of each method, alpha-CROWN's from its slopes."""
    graph, _, lower, upper, _, bounds, slopes, kind = case
    checker = Checker(graph)
    for i in range(BOXES):
        for method, bound in bounds.items():
            own = slopes[i] if method == "alpha-crown" else None
            found = checker.upper_bounds(lower[i], upper[i], FORMS, OFFSET, method, own)
            slack = 3e-4 * (1 + np.abs(found))
            assert np.all(found <= bound[i] + slack), (method, found, bound[i])
            if kind in ("dense", "leaky"):  # elsewhere it decides windows that overlap
                assert np.all(found >= bound[i] - slack), (method, found, bound[i])


def test_small_batches_and_little_memory():
    """Neither padding nor chunks change a bound."""
    graph, engine, lower, upper = loaded("leaky", 2)
    boxes = engine.neuron_boxes(lower, upper)
    one = engine.neuron_boxes(lower[1:2], upper[1:2])
    for whole, single in zip(boxes, one, strict=True):
        np.testing.assert_allclose([w[1:2] for w in whole], single, rtol=1e-5, atol=1e-5)
    frugal = BoundEngine(build_network(graph), BOXES, memory=1)
    for whole, chunked in zip(boxes, frugal.neuron_boxes(lower, upper), strict=True):
        np.testing.assert_allclose(whole, chunked, rtol=1e-4, atol=1e-4)


def test_boxes_without_width():
    graph, engine, lower, _ = loaded("every", 3)
    boxes, bounds, _ = all_bounds(engine, lower, lower)
    exact = graph(lower) @ FORMS.T + OFFSET
    for bound in bounds.values():
        np.testing.assert_allclose(bound, exact, rtol=1e-3, atol=1e-3)
    assert all(np.all(np.isfinite(side)) for box in boxes for side in box)


@pytest.mark.parametrize("pool", [False, True])
def test_networks_without_activation(pool):
    """Affine ones, and those of max pooling alone: no slopes to optimise."""
    nodes = [Dense(np.eye(4), np.zeros(4))]
    if pool:
        largest = MaxPool((2, 2, 1), (2, 2), (2, 2))
        nodes += [Reshape((4,), (2, 2, 1)), largest, Reshape((1, 1, 1), (1,))]
    nodes += [Dense(np.ones((1 if pool else 4, 1)), np.zeros(1))]
    engine = BoundEngine(build_network(Graph(tuple(nodes))), 1)
    box = np.zeros((1, 4)), np.array([[1.0, 0.5, 0.25, 1.0]])
    forms = np.ones((1, 1, 1)), np.zeros((1, 1))
    bounds, slopes = engine.alpha_crown(*box, *forms, engine.neuron_boxes(*box))
    assert bounds == pytest.approx(1.0 if pool else 2.75)
    assert slopes.shape == (1, 1, 0)

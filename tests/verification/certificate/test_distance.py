"""The rule of distance nodes: exact arithmetic, rounding, what is deployed, and forged files."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification.certificate.checker import METHODS, Checker
from keras_taps.verification.certificate.deployed import DeployedNetwork
from keras_taps.verification.certificate.distance import distance_box
from keras_taps.verification.certificate.rounding import Form
from keras_taps.verification.certificate.tree_checker import check_trees
from keras_taps.verification.graph.distance import Distance
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu, Sum

pytestmark = pytest.mark.once
SEEDS = st.integers(0, 2**32 - 1)


def numbers(rng, *shape):
    """Numbers of many sizes and both signs, some of them equal."""
    return np.round(rng.normal(size=shape), 1) * 2.0 ** rng.integers(-3, 4, shape)


def node_of(rng, inputs=6, outputs=4):
    count = int(rng.integers(1, inputs + 1))
    weights = np.sort(rng.random(count))[::-1]
    weights = (weights / weights.sum()).astype("float32").astype("float64")
    kernel, bias = (numbers(rng, *shape).astype("float32") for shape in ((inputs, outputs), (4,)))
    return Distance(kernel.astype("float64"), bias.astype("float64"), weights)


def exact(node, x):
    """The outputs as fractions."""
    x, kernel = ([Fraction(float(v)) for v in a.ravel()] for a in (x, node.kernel))
    outputs = node.kernel.shape[1]
    found = []
    for j in range(outputs):
        away = sorted((abs(v - kernel[i * outputs + j]) for i, v in enumerate(x)), reverse=True)
        total = sum(Fraction(float(a)) * d for a, d in zip(node.coefficients, away, strict=False))
        found.append(total + Fraction(float(node.bias[j])))
    return found


@given(SEEDS, st.sampled_from([0.0, 1e-9, 0.5, 1e6]))
def test_boxes_hold_exact_values(seed, width):
    """At corners and inside; a box without width is wider than its point by rounding alone."""
    rng = np.random.default_rng(seed)
    node, lower = node_of(rng), numbers(rng, 6)
    box = lower, lower + width * rng.random(6)
    (low, high), _ = distance_box(node, box)
    for share in (0, 1, rng.integers(0, 2, 6), rng.random(6)):
        x = np.clip(box[0] + share * (box[1] - box[0]), *box)
        for value, a, b in zip(exact(node, x), low, high, strict=True):
            assert Fraction(float(a)) <= value <= Fraction(float(b))
    assert np.all(high - low <= node.coefficients.sum() * np.max(box[1] - box[0]) * 1.01 + 1e-9)
    if not width:
        assert np.allclose(low, node(lower[None])[0], rtol=1e-12, atol=1e-12)


def holds_the_value(node, x):
    """Whether the box of one point holds the exact outputs."""
    (low, high), _ = distance_box(node, (x, x))
    values = zip(exact(node, x), low, high, strict=True)
    return all(Fraction(float(a)) <= value <= Fraction(float(b)) for value, a, b in values)


@pytest.mark.parametrize("bias", ["none", "cancels", "large"])
@pytest.mark.parametrize("size", [1.0, 2.0**-26, 2.0**-530])
def test_every_rounding_is_paid_for(bias, size):
    """In the sum, where the bias is added, where products underflow."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        kernel, x = size * rng.normal(size=(5, 3)), size * rng.normal(size=5)
        node = Distance(kernel, np.zeros(3), size * np.sort(rng.random(5))[::-1])
        total = node(x[None])[0]
        shift = {"none": 0.0, "cancels": -total, "large": 3.0}[bias]
        assert holds_the_value(Distance(kernel, np.zeros(3) + shift, node.coefficients), x)


def test_long_sums_are_paid_for():
    """Equal terms round the same way each time."""
    for part in (1 / 3, 1 / 7, 0.1, 0.7):
        node = Distance(np.zeros((4096, 1)), np.zeros(1), np.full(4096, part))
        x = np.ones(4096)
        assert holds_the_value(Distance(node.kernel, -node(x[None])[0], node.coefficients), x)


def test_each_bound_is_reached_where_one_difference_counts():
    node = Distance(np.array([[0.0], [1.0]]), np.zeros(1), np.ones(1))
    (low, high), _ = distance_box(node, (np.array([-2.0, 1.5]), np.array([-1.0, 3.5])))
    assert (low[0], high[0]) == pytest.approx((1.0, 2.5))


@given(SEEDS)
def test_a_form_finds_the_box_whatever_is_asked(seed):
    """Every way back ends at the node; the network is bounded as by intervals, and soundly."""
    rng = np.random.default_rng(seed)
    middle = Dense(numbers(rng, 4, 3), numbers(rng, 3))
    nodes = (node_of(rng), middle, Relu((3,)), Dense(numbers(rng, 3, 2), numbers(rng, 2)))
    graph, lower = Graph(nodes), numbers(rng, 6)
    upper = lower + rng.random(6) * 0.3
    forms, offset = numbers(rng, 5, 2), numbers(rng, 5)
    points = lower + rng.random((50, 6)) * (upper - lower)
    reached = (graph(points) @ forms.T + offset).max(0)
    for method in METHODS:
        bounds = Checker(graph).upper_bounds(lower, upper, forms, offset, method)
        assert np.all(np.isfinite(bounds))
        assert np.all(bounds >= reached)


def test_the_way_back_stops_there():
    node = node_of(np.random.default_rng(0))
    out, record = distance_box(node, (np.zeros(6), np.ones(6)))
    form = Form(np.eye(4), np.zeros(4), np.zeros(4))
    back = record.back(form)
    assert not back.rows.any()
    assert np.all(back.constant >= out[1])


@given(SEEDS)
def test_deployed(seed):
    """float32 runs, in any order of sums, stay within the errors that are claimed."""
    rng = np.random.default_rng(seed)
    nodes = [node_of(rng), node_of(rng, 4), Dense(np.eye(4)[:, :3], np.zeros(3))]
    graph = Graph(tuple(nodes))
    lower = numbers(rng, 6).astype("float32").astype("float64")
    upper = lower + 0.25
    forms = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    error = DeployedNetwork(graph).margin_errors(lower, upper, [], forms)
    assert np.all(error < 1e-3)
    for _ in range(5):
        x = rng.uniform(lower, upper).clip(lower, upper).astype("float32")
        found, wanted = x, x.astype("float64")[None]
        for node in nodes[:2]:
            away = np.abs(found[:, None] - node.kernel.astype("float32"))
            away = np.sort(away, axis=0)[::-1][: len(node.coefficients)]
            terms = away * node.coefficients.astype("float32")[:, None]
            total = np.zeros(4, "float32")
            for row in rng.permutation(terms):
                total = total + row
            found, wanted = total + node.bias.astype("float32"), node(wanted)
        away = (found.astype("float64") - wanted[0])[:3] @ forms.T
        assert np.all(np.abs(away) <= error)


def test_what_there_is_not():
    """No branch and bound, whoever asks: a forged proof of that kind proves nothing."""
    rng = np.random.default_rng(0)
    graph = Graph((node_of(rng), Dense(np.ones((4, 2)), np.zeros(2))))
    with pytest.raises(ValueError, match="no branch and bound with distance nodes"):
        check_trees(Checker(graph).root(np.zeros(6), np.ones(6)), None, None, None, [])
    inside = Graph((Sum((6,), ((node_of(rng, 6, 4),), (Dense(np.ones((6, 4)), np.zeros(4)),))),))
    with pytest.raises(ValueError, match="no branch and bound"):
        Checker(inside).root(np.zeros(6), np.ones(6))


def test_numbers_that_overflow_prove_nothing():
    node = Distance(np.full((2, 1), 1e308), np.zeros(1), np.ones(1))
    graph = Graph((node, Dense(np.ones((1, 1)), np.zeros(1))))
    box = np.full(2, -1e308), np.full(2, -1e307)
    assert Checker(graph).upper_bounds(*box, np.ones((1, 1)), np.zeros(1), "ibp")[0] == np.inf
    assert DeployedNetwork(graph).margin_errors(*box, [], np.ones((1, 1)))[0] == np.inf

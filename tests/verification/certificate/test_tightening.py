"""Boxes with given slopes: sound whatever they are, and never looser than CROWN's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.tightening import Cases, Tightening
from keras_taps.verification.exact.milp import exact_bound
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Relu
from keras_taps.verification.graph.traverse import nonlinear
from tests.verification.helpers import (
    KINDS,
    inputs_of_sites,
    interval_boxes,
    random_box,
    random_graph,
    sample,
)
from tests.verification.problems import deep

pytestmark = pytest.mark.once


def crown_boxes(graph, box):
    forms = np.eye(graph.outputs)
    return Checker(graph).bounds_and_boxes(*box, forms, np.zeros(len(forms)))[1]


def neurons_of(graph):
    sizes = [np.prod(n.in_shape) for n in nonlinear(graph.nodes) if isinstance(n, Relu)]
    return int(sum(sizes))


def drawn(rng, neurons):
    """Any neurons, any columns, any slopes, any cases."""
    asked, columns = (np.flatnonzero(rng.random(neurons) < rng.random()) for _ in range(2))
    slopes = rng.integers(0, 256, (len(asked), 2, len(columns))).astype("uint8")
    cases = drawn_cases(rng, neurons, len(columns))
    return Tightening(asked.astype("int32"), columns.astype("int32"), slopes, cases)


def drawn_cases(rng, neurons, columns, rows=20):
    """Splits may lie after a neuron, be itself, or be named twice: all that is sound."""
    splits = rng.integers(0, neurons, (rows, 3)).astype("int32")
    splits[np.arange(3) >= rng.integers(0, 4, (rows, 1))] = -1
    count = int((2 ** (splits >= 0).sum(1)).sum())
    betas = rng.choice([0.0, 1.0, np.inf, np.nan, -1.0], (count, 3)) * rng.random((count, 3))
    return Cases(
        np.sort(rng.integers(0, neurons, rows)).astype("int32"),
        rng.integers(0, 2, rows).astype("uint8"),
        splits,
        rng.integers(0, 256, (count, columns)).astype("uint8"),
        betas.astype("float32"),
    )


@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_any_slopes_are_sound(kind, seed):
    rng, graph = np.random.default_rng(seed), random_graph(kind, seed)
    box = random_box(graph, seed)
    before = crown_boxes(graph, box)
    after = Checker(graph).tightened(*box, drawn(rng, neurons_of(graph)))
    inputs = []
    inputs_of_sites(graph.nodes, sample(*box, 500), inputs)
    for (low, high), (old_low, old_high), x in zip(after, before, inputs, strict=True):
        assert np.all((low >= old_low) & (high <= old_high))
        slack = 1e-12 * (1 + np.abs(x))
        assert np.all((x >= low - slack) & (x <= high + slack))


def test_exact_bounds_lie_inside_and_usual_slopes_change_nothing():
    graph, x, _ = deep()
    box, rng = (x - 0.1, x + 0.1), np.random.default_rng(0)
    checker, before = Checker(graph), crown_boxes(graph, (x - 0.1, x + 0.1))
    neurons = neurons_of(graph)
    crossing = np.concatenate([(low < 0) & (high > 0) for low, high in before])
    asked = np.flatnonzero(crossing).astype("int32")  # which CROWN asks
    usual = Tightening(asked, asked[:0], np.zeros((len(asked), 2, 0), "uint8"))
    for old, new in zip(before, checker.tightened(*box, usual), strict=True):
        np.testing.assert_allclose(old, new, rtol=1e-12, atol=1e-12)
    best = before
    for _ in range(20):  # one after the other, each from the boxes of the last
        best = checker.tightened(*box, drawn(rng, neurons), boxes=best)
    widths = [sum(np.sum(high - low) for low, high in boxes) for boxes in (before, best)]
    assert widths[1] < widths[0]
    inner = Graph(graph.nodes[:5])  # to the inputs of the third ReLU
    boxes = interval_boxes(inner, *box)
    for neuron in range(4):
        form = np.eye(12)[neuron]
        low = -exact_bound(inner, *box, -form, 0.0, boxes).value
        high = exact_bound(inner, *box, form, 0.0, boxes).value
        assert best[2][0][neuron] <= low + 1e-6
        assert best[2][1][neuron] >= high - 1e-6


@pytest.mark.parametrize(
    ("asked", "columns", "shape"),
    [
        ([1, 0], [0], (2, 2, 1)),
        ([0, 0], [0], (2, 2, 1)),
        ([0], [48], (1, 2, 1)),
        ([-1], [0], (1, 2, 1)),
        ([0], [0, 1], (1, 2, 1)),
        ([0], [0], (2, 2, 1)),
    ],
)
def test_what_is_of_another_network_is_refused(asked, columns, shape):
    graph, x, _ = deep()
    given = Tightening(np.array(asked), np.array(columns), np.zeros(shape, "uint8"))
    with pytest.raises(ValueError, match="must"):
        Checker(graph).tightened(x, x, given)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("asked", lambda v: v[::-1]),
        ("asked", lambda v: v + 48),
        ("sides", lambda v: v + 2),
        ("splits", lambda v: v + 48),
        ("splits", lambda v: v[:, ::-1]),
        ("splits", lambda v: np.full((len(v), 40), 1)),
        ("slopes", lambda v: v[:-1]),
        ("betas", lambda v: v[:, :-1]),
    ],
)
def test_cases_that_are_none_are_refused(name, change):
    graph, x, _ = deep()
    cases = drawn_cases(np.random.default_rng(0), 48, 1)
    cases = cases._replace(**{name: change(getattr(cases, name))})
    given = Tightening(np.array([0]), np.array([0]), np.zeros((1, 2, 1), "uint8"), cases)
    with pytest.raises(ValueError, match="must"):
        Checker(graph).tightened(x, x, given)

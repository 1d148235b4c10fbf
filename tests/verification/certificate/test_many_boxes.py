"""Bounds over many boxes and nested ones: the checker's, above samples and exact values."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.clipping import clipped
from keras_taps.verification.certificate.many_boxes import ManyBoxes
from keras_taps.verification.certificate.nested_boxes import NestedBoxes
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, MaxPool, Relu
from tests.verification.certificate.test_checker import FORMS, OFFSET, SEEDS, exact, largest
from tests.verification.helpers import KINDS, random_graph, sample

pytestmark = pytest.mark.once

POOLLESS = [kind for kind in KINDS if "pool" not in kind]
BOTH = pytest.mark.parametrize("bounder", [ManyBoxes, NestedBoxes])
OVERFLOW = [1e300, 1e308, -1e300, np.nan, np.inf, -np.inf]


def boxes_of(graph, seed, count=4):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(count, *graph.in_shape))
    radius = rng.choice([0.0, 1e-6, 0.05, 0.5], size=(count, *(1,) * len(graph.in_shape)))
    return centre - radius, centre + radius


@given(
    case=st.sampled_from(
        [(ManyBoxes, kind) for kind in POOLLESS] + [(NestedBoxes, kind) for kind in KINDS]
    ),
    seed=SEEDS,
)
def test_above_every_sample(case, seed):
    bounder, graph = case[0], random_graph(case[1], seed)
    lower, upper = boxes_of(graph, seed)
    found = bounder(graph).bounds(lower, upper, FORMS, OFFSET)
    for box in range(len(lower)):
        points = sample(lower[box], upper[box], 50)
        values = graph(points) @ FORMS.T + OFFSET
        slack = 1e-12 * np.abs(values).max()
        linear = points.reshape(50, -1) @ found.rows[box].T + found.constant[box]
        assert np.all(values <= linear + slack)
        assert np.all(values <= found.values[box] + slack)
        if (
            bounder is ManyBoxes
        ):  # the other takes the bound of interval arithmetic where it is lower
            assert np.all(linear <= found.values[box] + slack)


@BOTH
@pytest.mark.parametrize("kind", POOLLESS)
def test_as_the_checker(kind, bounder):
    """The same relaxation by other code; only where the slopes tie may rounding tell them apart."""
    graph = random_graph(kind, 1)
    lower, upper = boxes_of(graph, 2)
    found = bounder(graph).bounds(lower, upper, FORMS, OFFSET).values
    checker = Checker(graph)
    wanted = [checker.upper_bounds(*box, FORMS, OFFSET) for box in zip(lower, upper, strict=True)]
    # The checker takes interval arithmetic's bound where it is lower.
    assert np.all(found >= np.array(wanted) - 1e-9)
    assert np.median(np.abs(found - wanted)) < 1e-9


@BOTH
@given(seed=SEEDS, slope=st.sampled_from([0.0, 0.25]), log_scale=st.integers(-12, 12))
def test_above_rational_arithmetic(bounder, seed, slope, log_scale):
    """Corners of the boxes in fractions: bounds and lines are above each, without tolerance."""
    rng = np.random.default_rng(seed)

    def dense(inputs, outputs):
        kernel = rng.normal(size=(inputs, outputs)) * 10.0 ** rng.integers(-3, 4, (inputs, outputs))
        return Dense(kernel, rng.normal(size=outputs) * 10.0**log_scale)

    nodes = dense(3, 3), Relu((3,), slope), dense(3, 2), Relu((2,), slope), dense(2, 1)
    graph = Graph(nodes)
    lower = rng.normal(size=(3, 3))
    upper = lower + rng.random((3, 3)) * rng.choice([0, 1e-15, 1e-6, 1.0], size=(3, 1))
    found = bounder(graph).bounds(lower, upper, np.ones((1, 1)), np.zeros(1))
    for box in range(3):
        truth = largest(graph, lower[box], upper[box], np.ones(1), 0.0)
        assert Fraction(found.values[box, 0]) >= truth
        for corner in (lower[box], upper[box]):
            rows = zip(found.rows[box, 0].tolist(), corner.tolist(), strict=True)
            line = sum(Fraction(a) * Fraction(x) for a, x in rows)
            assert line + Fraction(found.constant[box, 0]) >= exact(graph, corner)[0]


@BOTH
@pytest.mark.parametrize("place", ["inputs", "rows", "biases"])
def test_cancellation_is_not_taken_for_a_proof(place, bounder):
    """Numbers that sum up to 2^-57 in exact arithmetic, and to less than 0 in most orders."""
    least, naive = 2.0**-57, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        numbers = rng.normal(size=8)
        numbers = rng.permutation([*numbers, *-numbers, least])
        naive += numbers.sum() < 0
        sums = Dense(np.ones((17, 1)), np.zeros(1))
        nodes = {
            "inputs": (Dense(numbers[:, None], np.zeros(1)),),
            "rows": (Dense(numbers[None], np.zeros(17)), sums),
            "biases": (Dense(np.zeros((1, 17)), numbers, np.abs(numbers)), sums),
        }[place]
        graph = Graph(nodes)
        ones = np.ones((1, *graph.in_shape))
        found = bounder(graph).bounds(ones, ones, np.ones((1, 1)), np.zeros(1))
        assert found.values[0, 0] >= least
        low, high = clipped(ones, ones, found.rows, found.constant, np.array([0]))
        assert np.all((low <= ones) & (ones <= high))
    assert naive > 5


@BOTH
def test_underflow_is_not_taken_for_a_proof(bounder):
    """On the way back 1e-200 * 1e-200 is 0, and with it a factor of 1e300 would be lost."""
    weights = ((1e300, 0.0), (1e-200, 0.0), (1e-200, -1e-105))
    graph = Graph(tuple(Dense(np.full((1, 1), w), np.full(1, b)) for w, b in weights))
    one = np.ones((1, 1))
    assert bounder(graph).bounds(one, one, one, np.zeros(1)).values[0, 0] >= 1e-101


@BOTH
@pytest.mark.parametrize("value", OVERFLOW)
@pytest.mark.parametrize("place", ["first", "last", "bias", "last bias", "form", "offset"])
def test_overflow_and_nan_never_certify(value, place, bounder):
    first, last = np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[1.0], [-1.0]])
    bias, last_bias, form, offset = np.zeros(2), np.full(1, -3.0), np.ones((1, 1)), np.zeros(1)
    named = {"first": first, "last": last, "bias": bias, "last bias": last_bias}
    named |= {"form": form, "offset": offset}
    named[place].flat[0] = value
    graph = Graph((Dense(first, bias), Relu((2,)), Dense(last, last_bias)))
    box = np.full((1, 2), -1.0), np.ones((1, 2))
    found = bounder(graph).bounds(*box, form, offset)
    low, high = clipped(*box, found.rows, found.constant, np.array([0]))
    points = sample(box[0][0], box[1][0], 20)
    with np.errstate(all="ignore"):
        values = (graph(points) @ form.T + offset)[:, 0]
    reached = points[~(values < 0)]  # what is not a number is not safe
    assert found.values[0, 0] >= 0 or not len(reached)
    assert all(np.all((low[0] <= point) & (point <= high[0])) for point in reached)


@BOTH
def test_a_neuron_that_overflows_is_not_taken_for_idle(bounder):
    first, last = np.full((1, 1), 1e308), np.full((1, 1), 1e-308)
    graph = Graph((Dense(first, np.zeros(1)), Relu((1,)), Dense(last, np.full(1, -3.0))))
    box = np.full((1, 1), 10.0), np.full((1, 1), 20.0)  # outputs up to 17
    found = bounder(graph).bounds(*box, np.ones((1, 1)), np.zeros(1))
    assert found.values[0, 0] == found.constant[0, 0] == np.inf


@given(kind=st.sampled_from(KINDS), seed=SEEDS)
def test_parts_of_a_box_keep_what_is_known_of_it(kind, seed):
    """Neurons are never looser than in the whole, and other boxes get nothing from it."""
    rng, graph = np.random.default_rng(seed), random_graph(kind, seed)
    (low, _), (high, _) = boxes_of(graph, seed, 2)
    share = np.sort(rng.random((2, *low.shape)), axis=0)
    part, beside = (low + share * (high - low)), (low - 0.1, high)
    nested = NestedBoxes(graph)

    def bounds(boxes, lower, upper):
        return boxes.bounds(lower[None], upper[None], FORMS, OFFSET).values[0]

    bounds(nested, low, high)
    found = bounds(nested, *part)
    around, inside = nested._around
    for whole, own in zip(around.boxes, inside.boxes, strict=True):
        assert np.all((whole[0] <= own[0]) & (own[1] <= whole[1]))
    points = sample(*part, 50)
    assert np.all(graph(points) @ FORMS.T + OFFSET <= found + 1e-12 * (1 + np.abs(found)))
    for box in (beside, (low, high + 0.1)):
        np.testing.assert_array_equal(bounds(nested, *box), bounds(NestedBoxes(graph), *box))


def test_other_nodes_are_refused():
    pool = MaxPool((2, 2, 1), (2, 2), (2, 2))
    with pytest.raises(ValueError, match="MaxPool"):
        ManyBoxes(Graph((pool, Dense(np.ones((1, 1)), np.zeros(1)))))


@given(seed=SEEDS)
def test_clipping_loses_no_unsafe_point(seed):
    rng = np.random.default_rng(seed)
    rows, constant = rng.normal(size=(1, 4, 3)), rng.normal(size=(1, 4)) - 1
    rows[rng.random(rows.shape) < 0.2] = 0.0
    lower = rng.normal(size=(1, 3))
    upper = lower + rng.random((1, 3))
    groups = np.array([0, 0, 1, 2])
    low, high = clipped(lower, upper, rows, constant, groups)
    points = sample(lower[0], upper[0], 500, seed)
    values = points @ rows[0].T + constant[0]
    unsafe = (values[:, :2].min(1) >= 0) | (values[:, 2:].max(1) >= 0)
    assert np.all((points[unsafe] >= low) & (points[unsafe] <= high))
    empty = np.any(low > high)
    assert empty or np.all((low >= lower) & (high <= upper))

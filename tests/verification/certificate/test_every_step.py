"""Each step of the checker alone pays for its own rounding: exact arithmetic against float64.

Bounds of whole networks are wide enough to hide a step that forgot its share. Here nothing else
pays: forms come without an error, and boxes are points.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_taps.verification.certificate.backward import affine_back, pool, pool_back
from keras_taps.verification.certificate.lines import LeafLines, ReluLines
from keras_taps.verification.certificate.rounding import (
    Form,
    inner_interval,
    input_interval,
    largest,
)
from keras_taps.verification.certificate.walk import Walk
from keras_taps.verification.graph.exact_values import _node, _whole
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Scale, Sum

pytestmark = pytest.mark.once
USUAL = settings(max_examples=50, derandomize=False)
SEEDS = st.integers(0, 2**32 - 1)
ROWS = 20
rng = np.random.default_rng(0)
PIXELS = (3, 3, 2)
NODES = {
    "dense": Dense(rng.normal(size=(30, 4)), rng.normal(size=4)),
    "conv": Conv(rng.normal(size=(2, 2, 2, 3)), rng.normal(size=3), PIXELS),
    "padded conv": Conv(
        rng.normal(size=(3, 3, 2, 2)), rng.normal(size=2), PIXELS, (2, 1), ((1, 0), (1, 1))
    ),
    "scale": Scale(rng.normal(size=(30,)), rng.normal(size=30), (30,)),
}


def normal(seed, *shape):
    """Numbers of many sizes and both signs, whose sums and products are not exact."""
    own = np.random.default_rng(seed)
    return own.normal(size=shape) * 2.0 ** own.integers(-3, 4, shape)


def form_of(seed, *shape):
    return Form(normal(seed, ROWS, *shape), normal(seed + 1, ROWS), np.zeros(ROWS))


def outputs(node, x):
    """Exact outputs of a node at a point, an array of fractions."""
    values, shift = _node(node, _whole(x[None]))
    return np.array([Fraction(int(v)) / Fraction(2) ** shift for v in values.ravel()], object)


def values(form, z, error=True):
    """Exact values of a form at a point of fractions."""
    z = np.asarray([Fraction(v) for v in np.ravel(z).tolist()], object)
    found = []
    for row, constant, extra in zip(form.rows, form.constant, form.error, strict=True):
        terms = (Fraction(w) * v for w, v in zip(row.ravel().tolist(), z, strict=True))
        found.append(sum(terms, Fraction(constant) + (Fraction(extra) if error else 0)))
    return found


def holds(before, after):
    """Whether no value of the form became smaller on its way back."""
    assert all(a >= b for a, b in zip(after, before, strict=True))


@given(SEEDS)
@USUAL
def test_the_largest_value_of_a_form(seed):
    form, x = form_of(seed, 30), normal(seed + 2, 30)
    holds(values(form, x), [Fraction(b) for b in largest(form, (x, x))])


@given(SEEDS)
@USUAL
def test_adding_to_a_form(seed):
    form, more = form_of(seed, 2), normal(seed + 3, ROWS)
    total = form.plus(more, np.zeros(ROWS))
    for a, b, c, e in zip(form.constant, more, total.constant, total.error, strict=True):
        assert Fraction(c) + Fraction(e) >= Fraction(a) + Fraction(b)


@pytest.mark.parametrize("name", NODES)
@given(seed=SEEDS)
@USUAL
def test_forward_through_an_affine_node(name, seed):
    node = NODES[name]
    x = normal(seed, *node.in_shape)
    (lower, upper), _ = Walk({})._forward(node, (x, x), None)
    for low, value, high in zip(lower.flat, outputs(node, x), upper.flat, strict=True):
        assert Fraction(low) <= value <= Fraction(high)


@pytest.mark.parametrize("name", NODES)
@given(seed=SEEDS)
@USUAL
def test_back_through_an_affine_node(name, seed):
    node = NODES[name]
    x, form = normal(seed, *node.in_shape), form_of(seed + 1, *node.out_shape)
    _, record = Walk({})._forward(node, (x, x), None)
    holds(values(form, outputs(node, x)), values(affine_back(node, record, form), x))


THREE = Sum(
    (30,), ((NODES["scale"],), (), (NODES["scale"], Scale(-np.ones(1), rng.normal(size=30), (30,))))
)


@given(SEEDS)
@USUAL
def test_forward_through_a_sum(seed):
    same = Sum((30,), ((), (), ()))
    x = normal(seed, 30)
    for node in (same, THREE):
        (lower, upper), _ = Walk({})._forward(node, (x, x), None)
        for low, value, high in zip(lower.flat, outputs(node, x), upper.flat, strict=True):
            assert Fraction(low) <= value <= Fraction(high)


@given(SEEDS)
@USUAL
def test_back_through_a_sum(seed):
    for node in (Sum((30,), ((), (), ())), THREE):
        walk, x, form = Walk({}), normal(seed, 30), form_of(seed + 1, 30)
        _, record = walk._forward(node, (x, x), None)
        holds(values(form, outputs(node, x)), values(walk._backward(node, record, form), x))


def boxes_around(seed, count):
    """Boxes of many sizes, a point of each, and of some both ends are the point."""
    own = np.random.default_rng(seed)
    lower, upper = np.sort(normal(seed, 2, count), 0)
    part = own.choice([0.0, 1.0, 0.5, 0.1], count)
    x = np.clip(lower + part * (upper - lower), lower, upper)
    x = np.where((lower < 0) & (upper > 0) & (own.random(count) < 0.3), 0.0, x)
    return lower, upper, x


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("given_slopes", [False, True])
@given(seed=SEEDS)
@USUAL
def test_back_through_a_relu(slope, given_slopes, seed):
    lower, upper, x = boxes_around(seed, 30)
    lines, form = ReluLines.of((lower, upper), slope), form_of(seed + 1, 30)
    if given_slopes:  # from anywhere: they are moved to where they are sound
        slopes = np.random.default_rng(seed).choice([-1.0, 0.05, 0.7, 2.0, np.nan], (ROWS, 30))
        lines = lines.with_slopes(slopes)
    exact = outputs(Relu((30,), slope), x)
    holds(values(form, exact), values(lines.back(form), x))


@given(SEEDS)
@USUAL
def test_forward_through_a_relu(seed):
    lower, upper, x = boxes_around(seed, 30)
    for slope in (0.0, 0.1):
        node = Relu((30,), slope)
        (low, high), _ = Walk({}, refine=False)._forward(node, (lower, upper), None)
        for a, value, b in zip(low, outputs(node, x), high, strict=True):
            assert Fraction(a) <= value <= Fraction(b)


@given(SEEDS)
@USUAL
def test_there_and_back_through_max_pooling(seed):
    node = MaxPool((4, 4, 2), (2, 2), (1, 2), ((0, 0), (0, 0)))
    lower, upper, x = (v.reshape(4, 4, 2) for v in boxes_around(seed, 32))
    (low, high), record = pool(node, (lower, upper))
    form, exact = form_of(seed + 1, *node.out_shape), outputs(node, x)
    for a, value, b in zip(low.flat, exact, high.flat, strict=True):
        assert Fraction(a) <= value <= Fraction(b)
    holds(values(form, exact), values(pool_back(node, record, form), x))


def bare(seed, *shape):
    """A form without a constant, whose rounding would cover that of other steps."""
    return Form(normal(seed, ROWS, *shape), np.zeros(ROWS), np.zeros(ROWS))


@given(SEEDS)
@USUAL
def test_products_with_slopes(seed):
    """Settled neurons of a leaky ReLU: no line lifts the form, each product is rounded."""
    x, form = -np.abs(normal(seed, 2)), bare(seed + 1, 2)
    lines = ReluLines.of((x, x), 0.1)
    holds(values(form, outputs(Relu((2,), 0.1), x)), values(lines.back(form), x))


@given(SEEDS)
@USUAL
def test_sums_of_overlapping_windows(seed):
    """One entry wins several windows, whose rows are added up."""
    node = MaxPool((3, 3, 1), (2, 2), (1, 1), ((0, 0), (0, 0)))
    x = np.abs(normal(seed, 3, 3, 1))
    x[1, 1] = 100.1
    (_, record), form = pool(node, (x, x)), bare(seed + 1, *node.out_shape)
    holds(values(form, outputs(node, x)), values(pool_back(node, record, form), x))


@given(SEEDS)
@USUAL
def test_splits_of_a_leaf(seed):
    """At a point that meets the splits."""
    own = np.random.default_rng(seed)
    lower, upper, x = boxes_around(seed, 12)
    signs = np.where(own.random(12) < 0.5, np.where(x >= 0, 1, -1), 0).astype("int8")
    signs = np.tile(signs, (ROWS, 1))
    act = outputs(Relu((12,)), x)
    lines = ReluLines.of((lower, upper), 0.0)
    pushes = signs * np.abs(normal(seed + 1, ROWS, 12))
    leaf, form = LeafLines(**vars(lines), signs=signs, pushes=pushes), form_of(seed + 2, 12)
    holds(values(form, act), values(leaf.back(form), x))


@given(SEEDS)
@USUAL
def test_mixtures_of_forms(seed):
    from keras_taps.verification.certificate.checker import Checker

    graph = Graph((Dense(np.eye(5), np.zeros(5)),))
    x = normal(seed, 5)
    root = Checker(graph).root(x, x)
    weights, forms = np.abs(normal(seed + 1, ROWS, 6)), normal(seed + 2, 6, 5)
    offset = normal(seed + 3, 6)
    mixed, shift, error = root.mixed(weights, forms, offset)
    own = values(Form(forms, offset, np.zeros(6)), x)
    for i in range(ROWS):
        exact = sum(Fraction(w) * v for w, v in zip(weights[i].tolist(), own, strict=True))
        (found,) = values(Form(mixed[i : i + 1], shift[i : i + 1], error[i : i + 1]), x)
        assert found >= exact


@given(SEEDS)
@USUAL
def test_the_box_of_an_image(seed):
    own = np.random.default_rng(seed)
    x, eps = own.random(20).astype("float32"), float(own.random())
    lower, upper = input_interval(x, eps)
    for low, value, high in zip(lower, x.astype("float64"), upper, strict=True):
        exact = Fraction(value) - Fraction(eps), Fraction(value) + Fraction(eps)
        assert Fraction(low) <= max(exact[0], 0)
        assert min(exact[1], 1) <= Fraction(high)


@given(SEEDS)
@USUAL
def test_where_a_counterexample_may_lie(seed):
    """Exactly within the ball, and the last number that is."""
    own = np.random.default_rng(seed)
    x = own.random(20) * 10.0 ** -own.integers(0, 20, 20)
    eps = float(own.random() * 10.0 ** -own.integers(0, 20))
    lower, upper = inner_interval(x, eps)
    for low, value, high in zip(lower, x, upper, strict=True):
        ends = Fraction(value) - Fraction(eps), Fraction(value) + Fraction(eps)
        assert max(ends[0], 0) <= Fraction(low)
        assert Fraction(high) <= min(ends[1], 1)
        assert low == 0 or Fraction(np.nextafter(low, -1)) < ends[0]
        assert high == 1 or Fraction(np.nextafter(high, 2)) > ends[1]

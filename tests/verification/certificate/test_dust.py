"""Sums that float64 gets wrong by all that it can: ones, and after them dust that each add loses.

In every lane of a vectorised sum a one comes first, and what is added to it is less than half a
unit of it. So thousands of terms are lost, while the few roundings of the sum itself, which other
steps pay for, stay as small as they are. At the end: products so small that float64 has 0 for them.
"""

from fractions import Fraction

import numpy as np
import pytest

from keras_taps.verification.certificate.backward import affine_back
from keras_taps.verification.certificate.clipping import clipped
from keras_taps.verification.certificate.deadline import NEVER
from keras_taps.verification.certificate.lines import LeafLines, ReluLines
from keras_taps.verification.certificate.many_boxes import ManyBoxes, _relu_back, _Walk
from keras_taps.verification.certificate.rounding import Form, largest, size_of
from keras_taps.verification.certificate.walk import Walk
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu, Scale, Sum
from tests.verification.certificate.test_every_step import holds, normal, outputs, values

pytestmark = pytest.mark.once
SPECK = 0.9 * 2.0**-53
DUST = np.concatenate([np.ones(64), np.full(8192, SPECK)])
ONES = np.ones(len(DUST))
POINT = ONES, ONES
ONE = np.zeros(1, int)  # the number of the only box
EXACT = sum(map(Fraction, DUST.tolist()))


def bare(rows):
    return Form(rows, np.zeros(len(rows)), np.zeros(len(rows)))


def many(x):
    """A walk over one box, which is a point."""
    return _Walk({}, (x[None], x[None]), NEVER)


def test_the_dust_is_lost():
    assert Fraction(float(DUST @ ONES)) < EXACT - 4000 * Fraction(SPECK)


@pytest.mark.parametrize("signs", [(1, 1), (-1, -1)])
def test_the_largest_value(signs):
    row, x = (sign * values for sign, values in zip(signs, (DUST, ONES), strict=True))
    assert Fraction(largest(bare(row[None]), (x, x))[0]) >= EXACT
    assert Fraction(many(x).largest(bare(row[None]), ONE)[0]) >= EXACT


def test_the_largest_value_keeps_the_error_of_a_form():
    form = Form(np.zeros((1, 1)), np.zeros(1), np.ones(1))
    assert largest(form, (np.zeros(1), np.zeros(1)))[0] >= 1
    assert many(np.zeros(1)).largest(form, ONE)[0] >= 1


def test_errors_that_are_added():
    form = Form(np.zeros((1, 1)), np.zeros(1), np.ones(1)).plus(np.zeros(1), np.full(1, SPECK))
    assert Fraction(form.error[0]) >= 1 + Fraction(SPECK)


def test_what_a_relu_lifts():
    lines = ReluLines.of((-ONES, ONES), 0.0)
    lines = ReluLines(**(vars(lines) | {"steep": 0 * ONES, "below": 0 * ONES[None], "over": ONES}))
    found = lines.back(bare(DUST[None]))
    assert Fraction(found.constant[0]) + Fraction(found.error[0]) >= EXACT
    arrays = {name: v[None] for name, v in vars(lines).items() if name not in ("slope", "size")}
    arrays["below"] = lines.below
    each = ReluLines(**arrays, slope=0.0, size=lines.size)
    found = _relu_back(each, bare(DUST[None]), ONE)
    assert Fraction(found.constant[0]) + Fraction(found.error[0]) >= EXACT


def leaf_of(box, signs, slope=0.0, pushes=None):
    return LeafLines(**vars(ReluLines.of(box, slope)), signs=signs, pushes=pushes)


def test_a_push_that_vanishes():
    """A multiplier of a split that only rounding takes away, at z = -1 of a leaf with z <= 0."""
    signs, x = np.array([[1]], "int8"), np.ones(1)
    leaf = leaf_of((x, x), signs, pushes=np.full((1, 1), SPECK))
    form = leaf.back(bare(np.ones((1, 1))))
    assert values(form, x)[0] >= 1 + Fraction(SPECK)


def test_products_of_a_leaf():
    """Split neurons of a leaky ReLU: one product each, and nothing else."""
    for seed in range(50):
        x, rows = -np.abs(normal(seed, 2)), normal(seed + 1, 20, 2)
        leaf = leaf_of((x - 1, -x), np.full((20, 2), -1, "int8"), 0.1)
        exact = outputs(Relu((2,), 0.1), x)
        holds(values(bare(rows), exact), values(leaf.back(bare(rows)), x))


def test_steps_of_many_boxes():
    """Sums, affine nodes and leaky ReLUs, each alone, with forms that come without an error."""
    own = np.random.default_rng(0)
    nodes = {
        "sum": Sum((2,), ((), (), ())),
        "dense": Dense(own.normal(size=(2, 2)), own.normal(size=2)),
        "scale": Scale(own.normal(size=2), np.zeros(2), (2,)),
        "relu": Relu((2,), 0.1),
    }
    for seed in range(50):
        x, rows = -np.abs(normal(seed, 2)), normal(seed + 1, 20, 2)
        for node in nodes.values():
            walk, at = many(x), np.zeros(20, int)
            box, record = walk._forward(node, walk.input, None)
            exact = outputs(node, x)
            for low, value, high in zip(box[0][0], exact, box[1][0], strict=True):
                assert Fraction(low) <= value <= Fraction(high)
            found = walk._backward(node, record, bare(rows), at)
            holds(values(bare(rows), exact), values(found, x))


def test_affine_nodes_of_many_boxes():
    node = Dense(DUST[:, None], np.zeros(1))
    walk = many(ONES)
    (lower, upper), record = walk._forward(node, walk.input, None)
    assert Fraction(lower[0, 0]) <= EXACT <= Fraction(upper[0, 0])
    back = Dense(DUST[None], np.zeros(len(DUST)))  # its rows are sums of as many products
    walk = many(np.ones(1))
    _, record = walk._forward(back, walk.input, None)
    form = walk._backward(back, record, bare(ONES[None]), ONE)
    assert values(form, np.ones(1))[0] >= EXACT
    biased = Dense(np.zeros((1, len(DUST))), DUST)
    _, record = walk._forward(biased, walk.input, None)
    form = walk._backward(biased, record, bare(ONES[None]), ONE)
    assert values(form, np.ones(1))[0] >= EXACT


def test_many_biases():
    """A scale has one product an output, its biases add up in a form."""
    node, x = Scale(np.zeros(1), DUST, DUST.shape), np.zeros(len(DUST))
    walk = many(x)
    _, record = walk._forward(node, walk.input, None)
    form = walk._backward(node, record, bare(ONES[None]), ONE)
    assert Fraction(form.constant[0]) + Fraction(form.error[0]) >= EXACT
    _, record = Walk({})._forward(node, (x, x), None)
    form = affine_back(node, record, bare(ONES[None]))
    assert Fraction(form.constant[0]) + Fraction(form.error[0]) >= EXACT


def test_boxes_in_which_a_number_is_not_finite():
    """Their bounds are infinite, though this one number would not be needed; others keep theirs."""
    graph = Graph((Dense(np.full((1, 1), 0.5), np.zeros(1)),))
    x = np.array([[1.5e308], [1.0]])
    found = ManyBoxes(graph).bounds(x, x, np.ones((1, 1)), np.zeros(1))
    assert found.values[:, 0].tolist() == [np.inf, found.values[1, 0]]
    assert found.constant[:, 0].tolist() == [np.inf, found.constant[1, 0]]
    assert 0.5 <= found.values[1, 0] < np.inf


def test_a_cut_of_a_box():
    """The half-space `x0 + 64 + dust >= 0`, whose constant float64 adds up too small."""
    lower, upper = np.concatenate([[-100.0], ONES]), np.concatenate([[0.0], ONES])
    rows = np.concatenate([[1.0], DUST])
    low, high = clipped(
        lower[None], upper[None], rows[None, None], np.zeros((1, 1)), np.zeros(1, int)
    )
    assert Fraction(low[0, 0]) <= -EXACT < Fraction(-64)
    low, high = clipped(
        -upper[None], -lower[None], -rows[None, None], np.zeros((1, 1)), np.zeros(1, int)
    )
    assert Fraction(high[0, 0]) >= EXACT > 64


def test_the_size_of_a_box():
    assert size_of((np.array([-3.0, 1.0]), np.array([2.0, 4.0]))).tolist() == [3.0, 4.0]


def test_lines_of_small_and_of_uneven_boxes():
    """Both lines at both ends, where products underflow or the chord is nearly an axis."""
    small = 5e-324 * np.arange(1.0, 9.0)
    lower, upper = (v.reshape(-1) for v in np.meshgrid(-small, small))
    uneven = 1.1 * 10.0 ** -np.arange(0, 15.0)
    lower, upper = (
        np.append(lower, [-uneven, 0 * uneven - 1.1]),
        np.append(upper, [1.3 + 0 * uneven, uneven]),
    )
    for slope in (0.0, 0.1):
        lines = ReluLines.of((lower, upper), slope)
        for x in (lower, upper):
            wanted = outputs(Relu(x.shape, slope), x)
            for i, value in enumerate(wanted):
                at = Fraction(x[i])
                assert Fraction(lines.steep[i]) * at + Fraction(lines.over[i]) >= value
                assert Fraction(lines.below[0, i]) * at <= value


def test_products_that_underflow():
    """Every step with rows and inputs whose products float64 takes for 0."""
    tiny = np.full(3, 1e-170)
    form, limit = bare(tiny[None]), Fraction(1e-170) ** 2
    assert Fraction(largest(form, (tiny, tiny))[0]) >= 3 * limit
    assert Fraction(many(tiny).largest(form, ONE)[0]) >= 3 * limit
    shrinking = Scale(tiny, np.zeros(3), (3,))
    (lower, upper), record = Walk({})._forward(shrinking, (-tiny, tiny), None)
    assert Fraction(upper[0]) >= limit
    assert Fraction(lower[0]) <= -limit
    form = affine_back(shrinking, record, bare(tiny[None]))
    assert values(form, np.ones(3))[0] >= 3 * limit
    walk = many(np.ones(3))
    _, record = walk._forward(shrinking, walk.input, None)
    form = walk._backward(shrinking, record, bare(tiny[None]), ONE)
    assert values(form, np.ones(3))[0] >= 3 * limit
    leaky = ReluLines.of((-np.ones(3), -np.ones(3)), 1e-170)
    assert values(leaky.back(bare(-tiny[None])), -np.ones(3))[0] >= 3 * limit
    walk = many(-np.ones(3))
    _, record = walk._forward(Relu((3,), 1e-170), walk.input, None)
    form = _relu_back(record, bare(-tiny[None]), ONE)
    assert values(form, -np.ones(3))[0] >= 3 * limit
    rows = np.array([[[-1e-170, 1e-170]]])  # `1e-340 - 1e-170 x0 >= 0` cuts x0 at 1e-170
    low, high = np.array([[0.0, 1e-170]]), np.array([[1.0, 1e-170]])
    _, high = clipped(low, high, rows, np.zeros((1, 1)), np.zeros(1, int))
    assert high[0, 0] >= 1e-170


def test_large_rows_of_tiny_outputs():
    """The sizes of the outputs underflow, and the rows make up for it."""
    node, x = Dense(normal(0, 2, 5) * 1e-200, np.zeros(5)), np.full(2, 1e-135)
    form, walk = bare(normal(1, 20, 5) * 1e300), many(x)
    exact = values(form, outputs(node, x))
    _, record = Walk({})._forward(node, (x, x), None)
    holds(exact, values(affine_back(node, record, form), x))
    _, record = walk._forward(node, walk.input, None)
    holds(exact, values(walk._backward(node, record, form, np.zeros(20, int)), x))


def test_cuts_among_the_smallest_numbers():
    wide = np.full((1, 1), 1e-318)
    for parts in range(1, 20):
        constant = -1e-20 * parts  # `1e300 x >= 1e-20 parts`
        found = [
            clipped(-wide, wide, rows, np.full((1, 1), c), np.zeros(1, int))
            for rows, c in (
                (np.full((1, 1, 1), 1e300), constant),
                (np.full((1, 1, 1), -1e300), -constant),
            )
        ]
        exact = Fraction(-constant) / Fraction(1e300)
        assert Fraction(found[0][0][0, 0]) <= exact <= Fraction(found[1][1][0, 0])


def test_boxes_after_leaky_relus():
    """Products with a slope, rounded outward however small they are."""
    for slope in (0.1, 1e-170):
        for x in (-1.1, -1e-150, -5e-324):
            x, node = np.array([x]), Relu((1,), slope)
            exact = outputs(node, x)[0]
            (low, high), _ = Walk({}, refine=False)._forward(node, (x, x), None)
            assert Fraction(low[0]) <= exact <= Fraction(high[0])
            walk = many(x)
            (low, high), _ = walk._forward(node, walk.input, None)
            assert Fraction(low[0, 0]) <= exact <= Fraction(high[0, 0])

"""Rows in crops of images: the same bounds as with whole rows, whatever they go back through."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.deadline import Deadline, OutOfTime
from keras_taps.verification.certificate.places import WHOLE, Crops
from keras_taps.verification.certificate.rounding import Form
from keras_taps.verification.certificate.walk import Walk
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum
from tests.verification.helpers import random_box, sample
from tests.verification.images import convolution, network, same

pytestmark = pytest.mark.once

SEEDS = st.integers(0, 10**6)
FORMS, OFFSET = np.array([[-1.0, 1.0], [1.0, -1.0]]), np.array([0.1, -0.2])


def without_crops(nodes):
    """The same chain with a reshape before each nonlinear node, which no crop goes through."""
    found = []
    for node in nodes:
        if isinstance(node, Sum):
            branches = tuple(without_crops(branch) for branch in node.branches)
            node = Sum(node.in_shape, branches)
        elif isinstance(node, (Relu, MaxPool)):
            found.append(Reshape(node.in_shape, node.in_shape))
        found.append(node)
    return tuple(found)


@settings(max_examples=40)
@given(seed=SEEDS, radius=st.sampled_from([0.01, 0.1, 1.0]))
def test_as_whole_rows(seed, radius):
    compare(network(seed), seed, radius)


def test_branches_that_reach_differently_far():
    rng, shape = np.random.default_rng(0), (9, 9, 1)
    kernels = rng.normal(size=(3, 3, 1, 1)), rng.normal(size=(1, 2, 1, 1))
    paddings = ((1, 1), (0, 2)), ((0, 0), (1, 0))
    branches = [
        (Conv(kernel, np.ones(1), shape, padding=padding),)
        for kernel, padding in zip(kernels, paddings, strict=True)
    ]
    first, behind = same(rng, shape), same(rng, shape)
    nodes = first, Relu(shape), Sum(shape, (*branches, ())), behind, Relu(shape)
    last = Reshape(shape, (81,)), Dense(rng.normal(size=(81, 2)), np.zeros(2))
    place = Crops(np.array([[2, 2], [3, 4]]), (1, 1), (9, 9)).before(nodes[2])
    np.testing.assert_array_equal(place.origins, [[1, 1], [2, 3]])
    assert place.size == (3, 4)
    compare(Graph((*nodes, *last)), 1, 0.3)


def compare(graph, seed, radius):
    """That bounds by crops are those by whole rows."""
    box = random_box(graph, seed, radius)
    bounds, boxes = Checker(graph).bounds_and_boxes(*box, FORMS, OFFSET)
    whole = Checker(Graph(without_crops(graph.nodes)))
    others, other_boxes = whole.bounds_and_boxes(*box, FORMS, OFFSET)
    np.testing.assert_allclose(bounds, others, rtol=1e-9, atol=1e-9)
    for mine, theirs in zip(boxes, other_boxes, strict=True):
        for side in (0, 1):
            scale = 1 + np.abs(theirs[side]).max()
            assert np.all(np.abs(mine[side] - theirs[side]) <= 1e-9 * scale)


@settings(max_examples=40)
@given(seed=SEEDS, radius=st.sampled_from([0.1, 1.0]))
def test_above_every_sampled_value(seed, radius):
    graph = network(seed)
    box = random_box(graph, seed, radius)
    reached = (graph(sample(*box, 1000)) @ FORMS.T + OFFSET).max(0)
    found = Checker(graph).upper_bounds(*box, FORMS, OFFSET)
    assert np.all(np.isfinite(found))
    assert np.all(reached <= found + 1e-12 * (1 + np.abs(reached)))


@given(seed=SEEDS)
def test_spread_is_the_transpose(seed):
    """On an image, and on a crop as on the image that is 0 elsewhere."""
    rng = np.random.default_rng(seed)
    node = convolution(rng, (7, 6, 2))
    x, rows = rng.normal(size=(1, *node.in_shape)), rng.normal(size=(1, *node.out_shape))
    left = np.sum(node.apply(x) * rows)
    np.testing.assert_allclose(left, np.sum(x * node.transpose(rows)), rtol=1e-9, atol=1e-9)
    place = Crops(rng.integers(-1, 3, (3, 2)), (2, 2), node.out_shape[:2])
    crops = place.cleared(rng.normal(size=(6, 2, 2, node.out_shape[-1])))
    found = place.reach(node).moved(
        place.reach(node).cleared(node.spread(crops)), WHOLE, node.in_shape
    )
    whole = node.transpose(place.moved(crops, WHOLE, node.out_shape))
    np.testing.assert_allclose(found, whole, rtol=1e-9, atol=1e-9)


def test_products_in_crops():
    """The second crop begins outside of the image."""
    image = np.arange(12.0).reshape(3, 4, 1)
    place = Crops(np.array([[1, 2], [-1, 3]]), (2, 2), (3, 4))
    np.testing.assert_array_equal(place.at(image)[0, ..., 0], [[6, 7], [10, 11]])
    np.testing.assert_array_equal(place.at(image)[1, ..., 0], [[0, 0], [3, 0]])
    rows = np.ones((4, 2, 2, 1))
    np.testing.assert_array_equal(place.dot(rows, image), [34, 34, 3, 3])
    np.testing.assert_array_equal(place.times(rows, image)[2, ..., 0], [[0, 0], [3, 0]])


def test_deadline_within_a_pass():
    """Every step of a pass looks at the clock; here the clock counts how often."""
    graph = network(3)
    box, ticks = random_box(graph, 0, 0.1), []

    def clock():
        ticks.append(len(ticks))
        return len(ticks)

    Checker(graph).upper_bounds(*box, FORMS, OFFSET, deadline=Deadline(1e9, clock))
    needed = len(ticks)
    assert needed > 3 * len(graph.nodes)
    for moment in (1, needed // 2, needed):
        ticks.clear()
        with pytest.raises(OutOfTime):
            Checker(graph).upper_bounds(*box, FORMS, OFFSET, deadline=Deadline(moment, clock))
        assert len(ticks) == moment  # nothing was done after it


@settings(max_examples=40)
@given(kind=st.sampled_from(["conv", "relu", "leaky", "max", "scale", "sum"]), seed=SEEDS)
def test_every_step_holds_at_points(kind, seed):
    """Where the box is wide, and where windows are surely won."""
    rng = np.random.default_rng(seed)
    shape = (7, 6, 2)
    node = {
        "conv": lambda: convolution(rng, shape),
        "relu": lambda: Relu(shape),
        "leaky": lambda: Relu(shape, 0.3),
        "max": lambda: MaxPool(shape, (3, 2), (2, 1), ((1, 0), (0, 1))),
        "scale": lambda: Scale(rng.normal(size=shape), rng.normal(size=2), shape),
        "sum": lambda: Sum(shape, ((same(rng, shape), Relu(shape), same(rng, shape)), ())),
    }[kind]()
    box = random_box(Graph((node,)), seed, 10.0 ** rng.integers(-3, 1))
    walk = Walk({}, refine=False)
    _, (record,) = walk.forward((node,), box, None)
    place = Crops(rng.integers(-1, 4, (3, 2)), (2, 2), node.out_shape[:2])
    rows = place.cleared(rng.normal(size=(6, 2, 2, node.out_shape[-1])))
    form = Form(rows, rng.normal(size=6), np.zeros(6), place)
    back = walk.backward((node,), (record,), form)
    assert back.place is not WHOLE or kind in ("conv", "sum")
    for x in sample(*box, 200):
        value = place.dot(rows, node(x[None])[0]) + form.constant
        bound = back.place.dot(back.rows, x) + back.constant + back.error
        assert np.all(value <= bound + 1e-12 * (1 + np.abs(bound)))

"""Max pooling written as ReLUs: the same function, in every form that reads a graph."""

import numpy as np
import pytest
from keras import ops

from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.exact.milp import exact_bound
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum
from keras_taps.verification.graph.traverse import nonlinear
from keras_taps.verification.graph.unpool import without_pooling
from keras_taps.verification.search.engine import BoundEngine
from tests.helpers import BACKEND, close
from tests.verification.helpers import interval_boxes, random_box, random_graph, sample

SHAPE = (7, 6, 3)
POOLS = {
    "2x2": ((2, 2), (2, 2)),
    "overlapping 3x3": ((3, 3), (2, 2)),
    "stride 1": ((3, 2), (1, 1)),
    "apart": ((2, 3), (3, 4)),
    "one row": ((1, 4), (1, 2)),
    "one column, other strides": ((5, 1), (1, 2)),
    "no window": ((1, 1), (2, 1)),
    "identity": ((1, 1), (1, 1)),
    "global": ((7, 6), (1, 1)),
}
BUILT = [(SHAPE, "2x2"), (SHAPE, "overlapping 3x3"), (SHAPE, "apart"), ((6, 7, 1), "single")]
if BACKEND == "jax":  # which compiles each of them
    BUILT = BUILT[:1]


def pooling(size, strides, padding=((0, 0), (0, 0)), before=(), shape=SHAPE, seed=0):
    """A graph with one max pooling and 2 outputs."""
    pool = MaxPool(shape, size, strides, padding)
    flat = int(np.prod(pool.out_shape))
    rng = np.random.default_rng(seed)
    last = Dense(rng.normal(size=(flat, 2)), rng.normal(size=2))
    return Graph((*before, pool, Reshape(pool.out_shape, (flat,)), last))


def assert_same(graph, again, seed=0):
    assert not any(isinstance(node, MaxPool) for node in nonlinear(again.nodes))
    assert again.in_shape == graph.in_shape
    x = np.random.default_rng(seed).normal(size=(20, *graph.in_shape))
    x[0] = 0  # ties everywhere
    np.testing.assert_allclose(again(x), graph(x), rtol=0, atol=1e-12)
    return x


@pytest.mark.parametrize("name", POOLS)
def test_is_the_same_function(name):
    graph = pooling(*POOLS[name])
    assert_same(graph, without_pooling(graph))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7])
def test_every_number_of_entries(size):
    """Odd rounds of the tournament let one entry through; size - 1 ReLUs an output."""
    graph = pooling((size, 1), (1, 1), shape=(8, 1, 2))
    again = without_pooling(graph)
    assert_same(graph, again)
    relus = sum(np.prod(node.in_shape) for node in nonlinear(again.nodes))
    assert relus == (size - 1) * 2 * (9 - size)


def test_usual_pooling_costs_three_relus_a_window():
    again = without_pooling(pooling((2, 2), (2, 2), shape=(6, 4, 5)))
    assert sum(np.prod(node.in_shape) for node in nonlinear(again.nodes)) == 3 * 6 * 5


@pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [((3, 3), (2, 2), ((1, 1), (1, 1))), ((2, 2), (2, 2), ((0, 1), (1, 1)))],
)
def test_padding_behind_a_relu(size, strides, padding):
    """Also with a reshape, another pooling or a sum of ReLUs between."""
    block = Sum(SHAPE, ((), (Relu(SHAPE),)))
    for before in ((Relu(SHAPE),), (Relu(SHAPE), MaxPool(SHAPE, (1, 1), (1, 1)), block)):
        graph = pooling(size, strides, padding, before)
        assert_same(graph, without_pooling(graph))
    flat = (126,)
    before = (Reshape(SHAPE, flat), Relu(flat), Reshape(flat, SHAPE))
    graph = pooling(size, strides, padding, before)
    assert_same(graph, without_pooling(graph))


@pytest.mark.parametrize(
    "before",
    [
        (),
        (Relu(SHAPE, 0.1),),
        (Relu(SHAPE), Scale(np.array(-1.0), np.zeros(1), SHAPE)),
        (Sum(SHAPE, ((), (Relu(SHAPE),))),),
    ],
)
def test_padding_that_could_win_is_refused(before):
    graph = pooling((2, 2), (2, 2), ((1, 0), (0, 0)), before)
    with pytest.raises(ValueError, match="only after a ReLU"):
        without_pooling(graph)


def test_without_pooling_it_is_the_same_object():
    graph = random_graph("residual", 0)
    assert without_pooling(graph) is graph


@pytest.mark.parametrize("kind", ["pool", "padded_pool"])
def test_random_graphs(kind):
    graph = random_graph(kind, 3)
    assert_same(graph, without_pooling(graph))


def test_pooling_inside_a_branch():
    """As in an inception block."""
    rng = np.random.default_rng(1)
    conv = Conv(rng.normal(size=(2, 2, 3, 3)), rng.normal(size=3), SHAPE)
    block = Sum(SHAPE, ((MaxPool(SHAPE, (2, 2), (1, 1)),), (conv,)))
    flat = Reshape(block.out_shape, (90,))
    graph = Graph((block, flat, Dense(rng.normal(size=(90, 2)), np.zeros(2))))
    assert_same(graph, without_pooling(graph))


@pytest.mark.parametrize(
    ("shape", "name"),
    BUILT,
)
def test_network_and_saved_graph(shape, name, tmp_path):
    """Also of one channel and one window a row, where PyTorch must not be given a stride."""
    graph = without_pooling(pooling(*{**POOLS, "single": ((2, 5), (1, 3))}[name], shape=shape))
    x = np.random.default_rng(2).normal(size=(3, *shape)).astype("float32")
    close(build_network(graph)(ops.convert_to_tensor(x)), graph(x), 1e-4)
    graph.save(tmp_path / "graph.npz")
    assert Graph.load(tmp_path / "graph.npz").hash == graph.hash


def test_bounds():
    """Of checker and engine: above every sample, and those of the engine not below the checker's
    by more than float32.
    """
    graph = without_pooling(random_graph("padded_pool", 1))
    lower, upper = random_box(graph, 2)
    forms, offset = np.eye(3), np.zeros(3)
    most = graph(sample(lower, upper, 200)).max(0)
    checked = Checker(graph).upper_bounds(lower, upper, forms, offset, "crown-ibp")
    engine = BoundEngine(build_network(graph), 1)
    fast = engine.crown(lower[None], upper[None], forms[None], offset[None])
    assert np.all(checked >= most)
    np.testing.assert_allclose(np.ravel(fast), checked, rtol=1e-4, atol=1e-3)


def test_exact_maximum_is_the_same():
    graph = random_graph("pool", 2)
    again = without_pooling(graph)
    box = random_box(graph, 3)
    found = [
        exact_bound(g, *box, np.array([1.0, -1.0, 0.5]), 0.3, interval_boxes(g, *box))
        for g in (graph, again)
    ]
    assert found[0].value == pytest.approx(found[1].value, abs=1e-6)

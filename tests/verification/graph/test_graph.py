"""Graphs as data: packed, stored, hashed, simplified."""

import json

import numpy as np
import pytest

from keras_taps.verification.graph.graph import Graph, simplify
from keras_taps.verification.graph.nodes import Conv, Dense, Relu, Reshape, Scale, Sum, walk
from tests.verification.helpers import KINDS, random_graph

RNG = np.random.default_rng(0)


def inputs(graph, count=5):
    return np.random.default_rng(1).normal(size=(count, *graph.in_shape))


@pytest.fixture(params=KINDS)
def graph(request):
    return random_graph(request.param, 0)


def test_pack_and_unpack(graph):
    structure, arrays = graph.pack()
    again = Graph.unpack(json.loads(json.dumps(structure)), arrays)
    np.testing.assert_array_equal(again(inputs(graph)), graph(inputs(graph)))
    assert again.hash == graph.hash


def test_save_and_load(graph, tmp_path):
    graph.save(tmp_path / "graph.npz")
    again = Graph.load(tmp_path / "graph.npz")
    np.testing.assert_array_equal(again(inputs(graph)), graph(inputs(graph)))
    assert again.hash == graph.hash
    assert (again.in_shape, again.outputs) == (graph.in_shape, graph.outputs)


def test_hash_changes_with_every_array(graph):
    structure, arrays = graph.pack()
    seen = {graph.hash}
    for index, array in enumerate(arrays):
        changed = array.copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.inf)  # the least that can change
        one = [changed if i == index else a for i, a in enumerate(arrays)]
        seen.add(Graph.unpack(structure, one).hash)
    assert len(seen) == len(arrays) + 1


def test_hash_changes_with_the_structure():
    conv = Conv(np.ones((2, 2, 1, 1)), np.zeros(1), (4, 4, 1))
    nodes = [
        conv,
        Conv(conv.kernel, conv.bias, (4, 4, 1), strides=(2, 2)),
        Conv(conv.kernel, conv.bias, (4, 4, 1), padding=((0, 1), (0, 0))),
        Conv(conv.kernel, conv.bias, (5, 4, 1)),
    ]
    assert len({Graph((node,)).hash for node in nodes}) == len(nodes)
    assert Graph((Relu((2,)),)).hash != Graph((Relu((2,), 0.1),)).hash


def test_hash_is_the_same_for_ever():
    """It stands in reports: the same on every machine and backend."""
    graph = Graph((Dense(np.array([[1.0], [-1.0]]), np.zeros(1)), Relu((1,), 0.5)))
    assert graph.hash == HASH
    assert Graph(graph.nodes).hash == HASH


HASH = "6a549af39d6017b288f1d3f90f04682442c70fb5383db9ef3dfbfd22342881fa"


def test_shapes_of_numpy_integers():
    """They come from files, and JSON knows none of them."""
    shape = tuple(np.array([2, 3, 1]))
    nodes = Relu(shape), Reshape(shape, (np.int64(6),)), Dense(np.ones((6, 2)), np.zeros(2))
    assert len(Graph(nodes).hash) == 64


def same(nodes, simpler):
    x = inputs(Graph(nodes))
    np.testing.assert_allclose(walk(simpler, x), walk(nodes, x), rtol=1e-12, atol=1e-12)


def test_simplify_keeps_the_outputs(graph):
    same(graph.nodes, simplify(graph.nodes))


SHAPE = (4, 3, 2)
CONV = Conv(RNG.normal(size=(2, 2, 2, 2)), RNG.normal(size=2), SHAPE, padding=((1, 0), (1, 0)))
PAD = Conv(np.ones((1, 1, 1, 2)), np.zeros(2), SHAPE, padding=((1, 2), (0, 1)), groups=2)
PADDED = Conv(CONV.kernel, CONV.bias, PAD.out_shape, padding=((0, 1), (1, 1)))


def scale(*shape, inside=SHAPE):
    return Scale(RNG.normal(size=shape), RNG.normal(size=shape), inside)


@pytest.mark.parametrize(
    ("nodes", "kinds"),
    [
        ((CONV, scale(2)), "Conv"),
        ((CONV, scale()), "Conv"),
        ((CONV, scale(1, 1, 2)), "Conv"),
        ((CONV, scale(1), scale(2)), "Conv"),
        ((CONV, scale(4, 1, 1)), "Conv Scale"),
        ((CONV, scale(*SHAPE)), "Conv Scale"),
        ((scale(2), CONV), "Scale Conv"),  # padding comes behind the scale
        ((Dense(np.ones((3, 4)), np.ones(4)), scale(4, inside=(4,))), "Dense"),
        ((PAD, PADDED), "Conv"),
        ((PAD, Relu(PAD.out_shape)), "Conv Relu"),
        ((Reshape(SHAPE, (24,)), Reshape((24,), (6, 4))), "Reshape"),
        ((Relu(SHAPE), Reshape(SHAPE, SHAPE)), "Relu"),
        ((Relu(SHAPE), scale(2), scale(2)), "Relu Scale Scale"),
        ((Sum(SHAPE, ((CONV, scale(2)), (scale(2),))),), "Sum"),
    ],
)
def test_simplify_folds(nodes, kinds):
    found = simplify(nodes)
    assert " ".join(type(node).__name__ for node in found) == kinds
    same(nodes, found)
    assert found[-1].out_shape == nodes[-1].out_shape


def test_folded_bias_keeps_its_magnitude():
    """Cancellation in a bias must not hide how large the rounding errors in it are."""
    node = Dense(np.ones((1, 1)), np.array([1e8]))
    (found,) = simplify((node, Scale(np.ones(1), np.array([-1e8]), (1,))))
    assert found.bias == [0.0]
    assert found.magnitude == [2e8]

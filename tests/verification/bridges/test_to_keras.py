"""Networks built from graphs compute what the graphs do, forward and transposed."""

import numpy as np
import pytest
from keras import ops

from keras_taps.bounds.nodes import propagate, substitute, unfold
from keras_taps.interval import Interval
from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, MaxPool, Relu, Reshape, same_padding
from tests.helpers import BACKEND, close, conv_network, numbers, numpy
from tests.verification.graph.test_nodes import LINEAR
from tests.verification.helpers import KINDS, random_graph

BUILDABLE = list(LINEAR)
BUILT = [kind for kind in KINDS if kind != "padded_pool"]
if BACKEND == "jax":  # which compiles each of them
    BUILT = ["grouped", "residual"]
    BUILDABLE = ["padding and strides", "groups, strides and dilation", "depthwise", "scale a row"]


@pytest.mark.parametrize("kind", BUILT)
def test_network_computes_the_graph(kind):
    """And the graph read from it is the one it was built from, but for float32."""
    graph = random_graph(kind, 1)
    network = build_network(graph)
    x = numbers(4, *graph.in_shape, low=-2, high=2)
    expected = graph(x)
    close(network(ops.convert_to_tensor(x)), expected, 1e-4)
    close(read_network(network)(x), expected, 1e-4)


def test_round_trip_of_a_keras_network():
    network = conv_network()
    again = build_network(read_network(network))
    x = ops.convert_to_tensor(numbers(4, 6, 6, 1))
    close(again(x), network(x), 1e-5)
    assert again.relus == network.relus
    assert not again.batch_norms


def test_read_again_is_the_same_graph():
    """Weights that float32 holds survive the round trip exactly."""
    graph = read_network(conv_network(batch_norm=False))
    assert Graph(read_network(build_network(graph)).nodes).hash == Graph(graph.nodes).hash


@pytest.mark.parametrize("name", BUILDABLE)
def test_transpose_on_the_backend(name):
    """The derivative that linear relaxation takes is the transpose of the float64 node."""
    node = LINEAR[name]
    flat = int(np.prod(node.out_shape))
    nodes = (node, Reshape(node.out_shape, (flat,)), Dense(np.ones((flat, 1)), np.zeros(1)))
    network = build_network(Graph(nodes))
    rows = numbers(1, 3, *node.out_shape, seed=1)
    tail = 1 if node.out_shape == (flat,) else 2  # there is no layer that keeps the shape
    body = unfold(network.layers[:-tail])
    box = Interval(*(ops.zeros((1, *node.in_shape)) for _ in range(2)))
    _, traces = propagate(body, box)
    found, constant = substitute(body, traces, ops.convert_to_tensor(rows), ops.zeros((1, 3)))
    close(found[0], node.transpose(rows[0].astype("float64")), 1e-5)
    bias = np.broadcast_to(node.bias, node.out_shape)
    close(constant[0], (rows[0] * bias).reshape(3, -1).sum(1), 1e-4)


def test_max_pooling_with_the_padding_of_keras():
    pool = MaxPool((5, 4, 2), (3, 2), (2, 2), same_padding((5, 4), (3, 2), (2, 2)))
    flat = int(np.prod(pool.out_shape))
    graph = Graph((pool, Reshape(pool.out_shape, (flat,)), Dense(np.eye(flat), np.zeros(flat))))
    x = numbers(4, 5, 4, 2, low=-2, high=-1)
    close(build_network(graph)(ops.convert_to_tensor(x)), graph(x), 1e-5)


def test_max_pooling_with_padding_of_its_own():
    pool = MaxPool((4, 4, 1), (2, 2), (2, 2), ((1, 1), (1, 1)))
    nodes = pool, Reshape(pool.out_shape, (9,)), Dense(np.ones((9, 1)), np.zeros(1))
    with pytest.raises(ValueError, match="padding"):
        build_network(Graph(nodes))


def test_nonlinear_layers_keep_their_order():
    nodes = [Relu((3,)), Relu((3,), 0.25), Dense(np.eye(3), np.zeros(3))]
    network = build_network(Graph(tuple(nodes)))
    assert [layer.__class__.__name__ for layer in network.layers] == [
        "IntervalReLU",
        "IntervalLeakyReLU",
        "IntervalDense",
    ]
    assert network.layers[1].negative_slope == 0.25
    assert np.allclose(numpy(network(ops.convert_to_tensor([[-1.0, 0.0, 2.0]]))), [[0, 0, 2]])

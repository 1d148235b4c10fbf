"""A graph that was written reads back as the same function."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.formats.onnx_writer import write_onnx
from keras_taps.verification.graph.graph import Graph, simplify
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum


def single(rng, *shape):
    """Random numbers that float32 holds."""
    return rng.normal(size=shape).astype("float32").astype("float64")


def random_graph(seed, strides=(2, 1), groups=2, slope=0.25, padding=((1, 0), (2, 1))):
    """Every kind of node, on images of 7 x 6 with 2 channels."""
    rng = np.random.default_rng(seed)
    first = Conv(single(rng, 3, 2, 1, 4), single(rng, 4), (7, 6, 2), strides, padding, (1, 2), 2)
    shape = first.out_shape
    same = ((1, 1), (1, 1))
    inner = Conv(
        single(rng, 3, 3, 4 // groups, 4), single(rng, 4), shape, (1, 1), same, (1, 1), groups
    )
    branches = (
        (inner, Relu(shape, slope), Scale(single(rng, 4), single(rng, 4), shape)),
        (Scale(single(rng, *shape), single(rng, *shape[:2], 1), shape),),
        (),
    )
    pool = MaxPool(shape, (2, 3), (2, 1), ((1, 0), (1, 1)))
    size = int(np.prod(pool.out_shape))
    return Graph(
        (
            Scale(single(rng, 2), single(rng, 1), (7, 6, 2)),
            first,
            Relu(shape),
            Sum(shape, branches),
            Relu(shape, slope),
            pool,
            Reshape(pool.out_shape, (size,)),
            Scale(single(rng, size), single(rng, size), (size,)),
            Relu((size,)),
            Dense(single(rng, size, 5), single(rng, 5)),
            Sum((5,), ((Dense(single(rng, 5, 5), single(rng, 5)), Relu((5,))), ())),
            Dense(single(rng, 5, 3), single(rng, 3)),
        )
    )


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    slope=st.sampled_from([0.0, 0.25, 1.0]),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(1, 2))] * 2),
)
def test_round_trip(tmp_path_factory, seed, strides, groups, slope, padding):
    graph = random_graph(seed, strides, groups, slope, padding)
    path = tmp_path_factory.mktemp("round") / "network.onnx"
    write_onnx(graph, path)
    network = read_onnx(path)
    assert network.onnx_shape == (2, 7, 6)
    assert network.graph.in_shape == graph.in_shape
    x = np.random.default_rng(seed).normal(size=(4, *graph.in_shape))
    np.testing.assert_allclose(network.graph(x), graph(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(network.to_graph(network.to_onnx(x)), x)


def test_weights_are_the_same(tmp_path):
    """A chain that needs no rewriting has the same fingerprint, also after a second time."""
    rng = np.random.default_rng(0)
    conv = Conv(single(rng, 3, 3, 2, 4), single(rng, 4), (5, 5, 2))
    nodes = (conv, Relu((3, 3, 4), 0.25), Reshape((3, 3, 4), (36,)))
    graph = Graph(simplify((*nodes, Dense(single(rng, 36, 3), single(rng, 3)))))
    write_onnx(graph, tmp_path / "network.onnx")
    assert read_onnx(tmp_path / "network.onnx").graph.hash == graph.hash


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (3, 3), (None, 2)])
def test_batch(tmp_path, batch, size):
    graph = random_graph(0)
    write_onnx(graph, tmp_path / "network.onnx", name="mine", batch=batch)
    model = onnx.load(tmp_path / "network.onnx")
    x = np.random.default_rng(0).normal(size=(size, 7, 6, 2)).astype("float32")
    (got,) = ReferenceEvaluator(model).run(None, {"input": x.transpose(0, 3, 1, 2)})
    wanted = graph(x)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert model.graph.name == "mine"
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert (sides[0].dim_param if batch is None else sides[0].dim_value) == (batch or "N")
    assert "Transpose" not in {node.op_type for node in model.graph.node}


def test_other_shapes(tmp_path):
    """Also of what was flattened, which stands in ONNX' order."""
    rng, path = np.random.default_rng(0), tmp_path / "network.onnx"
    flat, image = Reshape((2, 3, 2), (12,)), Reshape((12,), (3, 2, 2))
    conv = Conv(single(rng, 2, 1, 2, 3), single(rng, 3), (3, 2, 2))
    rows = Reshape((2, 2, 3), (4, 3)), Relu((4, 3)), Reshape((4, 3), (12,))
    last = Dense(single(rng, 12, 3), single(rng, 3))
    graph = Graph((flat, Relu((12,)), image, conv, *rows, last))
    write_onnx(graph, path)
    x = rng.normal(size=(2, 2, 3, 2)).astype("float32")
    (got,) = ReferenceEvaluator(onnx.load(path)).run(None, {"input": x.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(got, graph(x), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_written(tmp_path):
    path = tmp_path / "network.onnx"
    dense = Dense(np.ones((4, 2)), np.zeros(2))

    def refuses(nodes, message, **arguments):
        with pytest.raises(ValueError, match=message):
            write_onnx(Graph(nodes), path, **arguments)
        assert not list(tmp_path.iterdir())

    with pytest.raises(ValueError, match=r"`graph` must be a Graph.*Received: str"):
        write_onnx("model.keras", path)
    refuses((dense, Relu((2,))), "must end in a Dense node")
    refuses((Dense(np.full((4, 2), 1e60), np.zeros(2)),), "not finite in float32")
    refuses((dense,), "`batch` must be a whole number >= 1", batch=0)
    square = (Reshape((2, 1, 2), (4,)), Sum((4,), ((Dense(np.eye(4), np.zeros(4)),), ())), dense)
    refuses(square, "different orders")
    refuses((object(), dense), "cannot write a node of type object")

"""Activations go out to ONNX files and come back; the reference implementation agrees."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.formats.onnx_writer import write_onnx
from keras_taps.verification.graph.activations import _OTHERS, activation
from keras_taps.verification.graph.curves import FUNCTIONS
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
FIRST, LAST = (RNG.normal(0, 2, shape).astype("float32") for shape in ((3, 6), (6, 2)))
X = RNG.normal(0, 2, (50, 3)).astype("float32")


@pytest.mark.parametrize("name", [*FUNCTIONS, *_OTHERS])
def test_written_and_read_again(name, tmp_path):
    ends = Dense(FIRST.astype("float64"), np.zeros(6)), Dense(LAST.astype("float64"), np.ones(2))
    graph = Graph((ends[0], *activation(name, (6,)), ends[1]))
    path = tmp_path / "network.onnx"
    write_onnx(graph, path, batch=None)
    wanted = ReferenceEvaluator(str(path)).run(None, {"input": X})[0]
    room = 1e-5 * (1 + np.abs(wanted).max())
    assert np.allclose(graph(X), wanted, atol=room)
    network = read_onnx(path)
    assert np.allclose(network.graph(X), graph(X), atol=room)


def file_with(op, path, constants=(), opset=13, **attributes):
    """A network with one node of this kind between two products."""
    weights = {"first": FIRST, "last": LAST, **{f"c{i}": c for i, c in enumerate(constants)}}
    weights = {name: np.asarray(array, "float32") for name, array in weights.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["y"]),
        helper.make_node(op, ["y", *(f"c{i}" for i in range(len(constants)))], ["z"], **attributes),
        helper.make_node("MatMul", ["z", "last"], ["out"]),
    ]
    info = helper.make_tensor_value_info
    content = helper.make_graph(
        nodes,
        "network",
        [info("x", TensorProto.FLOAT, (1, 3))],
        [info("out", TensorProto.FLOAT, (1, 2))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(content, opset_imports=imports, ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("op", "constants", "attributes"),
    [
        ("Clip", (0.0, 6.0), {}),
        ("Clip", (-1.0, 1.0), {}),
        ("Clip", (0.25,), {}),
        ("Clip", (-3.4028234663852886e38, 0.5), {}),
        ("PRelu", ([0.1, 0.5, 1.5, 0.0, 0.2, 3.0],), {}),
        ("PRelu", ([-0.5],), {}),
        ("HardSigmoid", (), {}),
        ("HardSigmoid", (), {"alpha": 0.5, "beta": 0.25}),
        ("Elu", (), {"alpha": 1.5}),
        ("Selu", (), {}),
        ("Selu", (), {"alpha": 1.2, "gamma": 2.0}),
        ("Celu", (), {}),
        ("Celu", (), {"alpha": 1.5}),
        ("Gelu", (), {"opset": 20}),
    ],
)
def test_operators_of_other_exporters(op, constants, attributes, tmp_path):
    path = file_with(op, tmp_path / "network.onnx", constants, **attributes)
    run = ReferenceEvaluator(str(path)).run
    wanted = np.concatenate([run(None, {"x": x[None]})[0] for x in X])
    assert np.allclose(read_onnx(path).graph(X), wanted, atol=1e-5 * (1 + np.abs(wanted).max()))


@pytest.mark.parametrize(
    ("op", "constants", "attributes", "message"),
    [
        ("Clip", (1.0, -1.0), {}, "min must be below max"),
        ("Elu", (), {"alpha": -1.0}, "alpha must be >= 0"),
        ("Celu", (), {"alpha": -2.0}, "alpha must be > 0"),
        ("Gelu", (), {"opset": 20, "approximate": "tanh"}, "only the exact gelu"),
        ("Mish", (), {"opset": 18}, "Mish"),
        ("Erf", (), {}, r"only in x \(1 \+ erf"),
        ("Erf", (), {"factor": "1/2"}, "Unrecognized attribute: factor"),
    ],
)
def test_what_is_refused(op, constants, attributes, message, tmp_path):
    path = file_with(op, tmp_path / "network.onnx", constants, **attributes)
    with pytest.raises(ValueError, match=message):
        read_onnx(path)

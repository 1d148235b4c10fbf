"""ONNX networks are read as graphs that compute the same, or refused by name."""

import csv
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.graph.nodes import Conv, Dense, Relu

FILES = Path(os.environ.get("VNNLIB_DIR", "not set"))
ROWS = list(csv.DictReader((FILES / "verdicts.csv").open())) if FILES.is_dir() else []
needs_files = pytest.mark.skipif(not ROWS, reason="no competition files; set VNNLIB_DIR")

IMAGE = (1, 2, 6, 5)
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype("float32")


def model_of(nodes, weights, in_shape, opset=15, listed=False, kind=TensorProto.FLOAT):
    """A model from `(op, inputs, attributes)`; each reads "h" and writes the next one's "h"."""
    protos, last = [], "x"
    for i, (op, inputs, attributes) in enumerate(nodes):
        names = [last if name == "h" else name for name in inputs]
        last = f"h{i}"
        attributes = dict(attributes)
        output = attributes.pop("output", last)
        protos.append(helper.make_node(op, names, [output], name=f"{op}_{i}", **attributes))
        last = output
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items()]
    inputs = [helper.make_tensor_value_info("x", kind, in_shape)]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    outputs = [helper.make_tensor_value_info(last, kind, (None, None))]  # nobody reads the shape
    graph = helper.make_graph(protos, "made", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def read_model(model, folder):
    onnx.save(model, folder / "made.onnx")
    return read_onnx(folder / "made.onnx")


def assert_same(model, folder, shape):
    """The graph agrees with the reference, closer than the reader itself demands."""
    network = read_model(model, folder)
    name = model.graph.input[0].name
    x = rng.uniform(-1, 1, size=shape).astype("float32")
    wanted = ReferenceEvaluator(model).run(None, {name: x})[0].ravel()
    got = network.graph(network.to_graph(x.ravel())[None])[0]
    np.testing.assert_allclose(got, wanted, atol=2e-6 * max(1, np.abs(wanted).max()))
    assert isinstance(network.graph.nodes[-1], Dense)
    np.testing.assert_array_equal(network.to_onnx(network.to_graph(x.ravel())), x.ravel())
    return network


def flat(size):
    return [("Flatten", ["h"], {}), ("Gemm", ["h", "w", "b"], {})], {
        "w": normal(size, 3),
        "b": normal(3),
    }


ON_IMAGES = {
    "conv": ([("Conv", ["h", "k", "c"], {"pads": [1, 0, 2, 1], "strides": [2, 1]})], (4, 4, 4)),
    "conv groups": ([("Conv", ["h", "g"], {"group": 2})], (4, 4, 3)),
    "conv dilated": ([("Conv", ["h", "k"], {"dilations": [2, 1]})], (4, 2, 3)),
    "conv same upper": (
        [("Conv", ["h", "k"], {"auto_pad": "SAME_UPPER", "strides": [2, 2]})],
        (4, 3, 3),
    ),
    "conv same lower": (
        [("Conv", ["h", "k"], {"auto_pad": "SAME_LOWER", "strides": [2, 2]})],
        (4, 3, 3),
    ),
    "conv valid": ([("Conv", ["h", "k"], {"auto_pad": "VALID"})], (4, 4, 3)),
    "batch norm": ([("BatchNormalization", ["h", "s", "t", "m", "v"], {})], (2, 6, 5)),
    "conv batch norm": (
        [("Conv", ["h", "k"], {}), ("BatchNormalization", ["h", "s4", "t4", "m4", "v4"], {})],
        (4, 4, 3),
    ),
    "average": ([("AveragePool", ["h"], {"kernel_shape": [2, 2], "strides": [2, 2]})], (2, 3, 2)),
    "average no pad": (
        [("AveragePool", ["h"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
        (2, 6, 5),
    ),
    "average pad": (
        [
            (
                "AveragePool",
                ["h"],
                {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
            )
        ],
        (2, 6, 5),
    ),
    "global average": ([("GlobalAveragePool", ["h"], {})], (2, 1, 1)),
    "max": (
        [("MaxPool", ["h"], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]})],
        (2, 3, 5),
    ),
    "max same upper": (
        [("MaxPool", ["h"], {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"})],
        (2, 3, 3),
    ),
    "max ceil without effect": (
        [("MaxPool", ["h"], {"kernel_shape": [2, 1], "strides": [2, 1], "ceil_mode": 1})],
        (2, 3, 5),
    ),
    "leaky": ([("LeakyRelu", ["h"], {"alpha": 0.1})], (2, 6, 5)),
    "relu": ([("Relu", ["h"], {})], (2, 6, 5)),
    "pad": ([("Pad", ["h", "pads"], {})], (2, 9, 6)),
    "pad conv": ([("Pad", ["h", "pads"], {}), ("Conv", ["h", "k", "c"], {})], (4, 7, 4)),
    "a pixel each": ([("Add", ["h", "pixels"], {}), ("Mul", ["pixels", "h"], {})], (2, 6, 5)),
    "channels": ([("Sub", ["s3", "h"], {}), ("Div", ["h", "s3"], {})], (2, 6, 5)),
    "permuted": (
        [
            ("Relu", ["h"], {}),
            ("Conv", ["h", "k"], {}),
            ("Transpose", ["h"], {"perm": [0, 1, 3, 2]}),
            ("Conv", ["h", "k41"], {}),
        ],
        (4, 3, 4),
    ),
    "orders": (
        [
            ("Flatten", ["h"], {"output": "f"}),
            ("Gemm", ["f", "square"], {}),
            ("Add", ["h", "f"], {}),
        ],
        (1, 1, 60),
    ),
    "identity": ([("Identity", ["h"], {}), ("Dropout", ["h"], {})], (2, 6, 5)),
}
WEIGHTS = {
    "k": normal(4, 2, 3, 3),
    "c": normal(4),
    "g": normal(4, 1, 3, 3),
    **{name: normal(2) for name in ("s", "t", "m")},
    "v": np.abs(normal(2)),
    **{name: normal(4) for name in ("s4", "t4", "m4")},
    "v4": np.abs(normal(4)),
    "s3": normal(2, 1, 1),
    "k41": normal(4, 4, 1, 1),
    "square": normal(60, 60),
    "pixels": normal(6, 5),
    "pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]),
}


@pytest.mark.parametrize("case", ON_IMAGES)
def test_on_images(case, tmp_path):
    nodes, out_shape = ON_IMAGES[case]
    head, weights = flat(int(np.prod(out_shape)))
    network = assert_same(model_of(nodes + head, WEIGHTS | weights, IMAGE), tmp_path, IMAGE)
    assert network.onnx_shape == (2, 6, 5)
    assert network.graph.in_shape == (6, 5, 2)


ON_VECTORS = {
    "gemm": [("Gemm", ["h", "w", "b"], {"alpha": 0.5, "beta": 2.0})],
    "gemm transposed": [("Gemm", ["h", "wt"], {"transB": 1})],
    "matmul add": [("MatMul", ["h", "w"], {}), ("Add", ["b", "h"], {})],
    "relu at the end": [("Gemm", ["h", "w"], {}), ("Relu", ["h"], {})],
    "permuted end": [
        ("Gemm", ["h", "square"], {}),
        ("Reshape", ["h", "two"], {}),
        ("Transpose", ["h"], {"perm": [1, 0]}),
    ],
    "matrix to image": [
        ("Gemm", ["h", "wide", "wide_bias"], {}),
        ("Relu", ["h"], {}),
        ("Mul", ["h", "wide_bias"], {}),
        ("Reshape", ["h", "image"], {}),
        ("Conv", ["h", "k"], {}),
        ("Flatten", ["h"], {}),
        ("MatMul", ["h", "after"], {}),
    ],
    "unsqueezed": [
        ("Unsqueeze", ["h", "axis"], {}),
        ("Squeeze", ["h", "axis"], {}),
        ("MatMul", ["h", "w"], {}),
    ],
    "folded weights": [
        ("Transpose", ["wt"], {"perm": [1, 0], "output": "folded"}),
        ("MatMul", ["x", "folded"], {}),
    ],
    "constant node": [
        ("Constant", [], {"value": numpy_helper.from_array(normal(6, 3)), "output": "made"}),
        ("MatMul", ["x", "made"], {}),
    ],
    "shape": [
        ("Shape", ["x"], {"output": "size"}),
        ("Reshape", ["x", "size"], {}),
        ("MatMul", ["h", "w"], {}),
    ],
}
VECTOR_WEIGHTS = {
    "w": normal(6, 3),
    "wt": normal(3, 6),
    "b": normal(3),
    "square": normal(6, 6),
    "two": np.array([2, 3]),
    "axis": np.array([1]),
    "wide": normal(6, 2 * 4 * 5),
    "wide_bias": normal(2 * 4 * 5),
    "image": np.array([-1, 2, 4, 5]),
    "k": normal(3, 2, 2, 3),
    "after": normal(3 * 3 * 3, 4),
}


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("case", ON_VECTORS)
def test_on_vectors(case, batch, listed, tmp_path):
    model = model_of(ON_VECTORS[case], VECTOR_WEIGHTS, (batch, 6), listed=listed)
    network = assert_same(model, tmp_path, (1, 6))
    assert network.onnx_shape == network.graph.in_shape == (6,)


def test_without_batch(tmp_path):
    nodes = [("MatMul", ["wt", "h"], {}), ("Add", ["h", "b"], {}), ("Relu", ["h"], {})]
    network = assert_same(model_of(nodes, VECTOR_WEIGHTS, (6,)), tmp_path, (6,))
    assert network.graph.outputs == 3


def test_older_opset(tmp_path):
    """Pads, axes and shapes were attributes once."""
    nodes = [
        ("Pad", ["h"], {"pads": [0, 0, 1, 1, 0, 0, 0, 1], "mode": "constant"}),
        ("Conv", ["h", "k"], {}),
        ("Flatten", ["h"], {}),
        ("Unsqueeze", ["h"], {"axes": [0]}),
        ("Squeeze", ["h"], {"axes": [0]}),
        ("MatMul", ["h", "w"], {}),
    ]
    weights = WEIGHTS | {"w": normal(4 * 5 * 5, 3)}
    network = assert_same(model_of(nodes, weights, IMAGE, opset=9), tmp_path, IMAGE)
    assert isinstance(network.graph.nodes[0], Conv)
    assert network.graph.nodes[0].padding == ((1, 0), (1, 1))  # the padding went into it


def test_float64(tmp_path):
    weights = {"w": rng.normal(size=(6, 3))}
    model = model_of([("MatMul", ["h", "w"], {})], weights, (1, 6), kind=TensorProto.DOUBLE)
    network = read_model(model, tmp_path)
    np.testing.assert_array_equal(network.graph.nodes[0].kernel, weights["w"])


@pytest.mark.parametrize("opset", [9, 13])
def test_older_normalisation(opset, tmp_path):
    """The reference implementation mixes statistics of the batch into these opsets."""
    head, weights = flat(60)
    nodes = [("BatchNormalization", ["h", "s", "t", "m", "v"], {"momentum": 0.5}), *head]
    old, new = (model_of(nodes, WEIGHTS | weights, IMAGE, opset=o) for o in (opset, 15))
    assert read_model(old, tmp_path).graph.hash == read_model(new, tmp_path).graph.hash


RESIDUAL = [
    ("Conv", ["h", "k"], {"pads": [1, 1, 1, 1], "output": "start"}),
    ("Relu", ["start"], {}),
    ("Conv", ["h", "same"], {"pads": [1, 1, 1, 1], "output": "inner"}),
    ("Conv", ["inner", "same"], {"pads": [1, 1, 1, 1]}),
    ("Add", ["inner", "h"], {}),
    ("Add", ["h", "start"], {}),
    ("Relu", ["h"], {}),
]


def test_residual(tmp_path):
    """Nested branches, one of them the identity."""
    head, weights = flat(4 * 30)
    model = model_of(RESIDUAL + head, WEIGHTS | weights | {"same": normal(4, 4, 3, 3)}, IMAGE)
    network = assert_same(model, tmp_path, IMAGE)
    kinds = [type(node).__name__ for node in network.graph.nodes]
    assert kinds == ["Conv", "Sum", "Relu", "Reshape", "Dense"]


@pytest.mark.parametrize(
    ("shape", "before"),
    [
        ((1, 6, 5, 2), [("Transpose", ["h"], {"perm": [0, 3, 1, 2]})]),
        (("N", 6, 5, 2), [("Sub", ["h", "s"], {}), ("Transpose", ["h"], {"perm": [0, 3, 1, 2]})]),
        ((1, 60), [("Reshape", ["h", "to"], {}), ("Mul", ["h", "s3"], {})]),
        ((2, 6, 5), [("Unsqueeze", ["h", "front"], {})]),
    ],
)
def test_layout_follows_the_first_image(shape, before, tmp_path):
    """Whatever the file does to its input before it, the convolution finds an image."""
    head, weights = flat(4 * 4 * 3)
    weights |= {"to": np.array([-1, 2, 6, 5]), "front": np.array([0])}
    nodes = [*before, ("Conv", ["h", "k"], {}), *head]
    whole = tuple(1 if side == "N" else side for side in shape)
    network = assert_same(model_of(nodes, WEIGHTS | weights, shape), tmp_path, whole)
    assert network.graph.in_shape == (6, 5, 2)
    image = rng.normal(size=(2, 6, 5))
    in_file = image.transpose(1, 2, 0) if whole[-1] == 2 else image
    np.testing.assert_array_equal(network.to_graph(in_file.ravel()), image.transpose(1, 2, 0))


def test_channels_last_before_flattening(tmp_path):
    """A network that was converted from channels last puts its features back before it flattens."""
    nodes = [
        ("Conv", ["h", "k"], {}),
        ("Relu", ["h"], {}),
        ("Transpose", ["h"], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["h", "to"], {}),
        ("MatMul", ["h", "w"], {}),
    ]
    weights = WEIGHTS | {"to": np.array([1, -1]), "w": normal(48, 3)}
    assert_same(model_of(nodes, weights, IMAGE), tmp_path, IMAGE)


def test_max_pooling_that_pads_below(tmp_path):
    """The reference implementation of ONNX has too few windows here."""
    options = {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}
    head, weights = flat(2 * 3 * 3)
    nodes = [("MaxPool", ["h"], options), *head]
    graph = read_model(model_of(nodes, WEIGHTS | weights, IMAGE), tmp_path).graph
    x = rng.normal(size=(6, 5, 2))
    padded = np.pad(x, ((1, 0), (1, 0), (0, 0)), constant_values=-np.inf)
    best = np.stack(
        [
            [padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 2].max((0, 1)) for j in range(3)]
            for i in range(3)
        ]
    )
    wanted = best.transpose(2, 0, 1).ravel() @ weights["w"] + weights["b"]
    np.testing.assert_allclose(graph(x[None])[0], wanted, rtol=1e-12)


BAD = {
    "unsupported": ([("Sin", ["h"], {})], "Sin_0.*Sin.*Accepted ops: Abs"),
    "alpha": ([("LeakyRelu", ["h"], {"alpha": 2.0})], r"LeakyRelu_0.*alpha must be in \[0, 1\]"),
    "division": ([("Div", ["s3", "h"], {})], "Div_0.*not affine"),
    "division by zero": ([("Div", ["h", "zero"], {})], "Div_0.*by zero"),
    "ceil": (
        [("MaxPool", ["h"], {"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1})],
        "MaxPool_0.*ceil_mode",
    ),
    "dilated pool": (
        [("MaxPool", ["h"], {"kernel_shape": [2, 2], "dilations": [2, 2]})],
        "MaxPool_0.*dilations",
    ),
    "pad mode": ([("Pad", ["h", "pads"], {"mode": "reflect"})], "Pad_0.*constant zeros"),
    "pad value": ([("Pad", ["h", "pads", "one"], {})], "Pad_0.*constant zeros"),
    "pad channels": ([("Pad", ["h", "deep"], {})], "Pad_0.*only height and width"),
    "cropped": ([("Conv", ["h", "k"], {"pads": [-1, 0, 0, 0]})], "Conv_0.*negative"),
    "stride 0": ([("Conv", ["h", "k"], {"strides": [0, 1]})], "Conv_0.*strides must be 2 numbers"),
    "dilation 0": ([("Conv", ["h", "k"], {"dilations": [0, 0]})], "Conv_0.*dilations must be"),
    "group 0": ([("Conv", ["h", "k"], {"group": 0})], "Conv_0.*group"),
    "kernel shape": ([("Conv", ["h", "k"], {"kernel_shape": [1, 1]})], "Conv_0.*kernel_shape"),
    "three pads": ([("Conv", ["h", "k"], {"pads": [0, 0, 0]})], "Conv_0.*pads must be 4 numbers"),
    "auto pad": ([("Conv", ["h", "k"], {"auto_pad": "NOPE"})], "Conv_0.*unknown auto_pad 'NOPE'"),
    "pool stride": (
        [("MaxPool", ["h"], {"kernel_shape": [1, 1], "strides": [0, 1]})],
        "MaxPool_0.*strides",
    ),
    "product": ([("Mul", ["h", "h"], {})], "Mul_0.*must be constant"),
    "shapes": (
        [("Conv", ["h", "k"], {"output": "f"}), ("Relu", ["x"], {}), ("Add", ["h", "f"], {})],
        r"Add_2.*tensors of shapes \(1, 2, 6, 5\) and \(1, 4, 4, 3\)",
    ),
    "beyond": ([("Gather", ["h", "wrong"], {"axis": 0})], "Gather_0.*IndexError"),
    "reduced maxima": ([("ReduceMax", ["h"], {"axes": [1]})], "ReduceMax_0.*only over height"),
    "smooth": ([("Resize", ["h", "", "sizes"], {"mode": "linear"})], "Resize_0.*only the mode"),
    "logarithm": ([("Log", ["h"], {})], "Log_0.*only of a sigmoid"),
    "parts": ([("Split", ["h", "parts"], {"axis": 2})], r"Split_0.*parts \[2, 1\] do not make 6"),
    "joined": ([("Concat", ["h", "pixels"], {"axis": 1})], "Concat_0.*must depend on the net"),
    "repeated": ([("Add", ["h", "row"], {})], "Add_0.*repeats"),
    "rows": ([("MatMul", ["h", "five"], {})], "MatMul_0.*cannot multiply"),
    "reshape": ([("Reshape", ["h", "wrong"], {})], "Reshape_0"),
    "dropout in training": ([("Dropout", ["h", "half", "yes"], {})], "Dropout_0.*move entries"),
}
BAD_WEIGHTS = WEIGHTS | {
    "zero": np.zeros(1, "float32"),
    "one": np.float32(1),
    "deep": np.array([0, 1, 0, 0, 0, 0, 0, 0]),
    "row": normal(7, 1, 1, 1),
    "five": normal(4, 4),
    "parts": np.array([2, 1]),
    "sizes": np.array([1, 1, 2, 2], "float32"),
    "wrong": np.array([1, 7]),
    "half": np.float32(0.5),
    "yes": np.array(True),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_refuses(case, tmp_path):
    nodes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        read_model(model_of(nodes, BAD_WEIGHTS, IMAGE), tmp_path)


def test_refuses_indices_and_unknown_operators(tmp_path):
    model = model_of([("MaxPool", ["h"], {"kernel_shape": [2, 2]})], {}, IMAGE)
    model.graph.node[0].output.append("indices")
    model.graph.node.append(helper.make_node("Flatten", ["indices"], ["end"], name="last"))
    model.graph.output[0].name = "end"
    with pytest.raises(ValueError, match=r"'last' of type Flatten: 'indices' is an output"):
        read_model(model, tmp_path)
    with pytest.raises(ValueError, match=r"(?s)Nonsense.*Accepted ops: Abs"):
        read_model(model_of([("Nonsense", ["h"], {})], {}, IMAGE), tmp_path)
    model = model_of([("Relu", ["h"], {"domain": "own"})], {}, IMAGE)
    model.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(ValueError, match="unknown domain 'own'"):
        read_model(model, tmp_path)


def test_refuses_functions_and_opsets_it_does_not_know(tmp_path):
    """A function of the file's own may stand for an operator of the standard."""
    model = model_of([("Relu", ["h"], {})], {}, (1, 3))
    body = [helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(
        helper.make_function("", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 15)])
    )
    with pytest.raises(ValueError, match="functions of the file's own"):
        read_model(model, tmp_path)
    model = model_of([("Relu", ["h"], {})], {}, (1, 3), opset=10**6)
    with pytest.raises(ValueError, match="opset must be in"):
        read_model(model, tmp_path)


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT16", "COMPLEX64"])
def test_refuses_constants_of_other_precisions(kind, tmp_path):
    """Also where they come in between: what is rounded to them is another number."""
    there = [("Cast", ["w"], {"to": getattr(TensorProto, kind), "output": "r"})]
    back = [("Cast", ["r"], {"to": TensorProto.FLOAT, "output": "v"})]
    weights = {"w": np.full((3, 2), 1.03, "float32")}
    model = model_of([*there, *back, ("MatMul", ["x", "v"], {})], weights, (1, 3), opset=19)
    with pytest.raises(ValueError, match=r"constants must be|rounds a constant|Cast_0"):
        read_model(model, tmp_path)


def test_refuses_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_onnx(tmp_path / "none.onnx")
    bad = tmp_path / "bad.onnx"
    for content in (b"", b"no network", b"\x08\x07" * 50):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.onnx"):
            read_onnx(bad)
    whole = model_of([("MatMul", ["h", "w"], {})], {"w": normal(60, 60)}, (1, 60))
    bad.write_bytes(whole.SerializeToString()[:5000])
    with pytest.raises(ValueError, match=r"bad\.onnx"):
        read_onnx(bad)


def test_refuses_models(tmp_path):
    nodes, weights = [("MatMul", ["h", "w"], {})], {"w": normal(6, 3), "other": normal(1, 3)}

    def refuses(model, message):
        with pytest.raises(ValueError, match=message):
            read_model(model, tmp_path)

    refuses(model_of(nodes, weights, (1, 6), opset=6), r"opset must be in 7 .. 28. Received: \[6\]")
    refuses(model_of(nodes, weights, (1, "N")), r"only the batch .* Received: \[1, 0\]")
    refuses(model_of(nodes, weights, (1, 6), kind=TensorProto.FLOAT16), "float32 or float64")
    half = {"w": weights["w"].astype("float16")}
    refuses(model_of(nodes, half, (1, 6)), "constants must be .* Received: float16")
    constant = model_of(nodes, weights, (1, 6))
    constant.graph.output[0].name = "other"
    refuses(constant, "does not depend on the input")
    two = model_of(nodes, weights, (1, 6))
    two.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 6)))
    refuses(two, "one input and one output. Received: 2 and 1")


def test_disagreement_is_noticed(tmp_path, monkeypatch):
    """A wrong reading does not pass as the network of the file."""
    from keras_taps.verification.formats import onnx_ops

    def wrong(call):
        return call.value().then(Relu(call.value().shape, 0.5))

    monkeypatch.setitem(onnx_ops.OPS, "Relu", wrong)
    with pytest.raises(ValueError, match="disagrees with the reference"):
        read_model(model_of([("Relu", ["h"], {})], {}, (1, 6)), tmp_path)


@needs_files
@pytest.mark.parametrize("name", sorted({row["onnx"] for row in ROWS}))
def test_competition_networks(name, tmp_path):
    model = onnx.load(FILES / name)
    weights = {tensor.name for tensor in model.graph.initializer}
    (source,) = (entry for entry in model.graph.input if entry.name not in weights)
    shape = [side.dim_value for side in source.type.tensor_type.shape.dim]
    network = read_onnx(FILES / name)
    x = rng.uniform(0, 1, size=shape).astype("float32")
    wanted = ReferenceEvaluator(model).run(None, {source.name: x})[0].ravel()
    got = network.graph(network.to_graph(x.ravel())[None])[0]
    np.testing.assert_allclose(got, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))

"""Write a graph as ONNX in the form that verifiers read: images channels first, no transposes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from keras_taps.checks import check_count
from keras_taps.files import write_atomically
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum
from keras_taps.verification.graph.traverse import curves

OPSET, IR_VERSION = 13, 7
# Of operators that came later.
LATER = {"hard_silu": (14, 7), "gelu": (20, 9)}
_CURVES = {
    "exponential": "Exp",
    "gelu": "Gelu",
    "hard_silu": "HardSwish",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}


def write_onnx(
    graph: Graph, path: str | Path, name: str = "network", batch: int | None = 1
) -> None:
    """Write a network for other verifiers; inputs `(batch, channels, height, width)` for images.

    Weights are rounded to float32, the precision of the field's tools. A network whose weights
    are float32 numbers is written exactly.

    Args:
        graph: `Graph`.
        path: Path of the `.onnx` file.
        name: Name of the network in the file.
        batch: Fixed batch size, or `None` for a symbolic one.

    Raises:
        ValueError: `graph` is none, a node has no form here, or a weight does not fit into float32.

    Example:

    >>> write_onnx(graph, "network.onnx")  # doctest: +SKIP
    """
    if not isinstance(graph, Graph):
        raise ValueError(
            "`graph` must be a Graph, as read_network(model) makes one. "
            f"Received: {type(graph).__name__}"
        )
    size = "N" if batch is None else check_count("batch", batch, 1)
    if not isinstance(graph.nodes[-1], Dense):
        raise ValueError("the graph must end in a Dense node")
    writer = _Writer()
    writer.chain(graph.nodes, "input", None)
    writer.rename("output")
    shape = graph.in_shape
    shape = (shape[2], *shape[:2]) if len(shape) == 3 else shape
    info = helper.make_tensor_value_info
    content = helper.make_graph(
        writer.nodes,
        name,
        [info("input", TensorProto.FLOAT, (size, *shape))],
        [info("output", TensorProto.FLOAT, (size, graph.outputs))],
        writer.weights,
    )
    used = ((OPSET, IR_VERSION), *(LATER[n] for n in curves(graph.nodes) if n in LATER))
    opset, version = max(used)
    model = helper.make_model(
        content,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=version,
        producer_name="keras_taps",
    )
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(model.SerializeToString()))


class _Writer:
    """Collects ONNX nodes and weights.

    Methods take the name of a tensor and its `order`, and return those of the result. The order is
    the graph coordinate of each entry of a flattened image; `None` if nothing moved.
    """

    def __init__(self):
        self.nodes, self.weights = [], []

    def chain(self, nodes, x, order):
        for node in nodes:
            if type(node) not in _WRITE:
                raise ValueError(f"cannot write a node of type {type(node).__name__}")
            x, order = _WRITE[type(node)](self, node, x, order)
        return x, order

    def add(self, op, *inputs, **attributes):
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def rename(self, new):
        """Give the result of the last node another name; nothing reads it."""
        self.nodes[-1].output[0] = new

    def weight(self, array):
        with np.errstate(over="ignore"):
            single = np.asarray(array, "float32")
        if not np.all(np.isfinite(single)):
            raise ValueError("a weight is not finite in float32")
        return self.constant(single)

    def whole_numbers(self, values):
        return self.constant(np.asarray(values, "int64"))

    def constant(self, array):
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def dense(self, node, x, order):
        kernel = node.kernel if order is None else node.kernel[order]
        weights = self.weight(kernel.T), self.weight(np.broadcast_to(node.bias, node.out_shape))
        return self.add("Gemm", x, *weights, transB=1), None

    def conv(self, node, x, order):
        bias = np.broadcast_to(node.bias, node.kernel.shape[-1:])
        weights = self.weight(node.kernel.transpose(3, 2, 0, 1)), self.weight(bias)
        window = {**_window(node, node.kernel.shape[:2]), "dilations": node.dilation}
        return self.add("Conv", x, *weights, group=node.groups, **window), order

    def scale(self, node, x, order):
        scale, shift = (_channels_first(v, node.in_shape, order) for v in (node.scale, node.bias))
        if np.any(scale != 1):
            x = self.add("Mul", x, self.weight(scale))
        return self.add("Add", x, self.weight(shift)), order

    def reshape(self, node, x, order):
        if len(node.out_shape) > 1:
            return self.shaped(node, x, order), None
        if len(node.in_shape) == 1:
            return x, order
        if len(node.in_shape) == 3:
            places = np.arange(np.prod(node.in_shape)).reshape(node.in_shape)
            order = places.transpose(2, 0, 1).ravel()
        return self.add("Flatten", x, axis=1), order

    def shaped(self, node, x, order):
        """Another shape by way of the graph's own order."""
        if order is not None:
            x = self.add("Gather", x, self.whole_numbers(np.argsort(order)), axis=1)
        if len(node.in_shape) == 3:
            x = self.add("Transpose", x, perm=(0, 2, 3, 1))
        x = self.add("Reshape", x, self.whole_numbers((0, *node.out_shape)))  # 0: as many inputs
        return self.add("Transpose", x, perm=(0, 3, 1, 2)) if len(node.out_shape) == 3 else x

    def relu(self, node, x, order):
        if node.slope == 0:
            return self.add("Relu", x), order
        return self.add("LeakyRelu", x, alpha=float(node.slope)), order

    def curve(self, node, x, order):
        if node.function == "elu":
            return self.add("Elu", x, alpha=float(node.alpha)), order
        if node.function == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x)), order
        return self.add(_CURVES[node.function], x), order

    def max_pool(self, node, x, order):
        return self.add("MaxPool", x, **_window(node, node.size)), order

    def sum(self, node, x, order):
        ends = [self.chain(branch, x, order) for branch in node.branches]
        first, order = ends[0]
        for other, its_order in ends[1:]:
            if not np.array_equal(order, its_order):
                raise ValueError("branches of a flattened image stand in different orders")
            first = self.add("Add", first, other)
        return first, order


_WRITE = {
    Conv: _Writer.conv,
    Curve: _Writer.curve,
    Dense: _Writer.dense,
    MaxPool: _Writer.max_pool,
    Relu: _Writer.relu,
    Reshape: _Writer.reshape,
    Scale: _Writer.scale,
    Sum: _Writer.sum,
}


def _window(node, size):
    (top, bottom), (left, right) = node.padding
    pads = [top, left, bottom, right]
    return {"kernel_shape": size, "strides": node.strides, "pads": pads}


def _channels_first(array, shape, order):
    """An array that broadcasts with one graph tensor, for a batch of ONNX tensors."""
    array = np.asarray(array)
    if order is not None:
        return np.broadcast_to(array, shape)[order][None]
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    return (array.transpose(2, 0, 1) if len(shape) == 3 else array)[None]

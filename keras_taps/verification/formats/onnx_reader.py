"""Read an ONNX network as a graph of float64 nodes, and check that both compute the same."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_taps.verification.formats.onnx_constants import folded
from keras_taps.verification.formats.onnx_fusions import fused
from keras_taps.verification.formats.onnx_ops import OPS
from keras_taps.verification.formats.onnx_reference import check_agreement
from keras_taps.verification.formats.onnx_values import LAYOUT, Call, Value, image_places
from keras_taps.verification.graph.graph import Graph, simplify
from keras_taps.verification.graph.nodes import Dense

OLDEST_OPSET = 7  # before, arithmetic did not broadcast as in NumPy
NEWEST_OPSET = 28  # whose operators mean what is read here
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_ON_SIGNALS = ("AveragePool", "BatchNormalization", "Conv", "GlobalAveragePool", "MaxPool")
_POINTWISE = ("Add", "Cast", "Sub", "Mul", "Div", "Relu", "LeakyRelu")


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """A graph, and how the entries of an ONNX input stand in it.

    Args:
        graph: `Graph`.
        onnx_shape: Shape of one input in the file, without the batch.
        places: Integer array `(inputs,)`: the flat graph coordinate of each entry of the file's
            input. Images are `(channels, height, width)` in most files and `(height, width,
            channels)` in every graph.
        output_shape: Shape of one output in the file; by default that of the graph.
        element_type: 'float32' or 'float64'.
        names: Names of the input and the output in the file.
    """

    graph: Graph
    onnx_shape: tuple[int, ...]
    places: np.ndarray
    output_shape: tuple[int, ...] | None = None
    element_type: str = "float32"
    names: tuple[str, str] = ("", "")

    def to_graph(self, flat: ArrayLike) -> np.ndarray:
        """Inputs `(..., *graph.in_shape)` from vectors `(..., inputs)` in the file's order."""
        flat = np.asarray(flat, "float64")
        out = np.empty_like(flat)
        out[..., self.places] = flat
        return out.reshape(*flat.shape[:-1], *self.graph.in_shape)

    def to_onnx(self, points: ArrayLike) -> np.ndarray:
        """Vectors `(..., inputs)` in the file's order from inputs `(..., *graph.in_shape)`."""
        points = np.asarray(points, "float64")
        batch = points.shape[: points.ndim - len(self.graph.in_shape)]
        return points.reshape(*batch, -1)[..., self.places]


def read_onnx(path: str | Path) -> OnnxNetwork:
    """Read a network of affine layers, the activations that are verified, and max pooling.

    Weights are taken exactly, and so is arithmetic among constants. Folded ones (normalisation,
    averages) are rounded to float64, no more often than the checker allows for.

    Args:
        path: Path of an `.onnx` file.

    Returns:
        `OnnxNetwork`; its graph ends in a Dense node with the outputs in the file's order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, has an operator that is not supported, or its graph
            disagrees with the reference implementation of ONNX.

    Example:

    >>> network = read_onnx("network.onnx")  # doctest: +SKIP
    >>> logits = network.graph(network.to_graph(vectors))  # doctest: +SKIP
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        accepted = ", ".join(sorted((*OPS, *LAYOUT)))
        raise ValueError(
            f"{path} is not a valid ONNX network: {error}. Accepted ops: {accepted}. Of a Keras "
            "model or run folder `keras-taps export` makes one"
        ) from None
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused by name
            network, constants = _network(model)
            source = _source(model.graph)
            check_agreement(model, source, _shape(source), network, constants)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return network


def _network(model):
    if model.functions:
        raise ValueError("functions of the file's own are not supported")
    opsets = {e.version for e in model.opset_import if e.domain in ("", "ai.onnx")}
    opset = next(iter(opsets)) if len(opsets) == 1 else None
    if opset is None or not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ValueError(
            f"the opset must be in {OLDEST_OPSET} .. {NEWEST_OPSET}. Received: {sorted(opsets)}"
        )
    source = _source(model.graph)
    shape = _shape(source)
    values = _constants(model.graph, opset)
    nodes, constants = fused(model.graph.node, values), dict(values)
    in_shape, places = _layout(source.name, shape, nodes, opset, values)
    values[source.name] = Value(in_shape, (), places.reshape(shape))
    for node in nodes:
        if node.output[0] not in values:
            found = _run(node, opset, values)
            product = node.op_type in ("Gemm", "MatMul") and isinstance(found, Value)
            if product and isinstance(found.nodes[-1], Dense):
                name, sides = node.output[0], found.places.shape
                found = found.ordered(_layout(name, sides, nodes, opset, values)[1])
            outputs = found if isinstance(found, list) else [found]
            values.update(zip(node.output, outputs, strict=False))
    end = model.graph.output[0].name
    graph = _finished(values.get(end))
    shape = shape[1:] if _has_batch(source) else shape
    double = source.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    kind, names = "float64" if double else "float32", (source.name, end)
    return OnnxNetwork(graph, shape, places, values[end].places.shape, kind, names), constants


def _source(graph):
    """The one input that is not a weight."""
    weights = {tensor.name for tensor in graph.initializer}
    found = [entry for entry in graph.input if entry.name not in weights]
    if len(found) != 1 or len(graph.output) != 1:
        raise ValueError(
            f"the network must have one input and one output. "
            f"Received: {len(found)} and {len(graph.output)}"
        )
    if found[0].type.tensor_type.elem_type not in _FLOATS:
        raise ValueError("the input must be float32 or float64")
    return found[0]


def _has_batch(source):
    """Whether the first axis is a batch: symbolic, or 1 before others."""
    sides = source.type.tensor_type.shape.dim
    return len(sides) > 1 and sides[0].dim_value <= 1


def _shape(source):
    """ONNX shape of one input, with a batch of 1 if there is one."""
    sides = [side.dim_value for side in source.type.tensor_type.shape.dim]  # 0: symbolic
    shape = (1, *sides[1:]) if _has_batch(source) else tuple(sides)
    if not shape or min(shape) < 1:
        raise ValueError(f"only the batch of the input may be symbolic. Received: {sides}")
    return shape


def _constants(graph, opset):
    """The values that do not depend on the input, by name."""
    if graph.sparse_initializer:
        raise ValueError("sparse weights are not supported")
    values = {tensor.name: _exact(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    for node in graph.node:
        if all(not name or name in values for name in node.input):
            values[node.output[0]] = _run(node, opset, values)
    return values


def _exact(array):
    """Floats as float64, which changes none of them; whole numbers and fractions as they are."""
    if array.dtype in (np.float32, np.float64):
        return array.astype("float64")
    kind = array.dtype.kind
    if kind in "iub" or (kind == "O" and all(isinstance(n, (Fraction, float)) for n in array.flat)):
        return array
    raise ValueError(
        f"constants must be float32, float64, whole or Boolean. Received: {array.dtype}"
    )


def _layout(name, shape, nodes, opset, constants):
    """Shape of one input of the graph, and the coordinates there of the file's entries.

    Many files transpose or reshape their input, or what a matrix makes of it, before a convolution.
    The tensor `name` is laid out as the image that comes of it, so that nothing has to move: follow
    the entries until an operator mixes them.

    Returns:
        `(shape, places)`: shape of the tensor in the graph, and the flat coordinate there of each
        entry of the file's.
    """
    entries = np.arange(math.prod(shape)).reshape(shape)
    image = None
    while True:
        image = entries if entries.ndim == 4 and len(entries) == 1 else image
        node = next((node for node in nodes if name in node.input), None)
        if node is None or node.op_type not in (*LAYOUT, *_POINTWISE):
            if node is not None and node.op_type in _ON_SIGNALS and entries.ndim == 3:
                image = entries[..., None] if len(entries) == 1 else image
            break
        if node.op_type in LAYOUT:
            others = [constants.get(other) for other in node.input[1:]]
            if any(other is None for other in others):
                break
            entries = _moved(node, opset, entries, others)
        name = node.output[0]
    if image is None:
        return (entries.size,), np.arange(entries.size)
    _, channels, height, width = image.shape
    places = np.empty(image.size, int)
    places[image.ravel()] = image_places(height, width, channels).ravel()
    return (height, width, channels), places


def _run(node, opset, values):
    """First output of a node: an array if all inputs are constant, else a `Value`."""
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    inputs = [values.get(name) for name in node.input]
    call = Call(node, inputs, attributes, lambda arrays: _reference(node, opset, arrays))
    if node.domain not in ("", "ai.onnx"):
        raise call.refuse(f"unknown domain {node.domain!r}")
    for name, value in zip(node.input, inputs, strict=True):
        if name and value is None:
            raise call.refuse(f"{name!r} is an output that is not supported")
    computed = [value for value in inputs if isinstance(value, Value)]
    if node.op_type == "Shape" and computed:
        return _reference(node, opset, [computed[0].places])
    if not computed:
        return _exact(folded(call, call.reference))
    if node.op_type in LAYOUT:
        others = [v if v is None else call.constant(i) for i, v in enumerate(inputs) if i]
        x = call.value()
        return x.then(places=_moved(node, opset, x.places, others))
    if node.op_type not in OPS:
        raise call.refuse("the operator is not supported")
    found = OPS[node.op_type](call)
    exact = not call.rounded and all(value.exact for value in computed)
    if isinstance(found, list):  # of all outputs
        return [replace(value, exact=exact) for value in found]
    return replace(found, exact=exact)


def _moved(node, opset, places, others):
    """The places after an operator that only moves entries."""
    moved = _reference(node, opset, [places, *others])
    if not np.array_equal(np.sort(moved, None), np.arange(places.size)):
        raise Call(node, others, {}).refuse("it must only move entries")  # dropout in training
    return moved


def _reference(node, opset, arrays):
    """The first output of one node by the reference implementation of ONNX."""
    feeds = {name: array for name, array in zip(node.input, arrays, strict=True) if name}
    inputs = [helper.make_empty_tensor_value_info(name) for name in feeds]
    outputs = [helper.make_empty_tensor_value_info(node.output[0])]
    graph = helper.make_graph([node], "one_node", inputs, outputs)
    try:
        return np.asarray(ReferenceEvaluator(graph, opsets={"": opset}).run(None, feeds)[0])
    except Exception as error:  # whatever an operator raises on input that does not fit
        raise Call(node, arrays, {}).refuse(f"{type(error).__name__}: {error}") from None


def _finished(value):
    """The graph of the network's output, ending in a Dense node."""
    if not isinstance(value, Value):
        raise ValueError("the output does not depend on the input")
    order = value.places.ravel()
    nodes, written = simplify(value.nodes), value.nodes
    if not (
        nodes and isinstance(nodes[-1], Dense) and np.array_equal(order, np.arange(order.size))
    ):
        last = Dense(np.eye(order.size)[:, order], np.zeros(order.size))
        written = (*value.reshaped(order.shape).nodes, last)
        nodes = simplify(written)
    graph = Graph(nodes, unfolded=written if value.exact else ())
    if not all(np.all(np.isfinite(array)) for array in graph.pack()[1]):
        raise ValueError("a weight is not finite, or a division is by zero")
    return graph

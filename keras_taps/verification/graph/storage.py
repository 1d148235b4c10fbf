"""Networks as files: nodes as plain data, read back as if a stranger had written them."""

import hashlib
import json
import math
import sys
from dataclasses import fields

import numpy as np

from keras_taps.verification.graph.arrays import Expected, read_arrays
from keras_taps.verification.graph.batch_norm import BatchNorm
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.distance import Distance
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum

FORMAT = "keras_taps network 2"
WIDEST = 2**27  # numbers in a layer
DEEPEST = 50  # sums in one another
_KINDS = {
    c.__name__: c
    for c in (Dense, Conv, Scale, BatchNorm, Reshape, Relu, Curve, MaxPool, Sum, Distance)
}
_FIELDS = {
    name: {field.name: field.type for field in fields(kind) if field.name != "magnitude"}
    for name, kind in _KINDS.items()
}


def pack(nodes):
    """`(structure, arrays)` of a chain: plain data with indices into a list of float64 arrays.

    Nothing that follows from other numbers is in it.
    """
    arrays = []
    return [_pack(node, arrays) for node in nodes], arrays


def _pack(node, arrays):
    packed = {"kind": type(node).__name__}
    for name in _FIELDS[packed["kind"]]:
        value = getattr(node, name)
        if isinstance(value, np.ndarray):
            arrays.append(value)
            packed[name] = {"array": len(arrays) - 1}
        elif name == "branches":
            packed[name] = [[_pack(inner, arrays) for inner in branch] for branch in value]
        else:
            packed[name] = value
    return json.loads(json.dumps(packed, default=lambda number: number.item()))


def _text(structure):
    return json.dumps({"format": FORMAT, "nodes": structure}, sort_keys=True)


def digest(structure, arrays):
    """Hexadecimal SHA-256 of the text of the structure, then of each array: shape and numbers."""
    found = hashlib.sha256(_text(structure).encode())
    for array in arrays:
        found.update(f"<f8 {list(array.shape)}".encode())
        found.update(np.ascontiguousarray(array, "<f8").tobytes())
    return found.hexdigest()


def save(path, nodes):
    """Write a chain as `.npz`."""
    if not all(map(_own, nodes)):
        raise ValueError(
            "A network whose batch normalisation was folded when it was read cannot be saved. "
            "Received: a graph that is not from Keras"
        )
    structure, arrays = pack(nodes)
    named = {f"array_{i}": np.asarray(array, "<f8") for i, array in enumerate(arrays)}
    np.savez_compressed(path, structure=_text(structure), **named)


def _own(node):
    """Whether the magnitude of a bias follows from what is stored."""
    if isinstance(node, Sum):
        return all(_own(inner) for branch in node.branches for inner in branch)
    stored = isinstance(node, (Dense, Conv, Scale))
    return not stored or np.array_equal(node.magnitude, np.abs(node.bias))


def load(path):
    """The chain that `save` wrote.

    Raises:
        ValueError: If the file holds no chain, or one of another format.
        OSError: If it cannot be read.
    """
    content = read_arrays(path, {"structure": Expected(("<U",), ())}, _array)
    text = str(content.pop("structure"))
    try:
        structure = json.loads(text)["nodes"]
        if _text(structure) != text:
            raise ValueError(f"its structure is not of the format {FORMAT!r}")
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"its structure is not of the format {FORMAT!r}") from error
    arrays = [content.get(f"array_{i}") for i in range(len(content))]
    if any(array is None for array in arrays):
        raise ValueError("its arrays have other numbers than 0, 1, ...")
    return unpack(structure, arrays)


def _array(name):
    numbered = name.removeprefix("array_").isdecimal()
    return Expected(("<f8",), None) if numbered else None


def unpack(structure, arrays):
    """The chain that `pack` took apart.

    Raises:
        ValueError: If this is not a chain that fits together, or does not use each array once.
    """
    used = []
    try:
        nodes = tuple(_unpack(item, arrays, used) for item in structure)
        if used != list(range(len(arrays))):
            raise ValueError("its arrays are not used once each, in their order")
        shape = _through(nodes, tuple(nodes[0].in_shape))
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"its structure is not that of a network ({error!r})") from error
    if len(shape) != 1:
        raise ValueError(f"its outputs have the shape {shape}")
    return nodes


def _unpack(packed, arrays, used, depth=0):
    if depth > DEEPEST:
        raise ValueError(f"its sums are nested more than {DEEPEST} deep")
    kind = packed["kind"]
    if set(packed) != {"kind", *_FIELDS[kind]}:
        raise ValueError(f"a {kind} node must have {', '.join(_FIELDS[kind])}")
    values = {}
    for name in _FIELDS[kind]:
        value = packed[name]
        if isinstance(value, dict) != (_FIELDS[kind][name] is np.ndarray):
            raise ValueError(f"`{name}` of a {kind} node must be what the format says")
        if name == "branches":
            inner = depth + 1
            value = tuple(tuple(_unpack(i, arrays, used, inner) for i in b) for b in value)
        elif isinstance(value, dict):
            used.append(value["array"])
            value = np.asarray(arrays[value["array"]], "float64")
        elif isinstance(value, list):
            value = tuple(tuple(v) if isinstance(v, list) else v for v in value)
        values[name] = value
    return _KINDS[kind](**values)


# Whether nodes fit together


def _through(nodes, shape):
    """Shape after a chain, or `ValueError`."""
    for node in nodes:
        same = _whole(node.in_shape, 1) and tuple(node.in_shape) == shape
        fits = _whole(shape, 1) and same and _CHECKS[type(node)](node)
        if not fits:
            raise ValueError(f"a {type(node).__name__} node does not fit an input of shape {shape}")
        shape = tuple(int(n) for n in node.out_shape)
        if not (_whole(shape, 1) and math.prod(shape) <= WIDEST):
            raise ValueError(f"a {type(node).__name__} node has outputs of shape {shape}")
    return shape


def _whole(values, low):
    return all(type(n) is int and low <= n <= WIDEST for n in values)


def _number(value):
    most = sys.float_info.max  # a whole number in JSON may be beyond it
    return type(value) in (int, float) and -most <= value <= most


def _pairs(low, *values):
    return all(len(value) == 2 and _whole(value, low) for value in values)


def _arrays(node, *shapes):
    """Whether the arrays of a node, in order, are finite and have these shapes."""
    values = [value for value in vars(node).values() if isinstance(value, np.ndarray)]
    return all(np.all(np.isfinite(value)) for value in values) and all(
        value.shape == shape for value, shape in zip(values, shapes, strict=False)
    )


def _dense(node):
    return node.kernel.ndim == 2 and _arrays(node, node.kernel.shape, node.kernel.shape[1:])


def _conv(node):
    _, _, inputs, outputs = node.kernel.shape
    groups = node.groups
    return (
        _whole(node.kernel.shape, 1)
        and _pairs(1, node.strides, node.dilation)
        and _pairs(0, *node.padding)
        and len(node.padding) == 2
        and _whole((groups, *node.in_shape), 1)
        and len(node.in_shape) == 3
        and node.in_shape[2] == inputs * groups
        and outputs % groups == 0
        and _arrays(node, node.kernel.shape, (outputs,))
        and _padded(node) <= WIDEST
    )


def _padded(node):
    sides = zip(node.in_shape, node.padding, strict=False)
    return math.prod(n + sum(p) for n, p in sides) * node.in_shape[2]


def _scale(node):
    wide = np.broadcast_shapes(node.scale.shape, node.bias.shape, node.in_shape)
    return wide == node.in_shape and _arrays(node)


def _batch_norm(node):
    return (
        _number(node.epsilon)
        and node.epsilon >= 0
        and _arrays(node, *[node.in_shape[-1:]] * 4)
        and bool(np.all(node.variance >= 0) and np.all(node.variance + node.epsilon > 0))
        and node.normal
    )


def _reshape(node):
    return _whole(node.out_shape, 1) and math.prod(node.in_shape) == math.prod(node.out_shape)


def _relu(node):
    return _number(node.slope)


def _curve(node):
    return type(node.function) is str and _number(node.alpha)


def _max_pool(node):
    inside = all(max(padding) < size for padding, size in zip(node.padding, node.size, strict=True))
    return (
        len(node.in_shape) == 3
        and _pairs(1, node.size, node.strides)
        and _pairs(0, *node.padding)
        and inside
        and math.prod((*node.out_shape, *node.size)) <= WIDEST  # entries of all windows
    )


def _distance(node):
    weights = node.coefficients
    return (
        node.kernel.ndim == 2
        and weights.ndim == 1
        and 1 <= len(weights) <= len(node.kernel)
        and _arrays(node, node.kernel.shape, node.kernel.shape[1:], weights.shape)
        and bool(np.all(weights >= 0))
    )


def _sum(node):
    ends = {_through(branch, tuple(node.in_shape)) for branch in node.branches}
    return len(ends) == 1


_CHECKS = {
    Dense: _dense,
    Conv: _conv,
    Scale: _scale,
    BatchNorm: _batch_norm,
    Reshape: _reshape,
    Relu: _relu,
    Curve: _curve,
    MaxPool: _max_pool,
    Sum: _sum,
    Distance: _distance,
}

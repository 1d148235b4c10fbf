"""The network that is verified, a chain of float64 NumPy nodes; images are (row, column, channel).

Nothing here knows Keras. The float64 checker, the exact solver and the writers read this form; the
fast bounds run on a Keras network that is built from it.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace

import numpy as np

from keras_taps.verification.graph.nodes import (
    Conv,
    Dense,
    MaxPool,
    Relu,
    Reshape,
    Scale,
    Sum,
    walk,
)

FOLDS = 4  # of at most 6 roundings each; `rounding.gamma` has room for 32 more than it needs
SMALLEST, LARGEST = 1e-290, 1e290  # beyond, roundings are no longer relative


@dataclass(frozen=True)
class Graph:
    """A network as a chain of nodes that ends in a Dense node.

    Args:
        nodes: Tuple of nodes.
        unfolded: The nodes before any number was rounded, `()` if there are none like that; by
            default the nodes themselves are what is meant.

    Example:

    >>> graph = Graph((Dense(np.array([[1.0], [-1.0]]), np.zeros(1)),))
    >>> float(graph(np.array([[3.0, 1.0]]))[0, 0])
    2.0
    """

    nodes: tuple
    unfolded: tuple = field(default=None, repr=False, compare=False)
    _hash: list = field(default_factory=list, repr=False, compare=False)

    def __repr__(self):
        kinds = " ".join(type(node).__name__ for node in self.nodes)
        return f"Graph({self.in_shape} -> {self.outputs}: {kinds})"

    @property
    def in_shape(self):
        """Shape of one input."""
        return tuple(self.nodes[0].in_shape)

    @property
    def outputs(self):
        """Number of outputs."""
        return self.nodes[-1].out_shape[0]

    def __call__(self, x):
        """Outputs `(batch, outputs)` in float64."""
        with np.errstate(all="ignore"):  # what overflows is inf or NaN, and counts as nothing
            return walk(self.nodes, np.asarray(x, "float64"))

    @property
    def hash(self):
        """Hexadecimal SHA-256 of structure and weights: which network a report is about."""
        if not self._hash:
            structure, arrays = self.pack()
            digest = hashlib.sha256(json.dumps(structure, sort_keys=True).encode())
            for array in arrays:
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array, "<f8").tobytes())
            self._hash.append(digest.hexdigest())
        return self._hash[0]

    def pack(self):
        """`(structure, arrays)`: plain data with indices into a list of float64 arrays."""
        arrays = []
        return [_pack(node, arrays) for node in self.nodes], arrays

    @classmethod
    def unpack(cls, structure, arrays):
        """The graph that `pack` took apart."""
        return cls(tuple(_unpack(item, arrays) for item in structure))

    def save(self, path):
        """Write the graph as `.npz`, readable with NumPy alone."""
        structure, arrays = self.pack()
        named = {f"array_{i}": array for i, array in enumerate(arrays)}
        np.savez_compressed(path, structure=json.dumps(structure), **named)

    @classmethod
    def load(cls, path):
        """Read a graph that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            structure = json.loads(str(file["structure"]))
            return cls.unpack(structure, [file[f"array_{i}"] for i in range(len(file.files) - 1)])


def simplify(nodes):
    """Fold scales into the affine node before them, padding into the convolution behind it.

    A scale stays as it is if it is not a number a channel, if a product would underflow, or if its
    node took `FOLDS` before: each is a rounding of the weights, and the checker allows for that
    many. Neighbouring reshapes become one.
    """
    found, folds = [], 0
    for node in nodes:
        if isinstance(node, Sum):
            node = replace(node, branches=tuple(simplify(branch) for branch in node.branches))
        last, before, folds = found[-1] if found else None, folds, 0
        if isinstance(node, Reshape) and node.in_shape == node.out_shape:
            continue
        if isinstance(node, Reshape) and isinstance(last, Reshape):
            found[-1] = Reshape(last.in_shape, node.out_shape)
        elif isinstance(node, Scale) and before < FOLDS and _folds_into(node, last):
            found[-1], folds = last.scaled(node.scale, node.bias, node.magnitude), before + 1
        elif isinstance(node, Conv) and isinstance(last, Conv) and last.only_pads:
            pairs = zip(last.padding, node.padding, strict=True)
            padding = tuple((a + c, b + d) for (a, b), (c, d) in pairs)
            found[-1] = replace(node, in_shape=last.in_shape, padding=padding)
        else:
            found.append(node)
    return tuple(found)


def _folds_into(scale, node):
    """Whether a scale has a number a channel, and its products with the weights are normal."""
    if not isinstance(node, (Dense, Conv)):
        return False
    channels = scale.in_shape[-1]
    values = scale.scale, scale.bias, scale.magnitude
    if not all(v.ndim <= 1 or v.size == v.shape[-1] == channels for v in values):
        return False
    return all(_normal(weights, np.ravel(scale.scale)) for weights in (node.kernel, node.bias))


def _normal(weights, scale):
    with np.errstate(all="ignore"):
        size = np.abs(weights * scale)
    return not np.any((weights != 0) & (scale != 0) & ((size < SMALLEST) | (size > LARGEST)))


_KINDS = {cls.__name__: cls for cls in (Dense, Conv, Scale, Reshape, Relu, MaxPool, Sum)}


def _pack(node, arrays):
    packed = {"kind": type(node).__name__}
    for name, value in vars(node).items():
        if isinstance(value, np.ndarray):
            arrays.append(value)
            packed[name] = {"array": len(arrays) - 1}
        elif name == "branches":
            packed[name] = [[_pack(inner, arrays) for inner in branch] for branch in value]
        else:
            packed[name] = value
    return json.loads(json.dumps(packed, default=lambda number: number.item()))


def _unpack(packed, arrays):
    values = {}
    for name, value in packed.items():
        if name == "branches":
            value = tuple(tuple(_unpack(inner, arrays) for inner in branch) for branch in value)
        elif isinstance(value, dict):
            value = np.asarray(arrays[value["array"]], "float64")
        elif isinstance(value, list):
            value = tuple(tuple(v) if isinstance(v, list) else v for v in value)
        values[name] = value
    return _KINDS[values.pop("kind")](**values)

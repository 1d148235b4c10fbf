"""The network that is verified, a chain of float64 NumPy nodes; images are (row, column, channel).

Nothing here knows Keras. The float64 checker, the exact solver and the writers read this form; the
fast bounds run on a Keras network that is built from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.verification.graph import storage
from keras_taps.verification.graph.batch_norm import BatchNorm
from keras_taps.verification.graph.nodes import Conv, Dense, Reshape, Scale, Sum, walk

FOLDS = 4  # of at most 6 roundings each; `rounding.gamma` has room for 32 more than it needs
SMALLEST, LARGEST = 1e-290, 1e290  # beyond, roundings are no longer relative


@dataclass(frozen=True)
class Graph:
    """A network as a chain of nodes that ends in a Dense node.

    Args:
        nodes: Tuple of nodes.
        source: Tuple of the nodes before batch norm, scales and padding were folded into others, as
            the network runs them; by default `nodes`.
        unfolded: The nodes before any number was rounded, `()` if there are none like that; by
            default the nodes themselves are what is meant.

    Example:

    >>> graph = Graph((Dense(np.array([[1.0], [-1.0]]), np.zeros(1)),))
    >>> float(graph(np.array([[3.0, 1.0]]))[0, 0])
    2.0
    """

    nodes: tuple
    source: tuple = field(default=None, repr=False, compare=False)
    unfolded: tuple = field(default=None, repr=False, compare=False)
    _hash: list = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self):
        if self.source is None:
            object.__setattr__(self, "source", tuple(self.nodes))
        if not self.nodes:
            raise ValueError("a network must do something: it has no node but reshapes")

    def __repr__(self):
        kinds = " ".join(type(node).__name__ for node in self.nodes)
        return f"Graph({self.in_shape} -> {self.outputs}: {kinds})"

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.nodes[0].in_shape)

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.nodes[-1].out_shape[0]

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Outputs `(batch, outputs)` in float64."""
        with np.errstate(all="ignore"):  # what overflows is inf or NaN, and counts as nothing
            return walk(self.nodes, np.asarray(x, "float64"))

    @classmethod
    def of(cls, source: tuple[Any, ...]) -> "Graph":
        """The graph of a network whose operations are these nodes: what can be folded is folded.

        Args:
            source: Tuple of nodes, each an operation of the network, with its own numbers.
        """
        exact = () if _rounds(source) else tuple(source)
        return cls(simplify(source), tuple(source), exact)

    @property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of structure and weights: which network a report is about."""
        if not self._hash:
            self._hash.append(storage.digest(*self.pack()))
        return self._hash[0]

    def pack(self) -> tuple[Any, list[np.ndarray]]:
        """`(structure, arrays)`: plain data with indices into a list of float64 arrays."""
        return storage.pack(self.source)

    @classmethod
    def unpack(cls, structure: Any, arrays: Sequence[np.ndarray]) -> "Graph":
        """The graph that `pack` took apart.

        Raises:
            ValueError: If this is not a graph.
        """
        return cls.of(storage.unpack(structure, arrays))

    def save(self, path: str | Path) -> None:
        """Write the network as `.npz`, readable with NumPy alone; see the certificate format.

        Raises:
            ValueError: If numbers were folded before the graph knew of them.
        """
        storage.save(path, self.source)

    @classmethod
    def load(cls, path: str | Path) -> "Graph":
        """Read a network that `save` wrote.

        Raises:
            ValueError: If this is not a graph.
        """
        return cls.of(storage.load(path))


def _rounds(nodes):
    """Whether a number of the nodes is only near to what is meant: a square root has no end."""
    branches = [branch for node in nodes if isinstance(node, Sum) for branch in node.branches]
    return any(isinstance(node, BatchNorm) for node in nodes) or any(map(_rounds, branches))


def simplify(nodes):
    """Fold batch norm and scales into the affine node before them, padding into the next one.

    A scale stays as it is if it is not a number a channel, if a product would underflow, or if its
    node took `FOLDS` before: each is a rounding of the weights, and the checker allows for that
    many. Neighbouring reshapes become one.
    """
    found, folds = [], 0
    for node in nodes:
        if isinstance(node, Sum):
            node = replace(node, branches=tuple(simplify(branch) for branch in node.branches))
        elif isinstance(node, BatchNorm):
            node = node.folded()
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

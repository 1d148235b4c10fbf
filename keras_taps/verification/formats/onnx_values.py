"""What is computed from the input of an ONNX network, and one operator that computes."""

from dataclasses import dataclass, replace

import numpy as np

from keras_taps.verification.formats.onnx_constants import rounded, settled
from keras_taps.verification.graph.nodes import Conv, Dense, Reshape

# These only move entries: the reference implementation moves their places instead.
LAYOUT = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
# The others, from their names to functions of a `Call`; the files of operators put them in.
OPS = {}
MOST = 1 << 24  # numbers of a matrix that picks entries


@dataclass(frozen=True)
class Value:
    """A computed tensor: the chain of nodes that leads to it, and where its entries stand.

    Args:
        in_shape: Shape of one input of the graph.
        nodes: Tuple of graph nodes.
        places: Integer array of the ONNX shape (with a batch of 1, if the network has a batch):
            the flat graph coordinate at each ONNX coordinate.
        exact: Whether no number in the nodes was rounded.
    """

    in_shape: tuple
    nodes: tuple
    places: np.ndarray
    exact: bool = True

    @property
    def shape(self):
        """Shape of the graph's tensor."""
        return tuple(self.nodes[-1].out_shape if self.nodes else self.in_shape)

    def then(self, *nodes, places=None):
        """The value after more nodes; `places` stay unless given."""
        places = self.places if places is None else places
        return replace(self, nodes=self.nodes + nodes, places=places)

    def reshaped(self, shape):
        """The same value with another graph shape, entries in the same order."""
        return self if self.shape == shape else self.then(Reshape(self.shape, shape))

    def ordered(self, places):
        """The same value, its last Dense node writing its entries at these flat coordinates."""
        node = self.nodes[-1]
        source = np.empty(places.size, int)
        source[places.ravel()] = self.places.ravel()
        node = Dense(node.kernel[:, source], node.bias[source], node.magnitude[source])
        places = places.reshape(self.places.shape)
        return replace(self, nodes=(*self.nodes[:-1], node), places=places)

    def to_graph(self, array):
        """An array of constants that broadcasts with the ONNX tensor, laid out like the graph's.

        An array that is constant over all pixels comes back as one number a channel.
        """
        out = np.empty(self.places.size)
        out[self.places.ravel()] = np.broadcast_to(array, self.places.shape).ravel()
        rows = out.reshape(-1, self.shape[-1])
        return rows[0] if np.all(rows == rows[0]) else out.reshape(self.shape)


class Call:
    """One node of an ONNX graph with its inputs: a `Value`, a constant array, or `None`.

    Args:
        node: `NodeProto`.
        inputs: List of the above.
        attributes: Dictionary of plain values.
        run: Function of arrays: the first output of the node by the reference implementation.

    Attributes:
        reference: `run`.
        rounded: Whether a number was rounded to make nodes of it.
    """

    def __init__(self, node, inputs, attributes, run=None):
        self.node, self.inputs, self.attributes = node, inputs, attributes
        self.reference = run
        self.rounded = False

    def get(self, name, default):
        return self.attributes.get(name, default)

    def refuse(self, why):
        """The error that names this node."""
        name = self.node.name or next(iter(self.node.output), "")
        return ValueError(
            f"cannot read node {name!r} of type {self.node.op_type}: {why}. "
            f"Accepted ops: {', '.join(sorted((*OPS, *LAYOUT)))}"
        )

    def value(self, index=0):
        """An input that is computed from the network's input."""
        found = self.inputs[index]
        if not isinstance(found, Value):
            raise self.refuse(f"input {index} must depend on the network's input")
        return found

    def constant(self, index, default=None):
        """An input that is constant."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None and default is None:
            raise self.refuse(f"input {index} is missing")
        if isinstance(found, Value):
            raise self.refuse(f"input {index} must be constant")
        found = np.asarray(default if found is None else found)
        if found.dtype.kind != "O":
            return found
        self.rounded = True
        return rounded(self, found)

    def nearest(self, exact):
        """An array of fractions, in float64 if need be rounded once."""
        exact = settled(exact)
        if exact.dtype.kind != "O":
            return exact
        self.rounded = True
        return rounded(self, exact)

    def image(self):
        """Input 0 as `(value, (height, width, channels))`, in the graph's layout of images."""
        x = self.value()
        if x.places.ndim != 4 or x.places.shape[0] != 1:
            raise self.refuse(f"the input must be one 2-D image. Received: {x.places.shape}")
        _, channels, height, width = x.places.shape
        x = self.arranged(x, image_places(height, width, channels), (height, width, channels))
        return x, (height, width, channels)

    def in_order(self, x):
        """A value as a vector, its entries in the order of ONNX."""
        return self.arranged(x, np.arange(x.places.size), (x.places.size,))

    def arranged(self, x, targets, shape):
        """A value whose entries, all or some or several times, stand where they are wanted.

        Args:
            x: `Value`; its places may be any coordinates of the graph's tensor.
            targets: Integer array as large as the places, a permutation: where entries should be.
            shape: Shape of the graph's tensor of the result.
        """
        targets = targets.reshape(x.places.shape)
        size = int(np.prod(x.shape))
        if size == targets.size and np.array_equal(x.places, targets):
            return x.reshaped(shape)
        node = _moved_pixels(x, targets, shape)
        if node is not None:
            return x.then(node, places=targets)
        kernel = self.zeros(size, targets.size)
        kernel[x.places.ravel(), targets.ravel()] = 1
        dense = Dense(kernel, np.zeros(targets.size))
        return x.reshaped((size,)).then(dense, places=targets).reshaped(shape)

    def zeros(self, rows, columns):
        """A matrix of zeros for what no small convolution does."""
        if rows * columns > MOST:
            raise self.refuse(f"it takes a matrix of {rows} x {columns}, which is too large")
        return np.zeros((rows, columns))


def _moved_pixels(x, targets, shape):
    """A small convolution for chosen channels, or for rows and columns at steps; else `None`."""
    if len(x.shape) != 3 or len(shape) != 3:
        return None
    source = np.empty(shape, int)
    source.ravel()[targets.ravel()] = x.places.ravel()
    (height, width, channels), (rows, columns, _) = x.shape, shape
    pixels, picks = source[..., 0] // channels, source[0, 0] % channels
    down, right = pixels[:, 0] // width, pixels[0] % width
    spelt = (down[:, None, None] * width + right[None, :, None]) * channels + picks
    steps = [np.unique(np.diff(side)) for side in (down, right)]
    if not np.array_equal(source, spelt) or any(len(s) > 1 or np.any(s < 1) for s in steps):
        return None
    strides = tuple(int(s[0]) if len(s) else 1 for s in steps)
    size = height - strides[0] * (rows - 1), width - strides[1] * (columns - 1)
    kernel = np.zeros((*size, channels, len(picks)))
    kernel[down[0], right[0], picks, np.arange(len(picks))] = 1
    return Conv(kernel, np.zeros(len(picks)), x.shape, strides)


def image_places(height, width, channels):
    """Places of an image `(1, channels, height, width)` in a graph."""
    order = np.arange(height * width * channels).reshape(1, height, width, channels)
    return order.transpose(0, 3, 1, 2)

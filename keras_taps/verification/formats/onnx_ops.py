"""What each ONNX operator means as nodes of a graph; one input at a time, in inference.

It is long because it has an entry for each operator.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from keras_taps.verification.formats.onnx_activations import ACTIVATIONS, as_silu
from keras_taps.verification.formats.onnx_constants import SMALLEST, fractions, rounded, settled
from keras_taps.verification.graph.nodes import (
    Conv,
    Dense,
    MaxPool,
    Reshape,
    Scale,
    Sum,
    same_padding,
)

# These only move entries: the reference implementation moves their places instead.
LAYOUT = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


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

    Attributes:
        rounded: Whether a number was rounded to make nodes of it.
    """

    def __init__(self, node, inputs, attributes):
        self.node, self.inputs, self.attributes = node, inputs, attributes
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
        if not np.array_equal(x.places, image_places(height, width, channels)):
            raise self.refuse("the input was permuted and is not an image of channels any more")
        return x.reshaped((height, width, channels)), (height, width, channels)


def image_places(height, width, channels):
    """Places of an image `(1, channels, height, width)` in a graph."""
    order = np.arange(height * width * channels).reshape(1, height, width, channels)
    return order.transpose(0, 3, 1, 2)


def _dense(x, kernel, bias, places):
    """A Dense node whose kernel has rows in ONNX order."""
    rows = np.empty(kernel.shape)
    rows[x.places.ravel()] = kernel
    return x.reshaped((len(rows),)).then(Dense(rows, bias), places=places)


def _matrix(call, kernel, bias, shape):
    x = call.value()
    if x.places.size != x.places.shape[-1] or kernel.shape[:-1] != (x.places.size,):
        raise call.refuse(f"cannot multiply {x.places.shape} by {kernel.shape}")
    return _dense(x, kernel, bias, np.arange(kernel.shape[1]).reshape(shape))


def gemm(call):
    if call.get("transA", 0):
        raise call.refuse("transA must be 0")
    kernel = call.constant(1)
    kernel = _times(call, "alpha", kernel.T if call.get("transB", 0) else kernel)
    bias = _times(call, "beta", call.constant(2, 0.0))
    return _matrix(call, kernel, np.broadcast_to(bias, (1, kernel.shape[1]))[0], (1, -1))


def _times(call, name, constant):
    factor = call.get(name, 1.0)
    return constant if factor == 1 else call.nearest(fractions(constant) * Fraction(factor))


def matmul(call):
    if isinstance(call.inputs[0], Value):
        kernel = call.constant(1)
        shape = (*call.value().places.shape[:-1], -1)
        return _matrix(call, kernel, np.zeros(kernel.shape[-1]), shape)
    kernel, x = call.constant(0), call.value(1)
    if kernel.ndim != 2 or x.places.shape not in {kernel.shape[1:], (kernel.shape[1], 1)}:
        raise call.refuse(f"cannot multiply {kernel.shape} by {x.places.shape}")
    places = np.arange(len(kernel)).reshape(-1, *x.places.shape[1:])
    return _dense(x, kernel.T, np.zeros(len(kernel)), places)


def _affine(call, x, scale, shift, magnitude=None):
    """`scale * x + shift` for arrays that broadcast with the ONNX tensor."""
    try:
        shape = np.broadcast_shapes(x.places.shape, np.shape(scale), np.shape(shift))
    except ValueError as error:
        raise call.refuse(error) from None
    if math.prod(shape) != x.places.size:
        raise call.refuse(f"the constant repeats the tensor {x.places.shape} to {shape}")
    x = x.then(places=x.places.reshape(shape))
    magnitude = np.abs(shift) if magnitude is None else magnitude
    return x.then(
        Scale(x.to_graph(scale), x.to_graph(shift), x.shape, x.to_graph(magnitude)),
    )


def _elementwise(scale_and_shift):
    """An operator on a value and a constant, from `(call, constant, it is left) -> (a, b)`."""

    def translate(call):
        left = not isinstance(call.inputs[0], Value)
        x, constant = call.value(int(left)), call.constant(int(not left))
        return _affine(call, x, *scale_and_shift(call, constant, left))

    return translate


def _divide(call, constant, left):
    if left:
        raise call.refuse("a constant divided by a tensor is not affine")
    if not np.all(constant):
        raise call.refuse("a division is by zero")
    return call.nearest(1 / fractions(constant)), 0.0


_add_constant = _elementwise(lambda call, constant, left: (1.0, constant))


def add(call):
    if not all(isinstance(side, Value) for side in call.inputs):
        return _add_constant(call)
    left, right = call.inputs
    if not np.array_equal(left.places, right.places):
        raise call.refuse("two branches are added in different shapes or orders of entries")
    if left.shape != right.shape:
        flat = (left.places.size,)
        left, right = left.reshaped(flat), right.reshaped(flat)
    # Values share the very nodes of their common past; the sum starts where they part.
    pairs = zip(left.nodes, right.nodes, strict=False)
    parted = [i for i, (a, b) in enumerate(pairs) if a is not b]
    split = parted[0] if parted else min(len(left.nodes), len(right.nodes))
    root = replace(left, nodes=left.nodes[:split])
    both = Sum(root.shape, (left.nodes[split:], right.nodes[split:]))
    return root.then(both, places=left.places)


_multiply_by_constant = _elementwise(lambda call, constant, left: (constant, 0.0))


def multiply(call):
    if all(isinstance(side, Value) for side in call.inputs):
        found = as_silu(*call.inputs)
        if found is not None:
            return found
    return _multiply_by_constant(call)


def batch_normalization(call):
    if call.get("training_mode", 0) or not call.get("spatial", 1):
        raise call.refuse("only inference, with statistics a channel")
    x = call.value()
    shape = (-1,) + (1,) * (x.places.ndim - 2)
    gamma, beta, mean, variance = (call.constant(i).reshape(shape) for i in range(1, 5))
    call.rounded = True
    scale = gamma / np.sqrt(variance + call.get("epsilon", float(np.float32(1e-5))))
    shift = scale * mean
    for product, factors in ((scale, gamma), (shift, scale * (mean != 0))):
        if np.any((np.abs(product) < SMALLEST) & (factors != 0)):
            raise call.refuse("a scale is too small for float64")
    return _affine(call, x, scale, beta - shift, np.abs(beta) + np.abs(shift))


def _window(call, sides, size):
    """`(strides, padding, dilation)` of a convolution or a pooling over `sides`."""
    strides = tuple(call.get("strides", (1, 1)))
    dilation = tuple(call.get("dilations", (1, 1)))
    for name, pair in (("strides", strides), ("dilations", dilation), ("the window", size)):
        if len(pair) != 2 or min(pair) < 1:
            raise call.refuse(f"{name} must be 2 numbers from 1. Received: {list(pair)}")
    pads, auto = call.get("pads", (0, 0, 0, 0)), call.get("auto_pad", "NOTSET")
    if len(pads) != 4:
        raise call.refuse(f"pads must be 4 numbers. Received: {list(pads)}")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise call.refuse(f"unknown auto_pad {auto!r}")
    pads = (0, 0, 0, 0) if auto == "VALID" else pads
    padding = ((pads[0], pads[2]), (pads[1], pads[3]))
    if auto.startswith("SAME_"):
        padding = same_padding(sides, size, strides, dilation)
    if auto == "SAME_LOWER":
        padding = tuple(pair[::-1] for pair in padding)
    if np.min(padding) < 0:
        raise call.refuse(f"pads must not be negative. Received: {list(pads)}")
    spans = zip(sides, size, padding, dilation, strict=True)
    if any(n + sum(p) < d * (k - 1) + 1 for n, k, p, d in spans):
        raise call.refuse(f"the window {tuple(size)} is larger than the padded input {sides}")
    return strides, padding, dilation


def conv(call):
    if call.value().places.ndim != 4 or call.constant(1).ndim != 4:
        raise call.refuse("only 2-D convolutions")
    kernel = call.constant(1).transpose(2, 3, 1, 0)
    bias = call.constant(2, np.zeros(kernel.shape[-1]))
    x, shape = call.image()
    groups = call.get("group", 1)
    if groups < 1 or tuple(call.get("kernel_shape", kernel.shape[:2])) != kernel.shape[:2]:
        raise call.refuse("its group or kernel_shape does not fit its weights")
    if kernel.shape[2] * groups != shape[-1] or kernel.shape[3] % groups:
        raise call.refuse(f"weights {call.constant(1).shape} do not fit {x.places.shape}")
    strides, padding, dilation = _window(call, shape[:2], kernel.shape[:2])
    node = Conv(kernel, bias, shape, strides, padding, dilation, groups)
    return x.then(node, places=image_places(*node.out_shape))


def _each_channel(x, kernel, strides=(1, 1), padding=((0, 0), (0, 0))):
    """One small kernel `(height, width)` on each channel alone."""
    channels = x.shape[-1]
    kernel = np.broadcast_to(kernel[..., None, None], (*kernel.shape, 1, channels))
    node = Conv(kernel, np.zeros(channels), x.shape, strides, padding, groups=channels)
    return x.then(node, places=image_places(*node.out_shape))


def pad(call):
    x = call.value()
    pads = call.get("pads", None)
    pads = np.ravel(call.constant(1) if pads is None else pads).astype(int)
    axes = np.ravel(call.constant(3, np.arange(x.places.ndim))) % x.places.ndim
    widths = np.zeros((2, x.places.ndim), int)
    widths[:, axes] = pads.reshape(2, -1)
    if not widths.any():
        return x
    if call.get("mode", "constant") != "constant" or np.any(call.constant(2, call.get("value", 0))):
        raise call.refuse("only padding with constant zeros")
    x, _ = call.image()
    if widths.min() < 0 or widths[:, :2].any():
        raise call.refuse(f"only height and width can grow. Received: pads {pads.tolist()}")
    return _each_channel(x, np.ones((1, 1)), padding=tuple(map(tuple, widths.T[2:].tolist())))


def _pool(call):
    """`(value, shape, size, strides, padding)` of a pooling without dilation."""
    x, shape = call.image()
    size = tuple(call.get("kernel_shape", ()))
    strides, padding, dilation = _window(call, shape[:2], size)
    if dilation != (1, 1):
        raise call.refuse(f"dilations must be 1. Received: {list(dilation)}")
    if any(max(p) >= k for p, k in zip(padding, size, strict=True)):
        raise call.refuse(f"pads {padding} leave a window of {size} without an entry")
    spans = zip(shape, size, strides, padding, strict=False)
    if call.get("ceil_mode", 0) and any((n + sum(p) - k) % s for n, k, s, p in spans):
        raise call.refuse("ceil_mode must be 0, since it changes the size here")
    return x, shape, size, strides, padding


def average_pool(call):
    x, shape, size, strides, padding = _pool(call)
    area = math.prod(size)
    if call.get("count_include_pad", 0) or not np.any(padding):
        return _each_channel(x, _share(call, np.full(size, area)), strides, padding)
    ones = Conv(np.ones((*size, 1, 1)), np.zeros(1), (*shape[:2], 1), strides, padding)
    count = ones(np.ones((1, *shape[:2], 1)))[0]
    x = _each_channel(x, np.ones(size), strides, padding)
    return x.then(Scale(_share(call, count), np.zeros(1), x.shape))


def global_average_pool(call):
    x, (height, width, _) = call.image()
    return _each_channel(x, _share(call, np.full((height, width), height * width)))


def _share(call, count):
    """`1 / count`, which float64 holds for powers of 2."""
    call.rounded = call.rounded or bool(np.any(np.frexp(count)[0] != 0.5))
    return 1 / count


def max_pool(call):
    x, shape, size, strides, padding = _pool(call)
    node = MaxPool(shape, size, strides, padding)
    return x.then(node, places=image_places(*node.out_shape))


OPS = {
    **ACTIVATIONS,
    "Add": add,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Conv": conv,
    "Div": _elementwise(_divide),
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Mul": multiply,
    "Pad": pad,
    "Sub": _elementwise(
        lambda call, constant, left: (-1.0, constant) if left else (1.0, -constant)
    ),
}

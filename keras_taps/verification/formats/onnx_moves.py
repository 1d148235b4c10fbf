"""What ONNX operators mean that move, choose, join or add tensors, as nodes of a graph."""

from dataclasses import replace

import numpy as np
from onnx import TensorProto

from keras_taps.verification.formats.onnx_values import image_places
from keras_taps.verification.graph.activations import scale, steep
from keras_taps.verification.graph.nodes import Conv, Dense, Sum


def negative(x):
    """Minus a value."""
    return x.then(scale(x.shape, -1.0))


def added(call, left, right):
    """The sum of two values of one shape."""
    if left.places.shape != right.places.shape:
        raise call.refuse(f"tensors of shapes {left.places.shape} and {right.places.shape}")
    if not np.array_equal(left.places, right.places) or left.shape != right.shape:
        left, right = ordered(call, left), ordered(call, right)
    # Values share the very nodes of their common past; the sum starts where they part.
    pairs = zip(left.nodes, right.nodes, strict=False)
    parted = [i for i, (a, b) in enumerate(pairs) if a is not b]
    split = parted[0] if parted else min(len(left.nodes), len(right.nodes))
    root = replace(left, nodes=left.nodes[:split])
    both = Sum(root.shape, (left.nodes[split:], right.nodes[split:]))
    return root.then(both, places=left.places)


def _layout(shape):
    """`(targets, graph's shape)` of a tensor: images have channels last."""
    if len(shape) == 4 and shape[0] == 1:
        _, channels, height, width = shape
        return image_places(height, width, channels), (height, width, channels)
    size = int(np.prod(shape))
    return np.arange(size).reshape(shape), (size,)


def ordered(call, x):
    """A value laid out as all tensors of its shape are."""
    return call.arranged(x, *_layout(x.places.shape))


def picked(call, x, places):
    """The value that consists of the entries at these coordinates."""
    found = np.asarray(places)
    whole = np.rint(found).astype(int)
    if not found.size or not np.array_equal(found, whole) or not np.isin(whole, x.places).all():
        raise call.refuse("it must choose entries of its input")
    return ordered(call, x.then(places=whole))


def split(call):
    """All outputs of `Split`."""
    x = call.value()
    axis = call.get("axis", 0)
    if not -x.places.ndim <= axis < x.places.ndim:
        raise call.refuse(f"there is no axis {axis}")
    size, count = x.places.shape[axis], call.get("num_outputs", len(call.node.output))
    sizes = call.get("split", None)
    if sizes is None:
        step = -(-size // count)
        sizes = call.constant(1, np.diff([*range(0, size, step), size]))
    sizes = np.ravel(sizes).astype(int)
    if sizes.sum() != size or len(sizes) != len(call.node.output) or sizes.min() < 1:
        raise call.refuse(f"its parts {sizes.tolist()} do not make {size}")
    parts = np.split(x.places, np.cumsum(sizes)[:-1], axis)
    return [picked(call, x, part) for part in parts]


def concat(call):
    """Each part is put where it belongs, with zeros elsewhere, and all are added."""
    parts = [call.value(i) for i in range(len(call.inputs))]
    axis, shapes = call.get("axis", 0), [part.places.shape for part in parts]
    try:
        shape = np.concatenate([part.places for part in parts], axis).shape
    except ValueError as error:
        raise call.refuse(error) from None
    ends = np.cumsum([each[axis] for each in shapes])
    targets, out = _layout(shape)
    total = None
    for part, place in zip(parts, np.split(targets, ends[:-1], axis), strict=True):
        part = _placed(call, part, place, out, targets)
        total = part if total is None else added(call, total, part)
    return total


def _placed(call, part, place, out, targets):
    """A value whose entries stand at `place` of a larger tensor; the others are 0."""
    if len(out) == 3 and place.shape[2:] == targets.shape[2:]:
        part = ordered(call, part)
        channels = place[0, :, 0, 0]
        kernel = np.zeros((1, 1, len(channels), out[-1]))
        kernel[0, 0, np.arange(len(channels)), channels] = 1
        return part.then(Conv(kernel, np.zeros(out[-1]), part.shape), places=targets)
    kernel = call.zeros(part.places.size, targets.size)
    kernel[part.places.ravel(), place.ravel()] = 1
    dense = Dense(kernel, np.zeros(targets.size))
    part = part.reshaped((part.places.size,)).then(dense, places=targets)
    return part.reshaped(out)


def absolute(call):
    x = call.value()
    return x.then(steep(x.shape, -1.0))


# These choose entries of their input: the reference implementation chooses their places.
PICKS = ("DepthToSpace", "Expand", "Gather", "Slice", "SpaceToDepth", "Tile")


def _pick(call):
    others = [None if i is None else call.constant(n + 1) for n, i in enumerate(call.inputs[1:])]
    return picked(call, call.value(), call.reference([call.value().places, *others]))


def resize(call):
    """Pixels repeated or left out: the nearest ones."""
    if call.get("mode", "nearest") != "nearest":
        raise call.refuse("only the mode nearest")
    return _pick(call)


def conv_transpose(call):
    """The matrix is what the reference implementation makes of each pixel alone: single weights."""
    x, kernel, bias = call.in_order(call.value()), call.constant(1), call.constant(2, np.zeros(0))
    shape, size = call.value().places.shape, x.places.size
    pixels = call.zeros(size, size)
    np.fill_diagonal(pixels, 1)
    given = [kernel, np.zeros_like(bias)][: len(call.inputs) - 1]
    targets, out = _layout(call.reference([np.zeros(shape), *given]).shape)
    matrix = call.zeros(size, targets.size)
    whole = call.reference([pixels.reshape(size, *shape[1:]), *given])
    matrix[:, targets.ravel()] = whole.reshape(size, -1)
    channels = (1, -1) + (1,) * (whole.ndim - 2)
    added = np.zeros(targets.size)
    added[targets] = bias.reshape(channels) if bias.size else 0.0
    return x.then(Dense(matrix, added), places=targets).reshaped(out)


def cast(call):
    """Between float32 and float64, both of which stand for the reals."""
    if call.get("to", 0) not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        raise call.refuse("only to float32 or float64")
    return call.value()


MOVES = {
    "Abs": absolute,
    "Cast": cast,
    "Concat": concat,
    "ConvTranspose": conv_transpose,
    "Resize": resize,
    "Split": split,
    **dict.fromkeys(PICKS, _pick),
}

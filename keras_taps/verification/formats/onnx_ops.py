"""What each ONNX operator means as nodes of a graph; one input at a time, in inference.

It is long because it has an entry for each operator.
"""

import math
from fractions import Fraction

import numpy as np

from keras_taps.verification.formats.onnx_activations import ACTIVATIONS, as_gated, as_softsign
from keras_taps.verification.formats.onnx_constants import SMALLEST, fractions
from keras_taps.verification.formats.onnx_moves import MOVES, added, negative
from keras_taps.verification.formats.onnx_values import OPS, Call, Value, image_places
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Scale, same_padding


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
        kernel, places = call.constant(1), call.value().places
        if places.size != places.shape[-1] and kernel.shape[:-1] == places.shape[-1:]:
            return _each_row(call, kernel)
        return _matrix(call, kernel, np.zeros(kernel.shape[-1]), (*places.shape[:-1], -1))
    kernel, x = call.constant(0), call.value(1)
    if kernel.ndim != 2 or x.places.shape not in {kernel.shape[1:], (kernel.shape[1], 1)}:
        raise call.refuse(f"cannot multiply {kernel.shape} by {x.places.shape}")
    places = np.arange(len(kernel)).reshape(-1, *x.places.shape[1:])
    return _dense(x, kernel.T, np.zeros(len(kernel)), places)


def _each_row(call, kernel):
    """The same matrix for each row of a tensor of more axes, as a convolution of single pixels."""
    places = call.value().places
    x = call.in_order(call.value()).reshaped((places.size // len(kernel), 1, len(kernel)))
    node = Conv(kernel[None, None], np.zeros(kernel.shape[1]), x.shape)
    shape = (*places.shape[:-1], kernel.shape[1])
    return x.then(node, places=np.arange(math.prod(shape)).reshape(shape))


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


_divide_by_constant = _elementwise(_divide)


def divide(call):
    if all(isinstance(side, Value) for side in call.inputs):
        found = as_softsign(*call.inputs)
        if found is not None:
            return found
    return _divide_by_constant(call)


_add_constant = _elementwise(lambda call, constant, left: (1.0, constant))


def add(call):
    if all(isinstance(side, Value) for side in call.inputs):
        return added(call, *call.inputs)
    return _add_constant(call)


_subtract_constant = _elementwise(
    lambda call, constant, left: (-1.0, constant) if left else (1.0, -constant)
)


def subtract(call):
    if all(isinstance(side, Value) for side in call.inputs):
        return added(call, call.inputs[0], negative(call.inputs[1]))
    return _subtract_constant(call)


def _largest(sign):
    """`Max`, or `Min` as minus the largest of minus its inputs: b + relu(a - b)."""

    def translate(call):
        sides = [
            (negative(side) if isinstance(side, Value) else -call.constant(i)) if sign < 0 else side
            for i, side in enumerate(call.inputs)
        ]
        best, *others = sorted(sides, key=lambda side: not isinstance(side, Value))
        for other in others:
            if isinstance(other, Value):
                over = added(call, best, negative(other))
                best = added(call, other, over.then(Relu(over.shape)))
            else:
                over = _affine(call, best, 1.0, -np.asarray(other))
                best = _affine(call, over.then(Relu(over.shape)), 1.0, other)
        return negative(best) if sign < 0 else best

    return translate


_multiply_by_constant = _elementwise(lambda call, constant, left: (constant, 0.0))


def multiply(call):
    if all(isinstance(side, Value) for side in call.inputs):
        found = as_gated(call, *call.inputs)
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


def _on_signals(read):
    """An operator on images that takes signals as images of one column."""
    doubled = {"strides": [1], "dilations": [1], "kernel_shape": [1]}

    def widened(name, value):
        if name == "pads" and len(value) == 2:
            return [value[0], 0, value[1], 0]
        return [*value, *doubled[name]] if name in doubled and len(value) == 1 else value

    def translate(call):
        x = call.value()
        if x.places.ndim != 3:
            return read(call)
        weights = [w[..., None] if np.ndim(w) == 3 else w for w in call.inputs[1:]]
        attributes = {name: widened(name, value) for name, value in call.attributes.items()}
        wide = Call(call.node, [x.then(places=x.places[..., None]), *weights], attributes)
        found = read(wide)
        call.rounded = wide.rounded
        return found.then(places=found.places[..., 0])

    return translate


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
        raise call.refuse("only 1-D and 2-D convolutions")
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


def _axes(call, x):
    """Axes that are reduced, and the shape with sides of 1 there."""
    axes = call.get("axes", None)
    axes = np.ravel(call.constant(1, np.arange(0)) if axes is None else axes).astype(int)
    if not axes.size and call.get("noop_with_empty_axes", 0):
        raise call.refuse("no axes are reduced")
    axes = set((axes % x.places.ndim).tolist()) or set(range(x.places.ndim))
    return axes, [1 if axis in axes else n for axis, n in enumerate(x.places.shape)]


def _reduced(call, found, kept, axes):
    """The result without the axes, if so it is asked."""
    shape = kept if call.get("keepdims", 1) else [n for a, n in enumerate(kept) if a not in axes]
    return found.then(places=found.places.reshape(shape))


def _is_image(x, axes):
    return x.places.ndim == 4 and len(x.places) == 1 and axes == {2, 3}


def _sums(call, share):
    """Sums times a share over axes: a convolution on images, else a matrix."""
    x = call.value()
    axes, kept = _axes(call, x)
    count = x.places.size // math.prod(kept)
    factor = _share(call, np.full((), count)) if share else np.ones(())
    if _is_image(x, axes):
        x, (height, width, _) = call.image()
        return _reduced(call, _each_channel(x, np.full((height, width), factor)), kept, axes)
    sums = np.arange(math.prod(kept)).reshape(kept)
    kernel = call.zeros(x.places.size, sums.size)
    kernel[x.places, np.broadcast_to(sums, x.places.shape)] = factor
    dense = Dense(kernel, np.zeros(sums.size))
    found = x.reshaped((x.places.size,)).then(dense, places=sums)
    return _reduced(call, found, kept, axes)


def reduce_sum(call):
    return _sums(call, share=False)


def reduce_mean(call):
    return _sums(call, share=True)


def reduce_max(call):
    axes, kept = _axes(call, call.value())
    if not _is_image(call.value(), axes):
        raise call.refuse("only over height and width of an image")
    x, (height, width, channels) = call.image()
    node = MaxPool(x.shape, (height, width), (1, 1))
    return _reduced(call, x.then(node, places=image_places(1, 1, channels)), kept, axes)


OPS |= {
    **ACTIVATIONS,
    **MOVES,
    "Add": add,
    "AveragePool": _on_signals(average_pool),
    "BatchNormalization": batch_normalization,
    "Conv": _on_signals(conv),
    "Div": divide,
    "Gemm": gemm,
    "GlobalAveragePool": _on_signals(global_average_pool),
    "MatMul": matmul,
    "Max": _largest(1),
    "MaxPool": _on_signals(max_pool),
    "Min": _largest(-1),
    "Mul": multiply,
    "Neg": lambda call: negative(call.value()),
    "Pad": pad,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "ReduceSum": reduce_sum,
    "Sub": subtract,
}

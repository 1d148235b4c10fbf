"""The nodes of a graph: affine maps, ReLUs, max pooling and sums, in float64 NumPy.

All kinds are in one long file, the vocabulary of every other room.
"""

from dataclasses import dataclass, replace

import numpy as np

_PRODUCT = 2**18  # numbers of a product that the caches hold


class Linear:
    """Base of the affine nodes: `apply` without bias, its transpose, and what rounding needs.

    Attributes every subclass has: `in_shape` and `out_shape` (one sample), `bias` (broadcasts with
    the outputs), `magnitude` (at least the sum of absolute values from which the bias was folded)
    and `terms`, the most summands of an output or of an entry of the transpose.
    """

    def __call__(self, x):
        """Outputs `(batch, ...)` for inputs `(batch, ...)`."""
        return self.apply(x) + self.bias

    def absolute(self):
        """The node with every coefficient replaced by its absolute value, and no bias."""
        raise NotImplementedError


@dataclass(frozen=True)
class Dense(Linear):
    """`x @ kernel + bias`.

    Args:
        kernel: Array `(inputs, outputs)`.
        bias: Array `(outputs,)`.
        magnitude: Array `(outputs,)`, by default `|bias|`.
    """

    kernel: np.ndarray
    bias: np.ndarray
    magnitude: np.ndarray = None

    def __post_init__(self):
        _settle(self)

    @property
    def in_shape(self):
        return self.kernel.shape[:1]

    @property
    def out_shape(self):
        return self.kernel.shape[1:]

    @property
    def terms(self):
        return max(self.kernel.shape)

    def apply(self, x):
        return x @ self.kernel

    def transpose(self, rows):
        return rows @ self.kernel.T

    def absolute(self):
        return _bare(self, kernel=np.abs(self.kernel))

    def scaled(self, scale, shift, magnitude):
        """The node followed by `scale * y + shift`."""
        return _scaled(self, scale, shift, magnitude)


@dataclass(frozen=True)
class Conv(Linear):
    """Convolution with explicit zero padding.

    Args:
        kernel: Array `(height, width, inputs / groups, outputs)`.
        bias: Array `(outputs,)`.
        in_shape: `(height, width, channels)` of one input.
        strides: Pair.
        padding: `((top, bottom), (left, right))`.
        dilation: Pair.
        groups: Number of groups of channels.
        magnitude: Array `(outputs,)`, by default `|bias|`.
    """

    kernel: np.ndarray
    bias: np.ndarray
    in_shape: tuple
    strides: tuple = (1, 1)
    padding: tuple = ((0, 0), (0, 0))
    dilation: tuple = (1, 1)
    groups: int = 1
    magnitude: np.ndarray = None

    def __post_init__(self):
        _settle(self)

    @property
    def out_shape(self):
        sides = zip(
            self.in_shape,
            self.kernel.shape,
            self.strides,
            self.padding,
            self.dilation,
            strict=False,
        )
        return (
            *((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides),
            self.kernel.shape[-1],
        )

    @property
    def only_pads(self):
        """Whether it does nothing but surround images with zeros."""
        channels = self.in_shape[-1]
        return (
            self.groups == channels
            and self.kernel.shape == (1, 1, 1, channels)
            and self.strides == (1, 1)
            and np.all(self.kernel == 1)
            and not np.any(self.bias)
        )

    @property
    def terms(self):
        height, width, inputs, outputs = self.kernel.shape
        return height * width * max(inputs, outputs // self.groups)

    def apply(self, x):
        x = np.pad(x, ((0, 0), *self.padding, (0, 0)))
        if self.groups == 1:
            return self._windows(x)
        return sum(
            self._channels(x[:, rows, columns], taps)
            for (rows, columns), taps in self._taps(self.out_shape)
        )

    def _windows(self, x):
        """One matrix product: small images spend their time in calls, not in numbers."""
        size = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel.shape, strict=False)]
        view = np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2))
        (down, right), (rows, columns) = self.strides, self.dilation
        view = view[:, ::down, ::right, :, ::rows, ::columns]
        return np.tensordot(view, np.moveaxis(self.kernel, 2, 0), 3)

    def transpose(self, rows):
        (top, _), (left, _) = self.padding
        height, width, _ = self.in_shape
        out = self.spread(rows)
        # Strides may leave the last inputs out.
        missing = top + height - out.shape[1], left + width - out.shape[2]
        if max(missing) > 0:
            out = np.pad(out, ((0, 0), *((0, max(n, 0)) for n in missing), (0, 0)))
        return out[:, top : top + height, left : left + width]

    def spread(self, rows):
        """The transpose of rows `(n, rows, columns, outputs)` of any size, without a border."""
        count, *shape = rows.shape[:3]
        sides = zip(shape, self.strides, self.kernel.shape, self.dilation, strict=False)
        size = [s * (n - 1) + d * (k - 1) + 1 for n, s, k, d in sides]
        out = np.zeros((count, *size, self.in_shape[-1]))
        if self.groups > 1:
            for window, taps in self._taps(shape):
                out[:, window[0], window[1]] += self._channels(rows, np.swapaxes(taps, -1, -2))
            return out
        matrix = np.moveaxis(self.kernel, -1, 0).reshape(self.kernel.shape[-1], -1)
        windows = [window for window, _ in self._taps(shape)]
        each = shape[0] * shape[1]
        chunk = max(1, min(_PRODUCT // (each * matrix.shape[1]), count))
        product = np.empty((chunk * each, matrix.shape[1]))
        for start in range(0, count, chunk):
            part, mine = rows[start : start + chunk], out[start : start + chunk]
            part = part.reshape(-1, part.shape[-1])
            found = np.matmul(part, matrix, out=product[: len(part)])
            found = found.reshape(len(mine), *shape, len(windows), -1)
            for tap, window in enumerate(windows):
                mine[:, window[0], window[1]] += found[..., tap, :]
        return out

    def _taps(self, shape):
        """Each offset of the kernel: the inputs it meets for outputs of a shape, its matrices."""
        rows, columns = shape[:2]
        height, width, inputs, outputs = self.kernel.shape
        for i in range(height):
            for j in range(width):
                starts = i * self.dilation[0], j * self.dilation[1]
                window = tuple(
                    slice(start, start + stride * (count - 1) + 1, stride)
                    for start, stride, count in zip(
                        starts, self.strides, (rows, columns), strict=True
                    )
                )
                taps = self.kernel[i, j].reshape(inputs, self.groups, outputs // self.groups)
                yield window, np.swapaxes(taps, 0, 1)

    def _channels(self, x, taps):
        if self.groups == 1:
            return x @ taps[0]
        split = x.reshape(*x.shape[:-1], self.groups, 1, x.shape[-1] // self.groups)
        found = split @ taps
        return found.reshape(*x.shape[:-1], self.groups * found.shape[-1])  # also of no rows

    def absolute(self):
        return _bare(self, kernel=np.abs(self.kernel))

    def scaled(self, scale, shift, magnitude):
        """The node followed by `scale * y + shift`, a number a channel."""
        return _scaled(self, scale, shift, magnitude)


@dataclass(frozen=True)
class Scale(Linear):
    """`scale * x + shift`, coordinate by coordinate.

    Args:
        scale: Array that broadcasts with one input.
        bias: The shift, an array that broadcasts with one input.
        in_shape: Shape of one input.
        magnitude: By default `|bias|`.
    """

    scale: np.ndarray
    bias: np.ndarray
    in_shape: tuple
    magnitude: np.ndarray = None
    terms = 1

    def __post_init__(self):
        _settle(self)

    @property
    def out_shape(self):
        return self.in_shape

    def apply(self, x):
        return x * self.scale

    transpose = apply

    def absolute(self):
        return _bare(self, scale=np.abs(self.scale))


@dataclass(frozen=True)
class Reshape(Linear):
    """Another shape of the same numbers.

    Args:
        in_shape: Shape of one input.
        out_shape: Shape of one output.
    """

    in_shape: tuple
    out_shape: tuple
    bias = magnitude = np.zeros(())
    terms = 0

    def apply(self, x):
        return x.reshape(-1, *self.out_shape)

    def transpose(self, rows):
        return rows.reshape(-1, *self.in_shape)

    def absolute(self):
        return self


@dataclass(frozen=True)
class Relu:
    """`max(x, slope * x)`: a ReLU, or a leaky one.

    Args:
        in_shape: Shape of one input.
        slope: Number in [0, 1].
    """

    in_shape: tuple
    slope: float = 0.0

    def __post_init__(self):
        if not 0 <= self.slope <= 1:
            raise ValueError(f"`slope` must be a number in [0, 1]. Received: slope={self.slope!r}")

    @property
    def out_shape(self):
        return self.in_shape

    def __call__(self, x):
        return np.maximum(x, self.slope * x)


@dataclass(frozen=True)
class MaxPool:
    """Largest entry of each window; padding never wins.

    Args:
        in_shape: `(height, width, channels)` of one input.
        size: Pair, the window.
        strides: Pair.
        padding: `((top, bottom), (left, right))`.
    """

    in_shape: tuple
    size: tuple
    strides: tuple
    padding: tuple = ((0, 0), (0, 0))

    @property
    def out_shape(self):
        sides = zip(self.in_shape, self.size, self.strides, self.padding, strict=False)
        return (*((n + sum(p) - k) // s + 1 for n, k, s, p in sides), self.in_shape[-1])

    def windows(self, x):
        """Array `(batch, height, width, channels, window)` of the entries of each window."""
        x = np.pad(x, ((0, 0), *self.padding, (0, 0)), constant_values=-np.inf)
        view = np.lib.stride_tricks.sliding_window_view(x, self.size, axis=(1, 2))
        view = view[:, :: self.strides[0], :: self.strides[1]]
        return view.reshape(*view.shape[:4], -1)

    def members(self):
        """Integer array `(height, width, channels, window)`: which input each entry is, or -1."""
        places = np.arange(np.prod(self.in_shape), dtype="float64").reshape(1, *self.in_shape)
        windows = self.windows(places)[0]
        return np.where(np.isfinite(windows), windows, -1).astype("int64")

    def __call__(self, x):
        return self.windows(x).max(-1)


@dataclass(frozen=True)
class Sum:
    """Several chains on the same input, summed.

    Args:
        in_shape: Shape of one input.
        branches: Tuple of tuples of nodes; an empty one is the identity.
    """

    in_shape: tuple
    branches: tuple

    @property
    def out_shape(self):
        return next((branch[-1].out_shape for branch in self.branches if branch), self.in_shape)

    def __call__(self, x):
        return sum(walk(branch, x) for branch in self.branches)


def same_padding(shape, size, strides, dilation=(1, 1)):
    """Explicit form of Keras' "same" padding: the odd pixel stands at the end.

    Example:

    >>> same_padding((28, 28), (5, 5), (2, 2))
    ((1, 2), (1, 2))
    """
    pairs = []
    for n, k, s, d in zip(shape, size, strides, dilation, strict=False):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def walk(nodes, x):
    """Pass a batch through a chain of nodes."""
    for node in nodes:
        x = node(x)
    return x


def _scaled(node, scale, shift, magnitude):
    scale, shift, magnitude = (
        np.broadcast_to(np.ravel(v), node.bias.shape) for v in (scale, shift, magnitude)
    )
    return replace(
        node,
        kernel=node.kernel * scale,
        bias=node.bias * scale + shift,
        magnitude=node.magnitude * np.abs(scale) + magnitude,
    )


def _settle(node):
    """Turn the arrays of a node to float64, the shape to plain integers, and fill `magnitude`."""
    for name, value in vars(node).items():
        if isinstance(value, np.ndarray):
            object.__setattr__(node, name, np.asarray(value, "float64"))
    if node.magnitude is None:
        object.__setattr__(node, "magnitude", np.abs(node.bias))


def _bare(node, **changed):
    nothing = np.zeros_like(node.bias)
    return replace(node, bias=nothing, magnitude=nothing, **changed)

"""Convolutions of images on JAX's CPU, with derivatives in the one order of axes that is fast.

XLA has a fast convolution on a CPU for one order of the axes, and brings others into it at the top
level of a program only. Inside a loop or a branch, where attacks run, the derivatives that JAX
derives take ten to forty times as long; so they are written in that order here.
"""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np

# Entries of a row up to which `_by_rows` pays; measured by benchmarks/convolution.py.
_ROW, _BACK_ROW = 40, 128


class _Window(NamedTuple):
    """Sizes of a convolution, each a pair for height and width."""

    image: tuple
    window: tuple
    strides: tuple
    pads: tuple

    @property
    def spread(self):
        """Sizes of the result with its strides between the entries."""
        sizes = zip(self.image, self.window, self.strides, self.pads, strict=True)
        return [(n + sum(pads) - k) // s * s + 1 for n, k, s, pads in sizes]

    def row(self, channels):
        """Entries of a row of pixels, its padding included."""
        return (self.image[1] + sum(self.pads[1])) * channels


# <y, correlate(x, kernel)> is linear in x, in the kernel and in y. Its three gradients are
# these functions, and each one's derivatives are the other two.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _correlate(w, x, kernel):
    if w.row(x.shape[-1]) <= _ROW:
        return _by_rows(w, x, kernel)
    return _convolve(x, kernel, w.pads, strides=w.strides)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _image_gradient(w, kernel, y):
    if w.row(kernel.shape[2]) <= _BACK_ROW:
        x = jax.ShapeDtypeStruct((y.shape[0], *w.image, kernel.shape[2]), y.dtype)
        return jax.linear_transpose(lambda x: _by_rows(w, x, kernel), x)(y)[0]
    turned = jax.numpy.transpose(jax.numpy.flip(kernel, (0, 1)), (0, 1, 3, 2))
    sizes = zip(w.image, w.window, w.pads, w.spread, strict=True)
    pads = [(k - 1 - low, n + low - size) for n, k, (low, _), size in sizes]
    return _convolve(y, turned, pads, lhs_dilation=w.strides)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _kernel_gradient(w, x, y):
    if w.row(x.shape[-1]) <= _ROW:
        kernel = jax.ShapeDtypeStruct((*w.window, x.shape[-1], y.shape[-1]), y.dtype)
        return jax.linear_transpose(lambda kernel: _by_rows(w, x, kernel), kernel)(y)[0]
    sizes = zip(w.image, w.window, w.pads, w.spread, strict=True)
    pads = [(low, k + size - 1 - n - low) for n, k, (low, _), size in sizes]
    x, y = jax.numpy.transpose(x, (3, 1, 2, 0)), jax.numpy.transpose(y, (1, 2, 0, 3))
    return jax.numpy.transpose(_convolve(x, y, pads, rhs_dilation=w.strides), (1, 2, 0, 3))


def _by_rows(w, x, kernel):
    """The convolution as a product of whole rows of pixels: more products, in less time."""
    x = jax.numpy.pad(x, ((0, 0), *w.pads, (0, 0)))
    batch, height, width, channels = x.shape
    (high, wide), (down, right) = w.window, w.strides
    rows, columns = (height - high) // down + 1, (width - wide) // right + 1
    # 1 where a column of the window lies on a column of the image, for a column of the result.
    units = np.eye(width, dtype=x.dtype)
    places = np.stack([units[i : i + columns * right : right] for i in range(wide)])
    band = jax.numpy.einsum("kow,hkcf->hwcof", places, kernel)
    lines = x.reshape(batch, height, width * channels)
    taps = [lines[:, i : i + (rows - 1) * down + 1 : down] for i in range(high)]
    taps = jax.numpy.concatenate(taps, axis=-1).reshape(batch * rows, high * width * channels)
    found = taps @ band.reshape(taps.shape[1], -1)
    return found.reshape(batch, rows, columns, kernel.shape[3])


def _convolve(x, kernel, pads, strides=(1, 1), **dilations):
    return jax.lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), **dilations
    )


def _derive(function, first, second):
    """Give a function its two derivatives, from both arguments and what comes back."""
    function.defvjp(
        lambda w, a, b: (function(w, a, b), (a, b)),
        lambda w, kept, back: (first(w, *kept, back), second(w, *kept, back)),
    )


_derive(
    _correlate,
    lambda w, x, kernel, y: _image_gradient(w, kernel, y),
    lambda w, x, kernel, y: _kernel_gradient(w, x, y),
)
_derive(
    _image_gradient,
    lambda w, kernel, y, x: _kernel_gradient(w, x, y),
    lambda w, kernel, y, x: _correlate(w, x, kernel),
)
_derive(
    _kernel_gradient,
    lambda w, x, y, kernel: _image_gradient(w, kernel, y),
    lambda w, x, y, kernel: _correlate(w, x, kernel),
)


def convolve(x, kernel, strides, padding):
    """A convolution for which `is_plain` holds; arguments as `backend.convolution`."""
    strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
    image, window = x.shape[1:3], kernel.shape[:2]
    pads = padding
    if isinstance(padding, str):
        pads = jax.lax.padtype_to_pads(image, window, strides, padding.upper())
    return _correlate(_Window(image, window, strides, tuple(map(tuple, pads))), x, kernel)


def is_plain(x, kernel, data_format, dilation_rate):
    """Whether a convolution on JAX runs on a CPU, in one precision, without groups or dilation."""
    return (
        isinstance(x, jax.Array)
        and jax.default_backend() == "cpu"
        and data_format == "channels_last"
        and dilation_rate in (1, (1, 1), [1, 1])
        and x.shape[-1] == kernel.shape[2]
        and x.dtype == kernel.dtype
    )

"""The only file that names a backend: what `keras.ops` does not offer, three times."""

from functools import partial
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

NAME = keras.backend.backend()

if NAME == "tensorflow":
    import tensorflow as tf
elif NAME == "jax":
    import jax
elif NAME == "torch":
    import torch
else:
    raise ImportError(
        "keras_taps runs on the TensorFlow, JAX and PyTorch backends of Keras. "
        f"Received: KERAS_BACKEND={NAME!r}"
    )


def input_gradient(function, x):
    """Value of `function` at `x` and the gradient of its sum, with respect to `x` alone.

    Args:
        function: Maps `x` to a tensor of objectives, one or more for each entry of the batch.
        x: Float tensor.

    Returns:
        `(values, gradient)`, shaped like `function(x)` and like `x`.
    """
    if NAME == "tensorflow":
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values = function(x)
        return values, tape.gradient(values, x)
    if NAME == "jax":

        def total(x):
            values = function(x)
            return ops.sum(values), values

        (_, values), gradient = jax.value_and_grad(total, has_aux=True)(x)
        return values, gradient
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values = function(x)
        (gradient,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), gradient


def ascend(points, gradient, step, lower, upper):
    """`clip(points + step * sign(gradient), lower, upper)`; NaN in the gradient moves nothing.

    Between two evaluations of a network a search is bound by memory, so passes over the points
    count: fused on JAX and by XLA on TensorFlow, three of them on PyTorch. Not differentiable.

    Args:
        points: Tensor.
        gradient: Tensor like `points`.
        step: Tensor of lengths >= 0 that broadcasts with `points`, as do the bounds.
        lower: Tensor.
        upper: Tensor.
    """
    if NAME == "torch":
        # torch.sign is 0 at NaN.
        return torch.clamp(torch.addcmul(points, step, torch.sign(gradient)), lower, upper)
    return _ascend(points, gradient, step, lower, upper)


def _ascend(points, gradient, step, lower, upper):
    moved = points + step * ops.where(ops.isnan(gradient), 0.0, ops.sign(gradient))
    return ops.minimum(ops.maximum(moved, lower), upper)


if NAME == "tensorflow":
    _ascend = tf.function(_ascend, autograph=False, reduce_retracing=True, jit_compile=True)
    _ascend._omit_frequent_tracing_warning = True  # see `compiled`


def convolution(x, kernel, strides, padding, data_format, dilation_rate):
    """`keras.ops.conv` of images, without its detours on JAX's CPU and on PyTorch.

    XLA has a fast convolution on a CPU for one order of the axes, and brings others into it at the
    top level of a program only. Inside a loop or a branch, where attacks run, the derivatives
    that JAX derives take ten to forty times as long; so they are written in that order here.

    PyTorch takes channels-last images as they are, but for padding 'same'; Keras copies them.

    Args:
        x: Tensor of a batch of images.
        kernel: Tensor `(height, width, channels in, channels out)`.
        strides, padding, data_format, dilation_rate: As `keras.ops.conv`.
    """
    kernel = ops.convert_to_tensor(kernel)  # JAX's derivatives take no Keras variables
    if NAME == "jax" and _is_plain(x, kernel, data_format, dilation_rate):
        strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
        image, window = x.shape[1:3], kernel.shape[:2]
        pads = jax.lax.padtype_to_pads(image, window, strides, padding.upper())
        return _correlate(_Window(image, window, strides, tuple(pads)), x, kernel)
    if NAME == "torch" and data_format == "channels_last" and padding == "valid":
        x = ops.convert_to_tensor(x)
        first = x.permute(0, 3, 1, 2)
        if x.shape[-1] == 1:  # both orders at once, of which PyTorch must not choose
            first = x.reshape(-1, 1, *x.shape[1:3])
        y = torch.nn.functional.conv2d(
            first,
            kernel.permute(3, 2, 0, 1),
            stride=strides,
            dilation=dilation_rate,
            groups=x.shape[-1] // kernel.shape[2],
        )
        return y.permute(0, 2, 3, 1)
    return ops.conv(
        x,
        kernel,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
    )


def _is_plain(x, kernel, data_format, dilation_rate):
    """Whether a convolution on JAX runs on a CPU, in one precision, without groups or dilation."""
    return (
        isinstance(x, jax.Array)
        and jax.default_backend() == "cpu"
        and data_format == "channels_last"
        and dilation_rate in (1, (1, 1), [1, 1])
        and x.shape[-1] == kernel.shape[2]
        and x.dtype == kernel.dtype
    )


if NAME == "jax":
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


def repeat(step, state, count, done=None):
    """Run `state = step(i, state)` for i = 0 to `count - 1`, or until enough has been found.

    Args:
        step: Maps an index and a tuple of tensors to the next tuple.
        state: Tuple of tensors whose last entry holds the best values so far.
        count: Number of steps.
        done: Maps these best values to a boolean scalar, true when the loop may end early; by
            default all steps are taken.

    Returns:
        The last state.
    """
    if done is None:
        return ops.fori_loop(0, count, step, state)
    return ops.while_loop(
        lambda i, *state: ops.logical_and(i < count, ops.logical_not(done(state[-1]))),
        lambda i, *state: (i + 1, *step(i, state)),
        (ops.convert_to_tensor(0, dtype="int32"), *state),
    )[1:]


def transposed(function, x, rows):
    """Transpose of the derivative of `function` at `x`, applied to `rows`.

    Differentiable in `rows` and in everything that `function` reads.

    Args:
        function: Maps a tensor to a tensor.
        x: Float tensor.
        rows: Tensor shaped like `function(x)`.

    Returns:
        Tensor shaped like `x`.
    """
    if NAME == "tensorflow":
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values = function(x)
        return tape.gradient(values, x, output_gradients=rows)
    if NAME == "jax":
        return jax.vjp(function, x)[1](rows)[0]
    outer = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (result,) = torch.autograd.grad(function(x), x, rows, create_graph=outer)
    return result


def recomputed(function, *tensors):
    """`function(*tensors)` that keeps nothing but `tensors` for its gradient.

    The backward pass computes the function again, so that memory is paid for with time.

    Args:
        function: Pure function of float tensors that opens the scopes it needs itself, for the
            second time they are closed; it may read no variable but those that it maps to tensors.
        tensors: Float tensors. Gradients flow to these alone.
    """
    if NAME == "jax":
        return jax.checkpoint(function)(*tensors)
    if NAME == "torch":
        return torch.utils.checkpoint.checkpoint(function, *tensors, use_reentrant=False)

    @tf.custom_gradient
    def kept(*tensors):
        def gradient(upstream):
            # What depends on `upstream` is not merged with the first computation.
            with tf.control_dependencies([upstream]):
                again = [tf.identity(tensor) for tensor in tensors]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(again)
                values = function(*again)
            zero = tf.UnconnectedGradients.ZERO
            return tape.gradient(values, again, upstream, unconnected_gradients=zero)

        return function(*tensors), gradient

    return kept(*(tf.convert_to_tensor(tensor) for tensor in tensors))


def seed_tensor(seed, index=0):
    """Seed for `uniform` from a whole number and an index, of a step or a batch."""
    return ops.stack([ops.cast(part, "int32") for part in (seed, index)])


def uniform(shape, seed):
    """Uniform numbers in [0, 1) drawn from a seed tensor, without touching any state.

    `keras.random` takes a seed tensor only wrapped in a generator whose state it then writes,
    which is not allowed inside a compiled branch.

    Args:
        shape: Shape of the result.
        seed: Tensor of two integers, from `seed_tensor`.
    """
    dtype = keras.backend.floatx()
    if NAME == "tensorflow":
        return tf.random.stateless_uniform(shape, tf.cast(seed, "int32"), dtype=dtype)
    if NAME == "jax":
        return jax.random.uniform(
            jax.random.fold_in(jax.random.key(seed[0]), seed[1]), shape, dtype
        )
    generator = torch.Generator(device=seed.device)
    generator.manual_seed(int(seed[0]) * 1_000_003 + int(seed[1]))
    return torch.rand(tuple(shape), generator=generator, device=seed.device)


def global_mean(x):
    """Mean of a scalar over the replicas of `tf.distribute`; `x` itself elsewhere.

    JAX's `keras.distribution` shards one global batch, so its means are global already.
    """
    if NAME == "tensorflow" and tf.distribute.in_cross_replica_context() is False:
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            return context.all_reduce(tf.distribute.ReduceOp.MEAN, x)
    return x


def replica_count():
    """Number of replicas whose gradients the trainer will sum."""
    if NAME == "tensorflow" and tf.distribute.in_cross_replica_context() is False:
        return tf.distribute.get_replica_context().num_replicas_in_sync
    return 1


def compiled(function, variables):
    """Compile `function(*tensors)`; the values of `variables` are arguments, not constants.

    Args:
        function: Pure function of tensors that may read, but not write, `variables`.
        variables: List of Keras variables that `function` reads.
    """
    if NAME == "tensorflow":
        # AutoGraph off: there is no data-dependent Python to rewrite.
        made = tf.function(function, autograph=False, reduce_retracing=True)
        # Each shape is traced once, on purpose; without this TensorFlow warns of it.
        made._omit_frequent_tracing_warning = True
        return made
    if NAME == "jax":

        @jax.jit
        def pure(values, *tensors):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*tensors)

        return lambda *tensors: pure([v.value for v in variables], *tensors)

    def no_grad(*tensors):
        with torch.no_grad():
            return function(*tensors)

    return no_grad


def compiles():
    """Whether the first call of what `compiled` returns takes longer, for it compiles."""
    return NAME != "torch"


def auto_jit_compile():
    """Measured default of `jit_compile`: XLA is slower than TensorFlow's plain graph on a CPU."""
    if NAME == "tensorflow" and not tf.config.list_physical_devices("GPU"):
        return False
    return "auto"

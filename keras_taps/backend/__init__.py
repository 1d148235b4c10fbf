"""What `keras.ops` does not offer: one interface here, one module for each backend.

The modules in this folder are the only ones that name a backend.
"""

from importlib import import_module

import keras
from keras import ops

NAME = keras.backend.backend()

if NAME not in ("tensorflow", "jax", "torch"):
    raise ImportError(
        "keras_taps runs on the TensorFlow, JAX and PyTorch backends of Keras. "
        f"Received: KERAS_BACKEND={NAME!r}"
    )
_own = import_module(f"keras_taps.backend.{NAME}")


def input_gradient(function, x):
    """Value of `function` at `x` and the gradient of its sum, with respect to `x` alone.

    Args:
        function: Maps `x` to a tensor of objectives, one or more for each entry of the batch.
        x: Float tensor.

    Returns:
        `(values, gradient)`, shaped like `function(x)` and like `x`; where nothing depends on `x`
        the gradient is 0.
    """
    return _own.input_gradient(function, x)


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
    return _own.ascend(points, gradient, step, lower, upper)


def convolution(x, kernel, strides, padding, data_format, dilation_rate, bias=None):
    """`keras.ops.conv` of images, without its detours on JAX's CPU and on PyTorch.

    PyTorch takes channels-last images as they are, except with padding 'same'; Keras copies them.
    `jax_convolution` tells of JAX's detours.

    Args:
        x: Tensor of a batch of images.
        kernel: Tensor `(height, width, channels in, channels out)`.
        strides, data_format, dilation_rate: As `keras.ops.conv`.
        padding: 'valid', 'same', or the zeros around the images, `((top, bottom), (left, right))`.
        bias: Tensor `(channels out,)` to add, or `None`.
    """
    kernel = ops.convert_to_tensor(kernel)  # JAX's derivatives take no Keras variables
    found = _own.convolution(x, kernel, strides, padding, data_format, dilation_rate, bias)
    if found is not None:
        return found
    first = data_format == "channels_first"
    if not isinstance(padding, str):
        none = (0, 0)
        x = ops.pad(x, (none, none, *padding) if first else (none, *padding, none))
        padding = "valid"
    y = ops.conv(
        x,
        kernel,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
    )
    if bias is None:
        return y
    return ops.add(y, ops.reshape(bias, (1, -1, 1, 1) if first else (1, 1, 1, -1)))


def normalize(x, axes, axis, gamma, beta, epsilon):
    """Batch normalisation by the batch's own biased moments, where a backend has a fused one.

    Args:
        x: Tensor.
        axes: The axes over which moments are taken: all but one.
        axis: The other one.
        gamma: Scale `(channels,)`, a variable, or `None`.
        beta: Offset `(channels,)`, a variable, or `None`.
        epsilon: Number added to the variance.

    Returns:
        `(y, mean, variance)`, where `y` is `None` if it is left to whoever asks.
    """
    found = _own.normalize(x, axis, gamma, beta, epsilon)
    if found is not None:
        return found
    # Two passes: E[x^2] - E[x]^2 loses digits in float32 where the mean dominates.
    mean = ops.mean(x, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(x - mean), axis=axes)
    return None, ops.reshape(mean, variance.shape), variance


def move_average(average, value, momentum):
    """Move a variable, a moving average, by the share `1 - momentum` of the way to a tensor."""
    _own.move_average(average, value, momentum)


def average_pool(x, pool_size, strides, padding, data_format):
    """`keras.ops.average_pool` of images; with padding 'same' the mean of the pixels in a window.

    On PyTorch, Keras repeats border pixels for an uneven padding and counts them: the same network
    would be another function than on the other backends.

    Args:
        x: Tensor of a batch of images.
        pool_size, strides, padding, data_format: As the attributes of `AveragePooling2D`.
    """
    if padding != "same" or not _own.REPEATS_BORDERS:
        return ops.average_pool(x, pool_size, strides, padding, data_format)
    pads = [(0, 0)] * 4
    axes = (2, 3) if data_format == "channels_first" else (1, 2)
    for axis, size, stride in zip(axes, pool_size, strides, strict=True):
        total = max((-(-x.shape[axis] // stride) - 1) * stride + size - x.shape[axis], 0)
        pads[axis] = (total // 2, total - total // 2)

    def mean(x):
        return ops.average_pool(ops.pad(x, pads), pool_size, strides, "valid", data_format)

    return mean(x) / mean(ops.ones_like(x[:1]))


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
    return _own.transposed(function, x, rows)


def recomputed(function, *tensors):
    """`function(*tensors)` that keeps nothing but `tensors` for its gradient.

    The backward pass computes the function again, so that memory is paid for with time.

    Args:
        function: Pure function of float tensors that opens the scopes it needs itself, for the
            second time they are closed; it may read no variable but those that it maps to tensors.
        tensors: Float tensors. Gradients flow to these alone.
    """
    return _own.recomputed(function, *tensors)


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
    return _own.uniform(shape, seed, keras.backend.floatx())


def global_mean(x):
    """Mean of a scalar over the replicas of `tf.distribute`; `x` itself elsewhere.

    JAX's `keras.distribution` shards one global batch, so its means are global already.
    """
    context = _own.replicas()
    if context is not None and context.num_replicas_in_sync > 1:
        return _own.mean_over(context, x)
    return x


def replica_count():
    """Number of replicas whose gradients the trainer will sum."""
    context = _own.replicas()
    return 1 if context is None else context.num_replicas_in_sync


def compiled(function, variables):
    """Compile `function(*tensors)`; the values of `variables` are arguments, not constants.

    Args:
        function: Pure function of tensors that may read, but not write, `variables`.
        variables: List of Keras variables that `function` reads.
    """
    return _own.compiled(function, variables)


def compiles():
    """Whether the first call of what `compiled` returns takes longer, because it compiles."""
    return _own.COMPILES


def on_host():
    """Context in which PyTorch makes and changes variables in the memory of the host.

    Its steps read the counters that decide what they compute, and reading them from an accelerator
    would wait until all that was launched there is done. Compiled steps read nothing.
    """
    return _own.on_host()


def hasten(optimizer):
    """Let a Keras optimizer do the same in fewer passes over the weights.

    On PyTorch it clips by the global norm at once and, on a CPU, takes Adam's step by one kernel;
    compiled steps are fused by their compilers.
    """
    _own.hasten(optimizer)


def auto_jit_compile():
    """Measured default of `jit_compile`: XLA is slower than TensorFlow's plain graph on a CPU."""
    return _own.auto_jit_compile()

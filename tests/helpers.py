"""Small tools of the tests: numbers, boxes, points in boxes, gradients on any backend, networks."""

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.interval import Interval
from keras_taps.layers import (
    IntervalBatchNormalization,
    IntervalConv2D,
    IntervalDense,
    IntervalFlatten,
    IntervalReLU,
)
from keras_taps.networks import IntervalSequential

BACKEND = keras.backend.backend()


def numbers(*shape, seed=0, low=-1.0, high=1.0):
    """Uniform float32 NumPy numbers."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype("float32")


def numpy(tensor):
    """Tensor or box as NumPy."""
    if isinstance(tensor, Interval):
        return Interval(*(numpy(t) for t in tensor))
    return ops.convert_to_numpy(tensor)


def random_box(*shape, seed=0, width=0.5, dtype="float32"):
    """Box with random bounds, as tensors; some coordinates have no width."""
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-1, 1, shape)
    extent = rng.uniform(0, width, shape) * (rng.random(shape) > 0.1)
    return Interval(*(ops.convert_to_tensor(b.astype(dtype)) for b in (lower, lower + extent)))


def sample_points(box, count=1000, seed=0):
    """Points of a box of batch 1, `(count, ...)`: half of them vertices, half from inside."""
    lower, upper = (numpy(bound) for bound in box)
    rng = np.random.default_rng(seed)
    share = rng.random((count, *lower.shape[1:]))
    share[: count // 2] = share[: count // 2] > 0.5
    share[0], share[1] = 0, 1
    points = lower + share * (upper - lower)
    return np.clip(points, lower, upper).astype(lower.dtype)


def assert_contains(box, points, tolerance=1e-5):
    """Fail unless every point lies in the box, up to rounding."""
    lower, upper = (numpy(bound) for bound in box)
    points = np.asarray(points)
    slack = tolerance * (1 + np.abs(points))
    assert np.all(np.isfinite(lower))
    assert np.all(np.isfinite(upper))
    assert np.all(lower <= upper + tolerance)
    assert np.all(points >= lower - slack), f"below by {np.max(lower - points)}"
    assert np.all(points <= upper + slack), f"above by {np.max(points - upper)}"


def close(a, b, tolerance=1e-5):
    """Assert that two arrays, tensors or boxes are equal up to rounding."""
    np.testing.assert_allclose(numpy(a), numpy(b), rtol=tolerance, atol=tolerance)


def gradients(function, *tensors):
    """Value of the scalar `function(*tensors)` and its gradients, as NumPy; None becomes zeros."""
    tensors = [ops.convert_to_tensor(t) for t in tensors]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        found = tape.gradient(value, tensors)
    elif BACKEND == "jax":
        import jax

        both = jax.value_and_grad(function, argnums=tuple(range(len(tensors))))
        value, found = jax.jit(both)(*tensors)  # one compilation in place of one an operation
    else:
        import torch

        tensors = [t.detach().clone().requires_grad_(True) for t in tensors]
        with torch.enable_grad():
            value = function(*tensors)
        found = torch.autograd.grad(value, tensors, allow_unused=True)
    zeros = [np.zeros(t.shape, "float32") for t in tensors]
    return float(numpy(value)), [
        z if g is None else numpy(g) for g, z in zip(found, zeros, strict=True)
    ]


def weight_gradients(function, variables):
    """As `gradients`, for Keras variables that `function()` reads; what it writes is undone."""

    def pure(*values):
        pairs = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return function()

    return gradients(pure, *(ops.copy(v.value) for v in variables))


def jitted(function):
    """The function of tensors and boxes; compiled on JAX, where each operation alone would be."""
    if BACKEND != "jax":
        return function
    import jax

    return jax.jit(function)


def seed_tensor(a=0, b=0):
    """Seed for the attacks, of the integer type of the backend."""
    return backend.seed_tensor(a, b)


def randomise(layer, seed=0):
    """Give a layer or network random weights: negative gammas, biases and averages not zero."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if "seed" in weight.path or not weight.dtype.startswith(("float", "bfloat")):
            continue
        value = rng.normal(0, 0.5, weight.shape)
        if "variance" in weight.path:
            value = rng.uniform(0.5, 2, weight.shape)
        weight.assign(value.astype("float32"))
    return layer


def dense_network(inputs=6, hidden=(5, 4), classes=3, batch_norm=False, seed=0):
    """A small Dense network with random weights, one ReLU after each hidden layer."""
    layers = []
    for units in hidden:
        layers.append(IntervalDense(units))
        layers += [IntervalBatchNormalization()] if batch_norm else []
        layers.append(IntervalReLU())
    layers.append(IntervalDense(classes))
    return randomise(IntervalSequential(layers, input_shape=(inputs,)), seed)


def conv_network(batch_norm=True, classes=3, seed=0):
    """A small convolutional network for 6 x 6 x 1 images with 3 ReLUs and random weights."""
    norm = [IntervalBatchNormalization() for _ in range(2)] if batch_norm else []
    layers = [
        IntervalConv2D(2, 3, padding="same"),
        *norm[:1],
        IntervalReLU(),
        IntervalConv2D(3, 3, strides=2),
        *norm[1:],
        IntervalReLU(),
        IntervalFlatten(),
        IntervalDense(5),
        IntervalReLU(),
        IntervalDense(classes),
    ]
    return randomise(IntervalSequential(layers, input_shape=(6, 6, 1)), seed)


def images(count=8, shape=(6, 6, 1), classes=3, seed=0):
    """Random images in [0, 1] and labels, as NumPy arrays."""
    x = numbers(count, *shape, seed=seed, low=0, high=1)
    return x, np.random.default_rng(seed).integers(0, classes, count).astype("int32")

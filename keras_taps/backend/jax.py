"""What JAX offers; `keras_taps.backend` says what each function does."""

import contextlib

import jax
import keras
from keras import ops

from keras_taps.backend.ascent import clipped_step as ascend  # noqa: F401
from keras_taps.backend.jax_cache import keep_compilations
from keras_taps.backend.jax_convolution import convolve, is_plain

COMPILES = True
REPEATS_BORDERS = False  # in `keras.ops.average_pool`

keep_compilations()


def input_gradient(function, x):
    def total(x):
        values = function(x)
        return ops.sum(values), values

    (_, values), gradient = jax.value_and_grad(total, has_aux=True)(x)
    return values, gradient


def convolution(x, kernel, strides, padding, data_format, dilation_rate, bias):
    if is_plain(x, kernel, data_format, dilation_rate):
        y = convolve(x, kernel, strides, padding)
        return y if bias is None else y + ops.convert_to_tensor(bias)
    return None


def normalize(x, axis, gamma, beta, epsilon):
    return None


def move_average(average, value, momentum):
    average.assign(average.value * momentum + value * (1.0 - momentum))


def transposed(function, x, rows):
    return jax.vjp(function, x)[1](rows)[0]


def recomputed(function, *tensors):
    return jax.checkpoint(function)(*tensors)


def uniform(shape, seed, dtype):
    return jax.random.uniform(jax.random.fold_in(jax.random.key(seed[0]), seed[1]), shape, dtype)


def compiled(function, variables):
    @jax.jit
    def pure(values, *tensors):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*tensors)

    return lambda *tensors: pure([v.value for v in variables], *tensors)


def replicas():
    return None


def on_host():
    return contextlib.nullcontext()


def hasten(optimizer):
    pass  # the compiled step fuses them


def auto_jit_compile():
    return "auto"

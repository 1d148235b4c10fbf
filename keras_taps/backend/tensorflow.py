"""What TensorFlow offers; `keras_taps.backend` says what each function does."""

import contextlib

import tensorflow as tf

from keras_taps.backend.ascent import clipped_step

COMPILES = True
REPEATS_BORDERS = False  # in `keras.ops.average_pool`

ascend = tf.function(clipped_step, autograph=False, reduce_retracing=True, jit_compile=True)
ascend._omit_frequent_tracing_warning = True  # see `compiled`


def input_gradient(function, x):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values = function(x)
    return values, tape.gradient(values, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def convolution(x, kernel, strides, padding, data_format, dilation_rate, bias):
    return None


def normalize(x, axis, gamma, beta, epsilon):
    return None


def move_average(average, value, momentum):
    average.assign(average.value * momentum + value * (1.0 - momentum))


def transposed(function, x, rows):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values = function(x)
    return tape.gradient(values, x, output_gradients=rows)


def recomputed(function, *tensors):
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


def uniform(shape, seed, dtype):
    return tf.random.stateless_uniform(shape, tf.cast(seed, "int32"), dtype=dtype)


def compiled(function, variables):
    # AutoGraph off: there is no data-dependent Python to rewrite.
    made = tf.function(function, autograph=False, reduce_retracing=True)
    # Each shape is traced once, on purpose; without this TensorFlow warns of it.
    made._omit_frequent_tracing_warning = True
    return made


def replicas():
    """The replica context of `tf.distribute`, or `None` outside of one."""
    if tf.distribute.in_cross_replica_context() is False:
        return tf.distribute.get_replica_context()
    return None


def mean_over(context, x):
    """Mean of a scalar over the replicas of a context."""
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def on_host():
    return contextlib.nullcontext()


def hasten(optimizer):
    pass  # the compiled step fuses them


def auto_jit_compile():
    return "auto" if tf.config.list_physical_devices("GPU") else False

import numpy as np

from keras_taps.layers import (
    IntervalBatchNormalization,
    IntervalDense,
    IntervalDepthwiseConv2D,
    IntervalFlatten,
    IntervalResidual,
)
from keras_taps.networks import IntervalSequential, cnn7
from keras_taps.objectives import l1_penalty
from tests.helpers import close, numpy, randomise, weight_gradients


def network():
    block = IntervalResidual([[IntervalDepthwiseConv2D(1)], []])
    layers = [block, IntervalBatchNormalization(), IntervalFlatten(), IntervalDense(3)]
    return randomise(IntervalSequential(layers, input_shape=(2, 2, 2)))


def test_sum_of_kernels_without_biases_and_gammas():
    net = network()
    depthwise = net.layers[0].branches[0][0]
    kernels = [numpy(depthwise.kernel), numpy(net.layers[-1].kernel)]
    close(l1_penalty(net), sum(np.abs(k).sum() for k in kernels))


def test_gradient_is_the_sign():
    net = network()
    _, found = weight_gradients(lambda: l1_penalty(net), net.trainable_variables)
    for variable, gradient in zip(net.trainable_variables, found, strict=True):
        kernel = "kernel" in variable.name
        close(gradient, np.sign(numpy(variable)) * kernel)


def test_seven_affine_layers_in_cnn7():
    """Recipes divide the paper's coefficient by their number."""
    assert len(cnn7((8, 8, 1), 3, width=1).affine_layers) == 7

import numpy as np
import pytest
from keras import ops

from keras_taps.training import IBPModel
from tests.helpers import close, conv_network, images, numpy, weight_gradients
from tests.training.steps import loss_and_gradients, loss_of


@pytest.mark.parametrize("training", [True, False])
def test_radius_zero_gives_the_cross_entropy(training):
    """Property 7: loss and gradient, through the batch statistics while training."""
    x, y = images()
    model = IBPModel(conv_network(), eps=0.0)

    def cross_entropy():
        logits = model.network(ops.convert_to_tensor(x), training=training)
        return ops.mean(-ops.take_along_axis(ops.log_softmax(logits), y[:, None], axis=1))

    variables = model.trainable_variables
    expected, gradients = weight_gradients(cross_entropy, variables)
    loss, found = loss_and_gradients(model, x, y, training=training)
    assert loss == pytest.approx(expected, rel=1e-5)
    for a, b in zip(found, gradients, strict=True):
        close(a, b, 1e-4)


def test_larger_radius_costs_more():
    x, y = images()
    network = conv_network()
    losses = [loss_of(IBPModel(network, eps), x, y) for eps in (0, 0.05, 0.1)]
    assert losses[0] < losses[1] < losses[2]


def test_l1_is_added():
    x, y = images()
    network = conv_network()
    plain = loss_of(IBPModel(network, 0.1), x, y)
    kernels = [w for w in network.weights if "kernel" in w.path]
    total = sum(np.abs(numpy(w)).sum() for w in kernels)
    found = loss_of(IBPModel(network, 0.1, l1=0.01), x, y)
    assert found == pytest.approx(plain + 0.01 * total, rel=1e-5)


def test_layer_regularisers_are_added():
    x, y = images()
    network = conv_network()
    plain = loss_of(IBPModel(network, 0.1), x, y)
    network.layers[-1].kernel_regularizer = lambda kernel: 0.5 * ops.sum(kernel**2)
    network.layers[-1].kernel.regularizer = network.layers[-1].kernel_regularizer
    extra = 0.5 * (numpy(network.layers[-1].kernel) ** 2).sum()
    assert loss_of(IBPModel(network, 0.1), x, y) == pytest.approx(plain + extra)

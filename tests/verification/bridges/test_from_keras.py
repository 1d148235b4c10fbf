"""Graphs read from Keras networks compute what the networks do, or the layer is named."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps import layers as kl
from keras_taps.layers.curves import CURVES
from keras_taps.networks import IntervalSequential, resnet
from keras_taps.verification.bridges.from_keras import read_network
from tests.helpers import BACKEND, close, conv_network, numbers, randomise
from tests.layers import harness
from tests.layers.harness import IMAGE, Case

REFUSED = (
    "threshold",
    "channels_first",
    "axis=1",
)


def accepted(case):
    return not any(word in str(case) for word in REFUSED)


EXTRA = [
    Case("Dense", IMAGE, {"units": 3, "activation": "relu"}),
    Case("Dense", (6,), {"units": 3, "activation": "leaky_relu"}),
    Case("Conv2D", (7, 6, 2), {"filters": 2, "kernel_size": 4, "strides": 3, "padding": "same"}),
    Case("Conv2D", IMAGE, {"filters": 2, "kernel_size": 2, "dilation_rate": (2, 1),
                           "padding": "same"}),
    Case("AveragePooling2D", (6, 7, 2), {"pool_size": 2, "strides": 2, "padding": "same"}),
    Case("MaxPooling2D", (6, 7, 2), {"pool_size": (2, 3), "strides": 1, "padding": "same"}),
    Case("GlobalAveragePooling2D", IMAGE, {"keepdims": True}),
    Case("GlobalMaxPooling2D"),
    Case("Normalization", IMAGE, {"mean": 0.3, "variance": 0.4, "invert": True}),
    Case("Normalization", IMAGE, {"axis": None, "mean": 0.3, "variance": 0.4}),
    Case("Activation", IMAGE, {"activation": "linear"}),
    Case("Activation", IMAGE, {"activation": "relu"}),
    Case("LeakyReLU", IMAGE, {"negative_slope": 1.0}),
    Case("LeakyReLU", IMAGE, {"negative_slope": 1.5}),
    Case("ReLU", IMAGE, {"max_value": 6.0}),
    Case("Dense", (6,), {"units": 3, "activation": "gelu"}),
    *(Case("Activation", IMAGE, {"activation": name}) for name in CURVES),
    Case("Reshape", IMAGE, {"target_shape": (5, -1, 1)}),
    Case("Reshape", (6,), {"target_shape": (2, 3)}),
    Case("Permute", (3, 4, 2), {"dims": (2, 1, 3)}),
    Case("Permute", (3, 4), {"dims": (1, 2)}),
]  # fmt: skip


def network_of(case):
    """The layer, a Flatten and a Dense layer, with random weights."""
    case.skip_unsupported()
    layer = case.interval()
    ends = [kl.IntervalFlatten(), kl.IntervalDense(3)]
    network = IntervalSequential([layer, *ends], input_shape=case.shape)
    for i, one in enumerate(network.layers):
        if not isinstance(one, keras.layers.Normalization):
            randomise(one, i)
    return network


CASES = [*filter(accepted, harness.CASES), *EXTRA]


# JAX compiles each operation of each case.
@pytest.mark.parametrize("case", CASES[::6] if BACKEND == "jax" else CASES, ids=str)
def test_computes_what_the_network_does(case):
    network = network_of(case)
    x = numbers(4, *case.shape, seed=1, low=-2, high=2)
    graph = read_network(network)
    close(graph(x), network(ops.convert_to_tensor(x)), 1e-5)
    assert graph.in_shape == case.shape
    assert graph.outputs == 3


REJECTED = [case for case in harness.CASES if not accepted(case)]


@pytest.mark.parametrize("case", REJECTED[::3] if BACKEND == "jax" else REJECTED, ids=str)
def test_refuses_by_name(case):
    network = network_of(case)
    with pytest.raises(ValueError, match=f"'{network.layers[0].name}'.*Accepted"):
        read_network(network)


def test_unknown_layer():
    class Mine(kl.base.IntervalLayer, keras.layers.Layer):
        relus = 0

        def call(self, inputs):
            return inputs

        def compute_output_shape(self, input_shape):
            return input_shape

    network = IntervalSequential([Mine(name="mine"), kl.IntervalDense(2)], input_shape=(3,))
    with pytest.raises(ValueError, match=r"'mine' of type Mine cannot be verified.*IntervalDense"):
        read_network(network)


def test_wrong_graph_is_noticed(monkeypatch):
    """The reader checks its own work on random inputs."""
    network = conv_network()
    monkeypatch.setattr(network, "call", lambda x, training=None: ops.ones((4, 3)))
    with pytest.raises(ValueError, match="does not compute what the network does"):
        read_network(network)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value):
    network = conv_network()
    network.layers[0].bias.assign([value, 0.0])
    with pytest.raises(ValueError, match="network"):
        read_network(network)


@pytest.mark.skipif(BACKEND == "jax", reason="compiles for 20 s, operation by operation")
def test_residual_network_with_batch_norm():
    """Negative gammas included."""
    network = randomise(resnet((8, 8, 1), 3, width=2, mean=0.4, std=0.5), 3)
    x = numbers(4, 8, 8, 1, seed=1, low=0)
    found = read_network(network)(x)
    close(found, network(ops.convert_to_tensor(x)), 1e-4)


def test_weights_are_taken_exactly():
    """Without batch norm no weight is rounded: float32 numbers stand in the graph."""
    network = conv_network(batch_norm=False)
    arrays = [a for node in read_network(network).nodes for a in vars(node).values()]
    arrays = [a for a in arrays if isinstance(a, np.ndarray) and a.size > 1]
    assert len(arrays) == 3 * 4  # kernel, bias, magnitude
    for array in arrays:
        np.testing.assert_array_equal(array, array.astype("float32"))


def test_batch_norm_is_folded_in_float64():
    network = conv_network()
    conv, norm = network.layers[:2]
    kernel, gamma, variance = (
        ops.convert_to_numpy(w).astype("float64")
        for w in (conv.kernel, norm.gamma, norm.moving_variance)
    )
    node = read_network(network).nodes[0]
    expected = kernel * gamma / np.sqrt(variance + norm.epsilon)
    np.testing.assert_allclose(node.kernel, expected, rtol=1e-15)
    assert np.all(node.magnitude >= np.abs(node.bias))
    assert np.any(gamma < 0)


def test_softmax_is_taken_off():
    stock = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    with pytest.warns(UserWarning, match="softmax"):
        graph = read_network(stock)
    x = numbers(4, 4, seed=1)
    close(ops.softmax(ops.convert_to_tensor(graph(x))), stock(ops.convert_to_tensor(x)), 1e-5)

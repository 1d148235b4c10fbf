"""Whatever a stock classifier ends in becomes logits that decide as it does."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_taps import input_box
from keras_taps.bounds import ibp_margins
from keras_taps.networks import convert
from keras_taps.training import TAPSModel
from keras_taps.verification import certify, recheck
from keras_taps.verification.bridges.from_keras import read_network
from tests.helpers import close, numbers, numpy, randomise


def stock_with(*head):
    inputs = keras.Input((5,))
    x = layers.Dense(6, activation="relu", name="hidden")(inputs)  # heads have their names already
    for layer in head:
        x = layer(x)
    model = keras.Model(inputs, x)
    for number, layer in enumerate(model.layers):
        randomise(layer, number)
    return model


X = numbers(20, 5, seed=3, low=0, high=1)


@pytest.mark.parametrize(
    "head",
    [
        [layers.Dense(3, activation="softmax")],
        [layers.Dense(3, activation="log_softmax")],
        [layers.Dense(3), layers.Softmax()],
        [layers.Dense(3), layers.Activation("softmax")],
        [layers.Dense(3), ops.softmax],
    ],
)
def test_a_softmax_at_the_end_is_taken_off_and_said_so(head):
    stock = stock_with(*head)
    with pytest.warns(UserWarning, match="softmax at the end .* was taken off"):
        network = convert(stock)
    network.check_classifier()
    probabilities = numpy(stock(X))
    expected = np.exp(probabilities) if probabilities.min() < 0 else probabilities
    close(ops.softmax(network(X)), expected, 1e-5)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_output_becomes_two_logits(activation):
    stock = stock_with(layers.Dense(1, activation=activation))
    if activation:
        with pytest.warns(UserWarning, match="sigmoid at the end"):
            network = convert(stock)
    else:
        network = convert(stock)
    logits, own = numpy(network(X)), numpy(stock(X))[:, 0]
    z = np.log(own / (1 - own)) if activation else own
    assert network.num_classes == 2
    assert np.all(logits[:, 0] == 0)
    close(logits[:, 1], z, 1e-4)
    labels = (z > 0).astype("int32")
    assert len(set(labels)) == 2
    # At radius 0 the margin of the other class is minus the size of z.
    margins = numpy(ibp_margins(network, input_box(X, 0.0), ops.convert_to_tensor(labels)))
    close(margins[:, 0], -np.abs(z), 1e-4)
    assert not network.layers[-1].trainable_variables


@pytest.mark.parametrize("head", [[], [layers.Dense(3, activation="tanh")]])
def test_an_end_that_is_no_dense_layer_gets_one(head):
    stock = stock_with(*head)
    network = convert(stock)
    network.check_classifier()
    close(network(X), stock(X), 1e-6)


def test_what_is_fine_stays_as_it_is():
    network = convert(stock_with(layers.Dense(3)))
    assert len(network.layers) == 3
    again = convert(network)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in network.layers]


@pytest.mark.filterwarnings("ignore:The s")
@pytest.mark.parametrize("head", [layers.Dense(1, activation="sigmoid"), layers.Softmax()])
def test_heads_are_certified_and_rechecked(head, tmp_path):
    stock, out = stock_with(head), tmp_path / "report.jsonl"
    found = numpy(stock(X))
    y = (found[:, 0] > 0.5).astype(int) if found.shape[1] == 1 else found.argmax(-1)
    report = certify(stock, X, y, 0.01, out=out, certificates=True, timeout=5)
    assert report.accuracies()["natural"] == 1
    assert report.accuracies()["certified"] > 0.5
    assert recheck(out, read_network(stock), X, y).holds


def test_a_binary_classifier_trains():
    x = np.random.default_rng(0).uniform(0, 1, (64, 5)).astype("float32")
    y = (x.sum(1) > 2.5).astype("int32")
    model = TAPSModel(convert(stock_with(layers.Dense(1))), eps=0.01, classifier_relus=1)
    model.compile(optimizer=keras.optimizers.Adam(0.02))
    model.fit(x, y, epochs=10, batch_size=16, verbose=0)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["natural_accuracy"] > 0.8

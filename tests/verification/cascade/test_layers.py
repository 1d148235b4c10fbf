"""Networks of layers that are read as others: trained, certified, rechecked, written."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_taps.networks import convert
from keras_taps.training import IBPModel
from keras_taps.verification import certify, recheck
from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.formats.onnx_writer import write_onnx
from keras_taps.verification.graph.unsafe import margin_forms
from keras_taps.verification.search.engine import BoundEngine
from tests.helpers import BACKEND, close, numpy, randomise
from tests.verification.helpers import sample


def images():
    inputs = keras.Input((5, 4, 2))
    x = layers.SeparableConv2D(3, 3, padding="same", activation="relu")(inputs)
    x = layers.UpSampling2D((1, 2))(layers.Cropping2D(((1, 1), (0, 2)))(x))
    other = layers.Conv2D(3, 1)(x)
    x = layers.Concatenate()([layers.Subtract()([x, other]), layers.Average()([x, other])])
    x = layers.Conv2DTranspose(3, (3, 2), strides=(2, 1), padding="same")(x)
    x = ops.minimum(layers.Maximum()([layers.ReLU()(x), 0.3 - x / 2]), x + np.array([1, 2, 0.5]))
    x = layers.Permute((3, 1, 2))(layers.Cropping2D((1, 0))(x))
    x = layers.RepeatVector(2)(layers.Dense(3)(layers.Flatten()(x)))
    x = layers.Flatten()(layers.Dense(3, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def signals():
    inputs = keras.Input((12, 2))
    x = layers.Conv1D(3, 3, strides=2, activation="relu")(layers.ZeroPadding1D(1)(inputs))
    x = layers.Conv1D(3, 2, padding="causal")(layers.MaxPooling1D(2)(x))
    x = layers.GlobalAveragePooling1D()(layers.ReLU()(layers.Cropping1D((1, 0))(x)))
    return keras.Model(inputs, layers.Dense(3)(x))


@pytest.mark.parametrize("make", [images, signals] if BACKEND == "torch" else [signals])
def test_bounded_certified_and_rechecked(make, tmp_path):
    network = randomise(convert(make()))
    graph = read_network(network)
    x = np.random.default_rng(0).uniform(0.3, 0.7, (4, *graph.in_shape)).astype("float32")
    lower, upper, forms = x[:2] - 0.05, x[:2] + 0.05, np.stack([margin_forms(0, 3)] * 2)
    engine, offset = BoundEngine(build_network(graph), 2), np.zeros((2, 2))
    for method in ("ibp", "crown"):
        boxes = () if method == "ibp" else (engine.neuron_boxes(lower, upper),)
        bounds = getattr(engine, method)(lower, upper, forms, offset, *boxes)
        for i in range(2):
            proved = Checker(graph).upper_bounds(lower[i], upper[i], forms[i], offset[i], method)
            assert np.all(proved >= (graph(sample(lower[i], upper[i], 300)) @ forms[i].T).max(0))
            assert np.allclose(proved, bounds[i], rtol=1e-3, atol=1e-3), method

    y, out = numpy(network(ops.convert_to_tensor(x))).argmax(-1), tmp_path / "report.jsonl"
    stages = ["ibp", "attack", "crown", "alpha-crown", "bab"]
    report = certify(network, x, y, 0.005, stages=stages, out=out, certificates=True)
    certified = [record for record in report.records if record["verdict"] == "certified"]
    assert certified
    assert all(record["checked"] for record in certified)
    found = recheck(out, graph, x, y)
    assert found.holds, found.rejected

    write_onnx(graph, tmp_path / "network.onnx")
    again = read_onnx(tmp_path / "network.onnx").graph
    close(again(x.reshape(-1, *again.in_shape)), graph(x), 1e-5)


@pytest.mark.once
def test_a_signal_is_trained():
    model = IBPModel(convert(signals()), eps=0.02)
    model.compile(keras.optimizers.Adam(0.02))
    x = np.random.default_rng(0).uniform(0, 1, (32, 12, 2)).astype("float32")
    y = np.argmax(x[:, :3, 0], axis=-1)
    history = model.fit(x, y, batch_size=16, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]

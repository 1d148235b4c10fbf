"""Networks from files, folders and models, and what is said where there is none."""

import keras
import numpy as np
import pytest

from keras_taps.attacks import adversarial_accuracy, attack_suite
from keras_taps.networks import IntervalSequential, convert
from keras_taps.networks.load import interval_network, load_model
from keras_taps.training import IBPModel
from keras_taps.verification import read_network

X, Y = np.full((3, 4), 0.5), np.array([0, 1, 2])


def stock():
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3)]
    )


def test_interval_network_of_what_users_have():
    assert isinstance(interval_network(stock()), IntervalSequential)
    network = convert(stock())
    assert interval_network(network) is network
    assert interval_network(IBPModel(network, eps=0.1)) is network
    with pytest.raises(ValueError, match="Keras model"):
        interval_network(3)


def test_attacks_and_graphs_take_models_and_paths(tmp_path):
    model = stock()
    path = tmp_path / "run" / "best.keras"
    path.parent.mkdir()
    model.save(path)
    every = (model, IBPModel(convert(model), eps=0.1), path, str(path), path.parent)
    assert len({adversarial_accuracy(each, X, Y, 0.1, steps=1) for each in every}) == 1
    assert len({tuple(attack_suite(each, X, Y, 0.1, steps=1)[2]) for each in every[::3]}) == 1
    assert len({read_network(each).hash for each in every}) == 1


def test_what_is_no_model_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model file '.*best.keras'"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="`keras-taps verify`"):
        load_model(tmp_path / "network.onnx")
    (tmp_path / "damaged.keras").write_text("no")
    with pytest.raises(ValueError, match=r"damaged\.keras' cannot be loaded"):
        load_model(tmp_path / "damaged.keras")

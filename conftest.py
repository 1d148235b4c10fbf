"""Names that the examples in docstrings use without importing them."""

import keras
import keras_tuner
import numpy as np
import pytest

import keras_taps
from keras_taps.verification.graph.nodes import Dense, Relu


@pytest.fixture(autouse=True)
def _example_names(doctest_namespace):
    doctest_namespace.update({"keras": keras, "np": np, "ops": keras.ops, "kt": keras_taps})
    rooms = (keras_taps, keras_taps.layers, keras_taps.networks, keras_taps.bounds)
    rooms = (*rooms, keras_taps.datasets, keras_taps.training, keras_taps.verification)
    rooms = (*rooms, keras_taps.tuning)
    for room in rooms:
        doctest_namespace.update({name: getattr(room, name) for name in room.__all__})
    doctest_namespace.update({"Dense": Dense, "Relu": Relu})
    doctest_namespace["recipe"] = keras_taps.recipes.recipe
    doctest_namespace["keras_tuner"] = keras_tuner
    keras.utils.set_random_seed(0)

"""Names that the examples in docstrings use without importing them."""

import pytest


@pytest.fixture(autouse=True)
def _example_names(request):
    if not isinstance(request.node, pytest.DoctestItem):
        return
    import keras
    import keras_tuner
    import numpy as np

    import keras_taps as kt
    from keras_taps.verification.graph.nodes import Dense, Relu

    names = request.getfixturevalue("doctest_namespace")
    rooms = (kt, kt.layers, kt.networks, kt.bounds, kt.datasets, kt.training)
    for room in (*rooms, kt.verification, kt.tuning):
        names.update({name: getattr(room, name) for name in room.__all__})
    names.update({"keras": keras, "keras_tuner": keras_tuner, "np": np, "ops": keras.ops})
    names.update({"kt": kt, "Dense": Dense, "Relu": Relu, "recipe": kt.recipes.recipe})
    keras.utils.set_random_seed(0)

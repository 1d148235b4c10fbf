"""A result says where it comes from."""

import json

import keras

from keras_taps.provenance import provenance


def test_backend_and_versions():
    found = json.loads(json.dumps(provenance()))
    assert found["backend"] == keras.backend.backend()
    assert found["versions"]["keras"] == keras.__version__
    assert found["backend"] in found["versions"]

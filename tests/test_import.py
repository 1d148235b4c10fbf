import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_taps
from tests.helpers import BACKEND

# Keras itself imports JAX under PyTorch, so only these two say something about this package.
HEAVY = ("tensorflow", "tensorflow_datasets")


def run(code, backend=BACKEND):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.skipif(BACKEND == "tensorflow", reason="there TensorFlow is the backend")
def test_other_backends_are_not_imported():
    code = f"import sys; from keras_taps import *; print([m for m in {HEAVY} if m in sys.modules])"
    result = run(code)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.once
def test_other_keras_backends_are_refused():
    result = run("from keras_taps import TAPSModel", backend="numpy")
    assert "Received: KERAS_BACKEND='numpy'" in result.stderr


def test_public_names_exist():
    assert len(set(keras_taps.__all__)) == len(keras_taps.__all__)
    for name in keras_taps.__all__:
        assert getattr(keras_taps, name) is not None
    for room in (keras_taps.layers, keras_taps.networks, keras_taps.attacks, keras_taps.training):
        assert all(hasattr(room, name) for name in room.__all__)


@pytest.mark.once
def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(keras_taps.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert {*seen, "__version__"} == set(keras_taps.__all__)
    for name, module in seen.items():
        home = keras_taps._HOMES.get(name, keras_taps._MODULES.get(name))
        assert home in (module, f"{module}.{name}")

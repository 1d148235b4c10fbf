"""`import keras_taps` is enough to load a `.keras` file, before or after `import keras`."""

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_taps as kt
from keras_taps.saved import CLASSES
from tests.helpers import numpy

pytestmark = pytest.mark.once

ORDERS = (
    "import keras, keras_taps",
    "import keras_taps, keras",
    "from keras_taps import TAPSModel\nimport keras",
    "from keras_taps.layers.dense import IntervalDense\nimport keras",  # imports Keras half-way
)
LOAD = """
import json, sys
found = {}
for path in sys.argv[1:]:
    model = keras.saving.load_model(path)
    name = type(model).__name__
    registered = keras.saving.get_registered_object(f"keras_taps>{name}")
    assert registered in (type(model), None)
    found[path] = [name, keras.ops.convert_to_numpy(model(keras.ops.ones((1, 4)))).tolist()]
print(json.dumps(found))
"""

# A package in the place of Keras, with a registry and nothing else.
STAND_IN = """
import os, types
if os.environ.pop("FAILS", None):
    raise ImportError("not now")
registry = {}
saving = types.SimpleNamespace(get_custom_objects=lambda: registry)
"""
GONE = """
assert "keras_taps>TAPSModel" in keras.registry
assert not [finder for finder in sys.meta_path if type(finder).__module__ == "keras_taps.saved"]
assert "exec_module" not in vars(keras.__spec__.loader)
assert "keras_taps.training" not in sys.modules
"""


def run(code, *arguments, **environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Dictionary from paths to models, outermost of which is a network, a method or a layer."""
    layers = [kt.layers.IntervalDense(3, activation="relu"), kt.layers.IntervalDense(2)]
    network = kt.IntervalSequential([keras.Input((4,)), *layers])
    taps = kt.TAPSModel(network, eps=0.1, classifier_relus=1)
    taps.compile("sgd", jit_compile=False)
    stock = keras.Sequential([keras.Input((4,)), kt.layers.IntervalDense(2)])
    folder = tmp_path_factory.mktemp("models")
    found = {folder / f"{type(model).__name__}.keras": model for model in (network, taps, stock)}
    for path, model in found.items():
        model.save(path)
    return found


@pytest.mark.parametrize("order", ORDERS)
def test_models_load(models, order):
    found = json.loads(run(order + LOAD, *models).splitlines()[-1])
    assert len(found) == 3
    for path, model in models.items():
        name, outputs = found[str(path)]
        assert name == type(model).__name__
        np.testing.assert_allclose(outputs, numpy(model(ops.ones((1, 4)))), atol=1e-6)


@pytest.mark.parametrize(
    "code",
    [
        "import keras",
        "keras = importlib.import_module('keras'); importlib.reload(keras_taps)",
        "importlib.util.find_spec('keras'); import keras",
        "importlib.reload(keras_taps); import keras",
        """
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(importlib.import_module, ["keras"] * 8))
import keras
""",
        """
os.environ["FAILS"] = "1"
try:
    import keras
except ImportError:
    import keras
""",
    ],
    ids=["once", "again", "looked for", "twice", "threads", "failed"],
)
def test_keras_hears_of_the_classes(tmp_path, code):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text(STAND_IN)
    imports = "import concurrent.futures, importlib.util, os, sys\nimport keras_taps\n"
    root = Path(kt.__file__).parent.parent
    run(imports + code + GONE, PYTHONPATH=os.pathsep.join(map(str, (tmp_path, root))))


def test_the_table_is_complete():
    files = Path(kt.__file__).parent.rglob("*.py")
    classes = [
        node.name
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(decorator) == "serializable" for decorator in node.decorator_list)
    ]
    assert sorted(classes) == sorted(name for names in CLASSES.values() for name in names)
    for module, names in CLASSES.items():
        for name in names:
            cls = getattr(import_module(module), name)
            assert keras.saving.get_registered_object(f"keras_taps>{name}") is cls

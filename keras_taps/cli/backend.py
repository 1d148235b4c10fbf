"""The option `--backend`: Keras chooses when it is imported, which is yet to come or done again."""

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from keras_taps.checks import check_choice

_PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def not_installed(name):
    """What to do about a backend whose package is missing, or `None` if `name` is not a backend."""
    if name not in _PACKAGES:
        return None
    return f"The package {_PACKAGES[name]} is not installed: pip install 'keras-taps[{name}]'"


def switch_backend(name):
    """Choose the backend, unless `name` is `None`; run this command again if Keras has another.

    Raises:
        ValueError: If there is no such backend, or it is not installed.
    """
    if name is None:
        return
    check_choice("--backend", name, _PACKAGES)
    if importlib.util.find_spec(_PACKAGES[name]) is None:
        raise ValueError(f"--backend {name}: {not_installed(name)}")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = name
        return
    from keras_taps import backend

    if name != backend.NAME:
        sys.stdout.flush()
        command = [sys.executable, "-m", "keras_taps", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "KERAS_BACKEND": name})


def prefer_backend(name):
    """Choose a backend if it is installed and no other was chosen.

    A choice is the variable KERAS_BACKEND, a Keras that is imported already, or a configuration of
    Keras with another backend than TensorFlow, which is what Keras itself writes there.
    """
    if "KERAS_BACKEND" in os.environ or "keras" in sys.modules:
        return
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        configured = json.loads((home / "keras.json").read_text()).get("backend", "tensorflow")
    except (OSError, ValueError, AttributeError):
        configured = "tensorflow"
    if configured == "tensorflow" and importlib.util.find_spec(_PACKAGES[name]) is not None:
        os.environ["KERAS_BACKEND"] = name


def import_keras():
    """Import Keras and its backend, without the lines that TensorFlow's libraries write then.

    Raises:
        ValueError: If the environment names another backend than those of this package.
    """
    if "keras" in sys.modules:
        return
    named = os.environ.get("KERAS_BACKEND")
    if named is not None:
        check_choice("KERAS_BACKEND", named, _PACKAGES)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no notes, but warnings
    sys.stderr.flush()
    kept = os.dup(2)
    # They write to the file, before any level is read, not to Python's stream.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        importlib.import_module("keras_taps.backend")
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)

"""The option `--backend`: Keras chooses at its import, so the command starts anew."""

import importlib.util
import os
import sys

from keras_taps import backend
from keras_taps.checks import check_choice

_PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def switch_backend(name):
    """Run this command again under another backend, unless `name` is `None` or the present one.

    Raises:
        ValueError: If there is no such backend, or it is not installed.
    """
    if name is None or name == backend.NAME:
        return
    check_choice("--backend", name, _PACKAGES)
    if importlib.util.find_spec(_PACKAGES[name]) is None:
        raise ValueError(
            f"--backend {name} needs the package {_PACKAGES[name]}: pip install keras-taps[{name}]"
        )
    sys.stdout.flush()
    command = [sys.executable, "-m", "keras_taps", *sys.argv[1:]]
    os.execve(sys.executable, command, {**os.environ, "KERAS_BACKEND": name})

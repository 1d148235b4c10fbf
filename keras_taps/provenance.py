"""Where a result comes from."""

import platform
from importlib.metadata import version

from keras_taps import backend


def provenance():
    """Backend and versions, as every result file states them."""
    packages = ("keras-taps", "keras", "numpy", backend.NAME)
    return {
        "backend": backend.NAME,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }

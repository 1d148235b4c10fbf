"""Where a result comes from."""

import platform
from importlib.metadata import version

from keras_taps import backend
from keras_taps.version import __version__


def provenance():
    """Backend and versions, as every result file states them."""
    packages = ("keras", "numpy", backend.NAME)
    return {
        "backend": backend.NAME,
        "python": platform.python_version(),
        "versions": {"keras-taps": __version__, **{name: version(name) for name in packages}},
    }

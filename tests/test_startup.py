"""Nobody waits for Keras who has not asked for anything of it."""

import os
import subprocess
import sys

import pytest

from keras_taps.cli.app import COMMANDS

pytestmark = pytest.mark.once

SLOW = ("keras", "tensorflow", "jax", "torch", "onnx", "highspy", "scipy", "matplotlib")
LOADED = f"import sys; print([name for name in {SLOW} if name in sys.modules])"
COMMAND = """
from keras_taps.cli import main
try:
    main({})
except SystemExit as end:
    print(end.code)
"""


def lines(code):
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "code",
    [
        "import keras_taps; dir(keras_taps); keras_taps.__all__",
        "from keras_taps import __version__",
        "import keras_taps; assert not hasattr(keras_taps, 'TAPS')",
    ],
)
def test_the_import(code):
    assert lines(f"{code}\n{LOADED}") == ["[]"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["nonsense"], 2),
        (["certify", "--nonsense"], 2),
        (["certify", "run", "--eps", "2", "--domain", "0,1"], 2),
        *(([command.NAME, "--help"], 0) for command in COMMANDS),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_commands(arguments, code):
    *_, found, loaded = lines(COMMAND.format(arguments) + LOADED)
    assert (found, loaded) == (str(code), "[]")


@pytest.mark.parametrize(("name", "code"), [("tensorflow", 0), ("foo", 2)])
def test_what_is_on_the_terminal(name, code):
    """The list, or one sentence: no notes of TensorFlow."""
    done = subprocess.run(
        [sys.executable, "-m", "keras_taps", "datasets"],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": name},
        timeout=300,
    )
    assert done.returncode == code
    if code:
        assert "`KERAS_BACKEND` must be one of 'tensorflow', 'jax', 'torch'" in done.stderr
    else:
        assert done.stderr == ""

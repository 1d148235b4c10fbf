"""The public names and their arguments, as a file that a review can read.

    python -m tests.test_public_api

writes public_api.txt anew.
"""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

import keras_taps

pytestmark = pytest.mark.once

FILE = Path(__file__).with_name("public_api.txt")
ROOMS = ("attacks", "bounds", "datasets", "layers", "networks", "objectives", "training", "tuning")


def described():
    """One line a public name, sorted."""
    lines = [f"keras_taps.{name}" for name in keras_taps.__all__]
    for room in ROOMS:
        module = import_module(f"keras_taps.{room}")
        lines += [
            f"keras_taps.{room}.{_line(name, getattr(module, name))}" for name in module.__all__
        ]
    return sorted(lines)


def _line(name, value):
    if not callable(value):
        return name
    # Names and whether there is a default: its text may depend on the backend.
    arguments = []
    for parameter in inspect.signature(value).parameters.values():
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else "=..."
        arguments.append(f"{stars}{parameter.name}{default}")
    return f"{name}({', '.join(arguments)})"


def test_the_public_api_is_as_written():
    assert described() == FILE.read_text().splitlines()


if __name__ == "__main__":
    FILE.write_text("\n".join(described()) + "\n")

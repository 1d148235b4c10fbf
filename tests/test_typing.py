"""Every public name says what it takes and returns; `make types` says whether that is true."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import keras_taps

pytestmark = pytest.mark.once

ROOT = Path(keras_taps.__file__).parent
CALLED = ("__init__", "__call__", "__getitem__", "__len__")


def public():
    """What the rooms export, and what docs/api.md describes."""
    rooms = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "cli"]
    for name in ["keras_taps", *(f"keras_taps.{room.name}" for room in rooms)]:
        module = import_module(name)
        yield from (getattr(module, each) for each in getattr(module, "__all__", ()))
    for name in re.findall("^::: (.*)$", (ROOT.parent / "docs/api.md").read_text(), re.MULTILINE):
        value = keras_taps
        for part in name.split(".")[1:]:
            value = getattr(value, part)
        yield value


def functions(value):
    """The functions behind a public name that this package wrote: itself, or its methods."""
    if not inspect.isclass(value):
        return [value] if inspect.isfunction(value) else []
    found = []
    for base in value.__mro__:
        for name, member in vars(base).items():
            if base.__module__.startswith("keras_taps") and (name[0] != "_" or name in CALLED):
                member = getattr(member, "fget", None) or getattr(member, "func", member)
                found.append(inspect.unwrap(getattr(member, "__func__", member)))
    return [each for each in found if inspect.isfunction(each)]


def test_public_names_are_annotated():
    bare = set()
    for function in {each for value in public() for each in functions(value)}:
        if function.__code__.co_filename.startswith("<"):
            continue  # a dataclass writes its own
        taken = inspect.signature(function).parameters.values()
        annotated = all(p.annotation is not p.empty for p in taken if p.name not in ("self", "cls"))
        returns = function.__name__ == "__init__" or "return" in function.__annotations__
        if not (annotated and returns):
            bare.add(f"{function.__module__}.{function.__qualname__}")
    assert not bare, "\n".join(sorted(bare))

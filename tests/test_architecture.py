"""The house has one direction: imports are read from the source, so nothing has to run."""

import ast
import sys
from pathlib import Path

import pytest

import keras_taps

pytestmark = pytest.mark.once

ROOT = Path(keras_taps.__file__).parent
LONGEST, LONG = 400, 300  # lines; the aim is half of that, one idea a file

# A room may import from rooms of a lower rank and from itself, never from those above.
RANKS = {
    "version": 0,
    "checks": 0,
    "domain": 0,
    "choices": 0,
    "files": 0,
    "processes": 0,
    "saved": 0,
    "typing": 0,
    "radii": 1,
    "interval": 1,
    "backend": 1,
    "provenance": 2,
    "layers": 2,
    "networks": 3,
    "bounds": 4,
    "attacks": 5,
    "objectives": 6,
    "schedules": 6,
    "metrics": 6,
    "verification": 6,  # never imports training
    "training": 7,
    "callbacks": 8,
    "experiments": 9,
    "tuning": 10,
    "reproduction": 10,
    "cli": 11,
    "__main__": 12,
}
# Rooms beside the flow, with what they may import: data and drawings know of no network.
ASIDE = {
    "datasets": {"checks", "domain", "typing", "interval", "datasets"},
    "plots": {"checks", "domain", "files", "plots", "radii"},
}
READERS = {
    "datasets": {
        "training",
        "experiments",
        "cli",
        "tuning",
        "reproduction",
    },  # training keeps the order of Batches
    "plots": {"experiments", "cli", "tuning", "reproduction"},
}
# The rooms of verification likewise. Graph and certificate are what must be trusted: NumPy, the
# standard library, and the plain helpers of the package.
VERIFICATION = {
    "__init__": 0,  # a table of names that are imported when they are asked for
    "graph": 1,
    "certificate": 2,
    "formats": 3,
    "bridges": 3,
    "exact": 3,
    "search": 4,
    "cascade": 5,
}
TRUSTED = ("graph", "certificate")
HELPERS = ("checks", "choices", "domain", "files", "radii")
MAY_TRUST = {"numpy", "keras_taps", *sys.stdlib_module_names}
BACKENDS = {"tensorflow", "jax", "torch", "tensorflow_datasets"}
MAY_NAME_BACKENDS = {
    "backend/jax.py": {"jax"},
    "backend/jax_cache.py": {"jax"},
    "backend/jax_convolution.py": {"jax"},
    "backend/tensorflow.py": {"tensorflow"},
    "backend/torch.py": {"torch"},
    "datasets/sources.py": {"tensorflow_datasets"},
    "datasets/tiny_imagenet.py": {"tensorflow_datasets"},
}

FILES = sorted(ROOT.rglob("*.py"))


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path):
    """Dotted names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(path):
    names = (name.split(".") for name in imported(path))
    return {parts[1] for parts in names if parts[0] == "keras_taps" and len(parts) > 1}


def each(files):
    return pytest.mark.parametrize("path", files, ids=lambda p: str(p.relative_to(ROOT)))


@each([path for path in FILES if room(path) != "__init__"])
def test_imports_follow_the_flow(path):
    own = room(path)
    # `from keras_taps import layers` names a room, `from keras_taps import __version__` none.
    targets = {name for name in imported_rooms(path) if name in {room(file) for file in FILES}}
    if own in ASIDE:
        assert targets <= ASIDE[own]
        return
    assert own in RANKS, f"give the room {own!r} a rank"
    for target in targets - {own}:
        if target in ASIDE:
            assert own in READERS[target], f"{own} imports {target}, which stands aside"
        else:
            assert RANKS[target] < RANKS[own], f"{own} imports {target}: back up the flow"


def inner_room(path):
    return path.relative_to(ROOT / "verification").parts[0].removesuffix(".py")


@each(sorted((ROOT / "verification").rglob("*/*.py")))
def test_verification_follows_its_flow(path):
    own = inner_room(path)
    names = (name.split(".") for name in imported(path))
    inside = {parts[2] for parts in names if parts[:2] == ["keras_taps", "verification"]}
    for target in inside - {own}:
        assert VERIFICATION[target] < VERIFICATION[own], f"{own} imports {target}"
    if own in TRUSTED:
        assert {name.split(".")[0] for name in imported(path)} <= MAY_TRUST
        assert imported_rooms(path) <= {*HELPERS, "verification"}


@each(FILES)
def test_one_module_a_backend_names_it(path):
    allowed = MAY_NAME_BACKENDS.get(str(path.relative_to(ROOT)), set())
    assert {name.split(".")[0] for name in imported(path)} & BACKENDS <= allowed


def test_no_backend_specific_keras():
    """`keras.src` and `tf.keras` are not the public Keras."""
    for path in FILES:
        assert not [n for n in imported(path) if n.startswith(("keras.src", "tf_keras"))], path


@each(FILES)
def test_files_stay_short(path):
    """A long one says why it is."""
    text = path.read_text()
    lines = len(text.splitlines())
    assert lines <= LONGEST
    assert lines <= LONG or "long" in ast.get_docstring(ast.parse(text))


def test_every_room_has_its_tests():
    tests = Path(__file__).parent
    for name in {room(path) for path in FILES} & (set(RANKS) | set(ASIDE)) - {
        "version",
        "__main__",
    }:
        assert (tests / name).is_dir() or (tests / f"test_{name}.py").exists(), name
    for name in set(VERIFICATION) - {"__init__"}:
        assert list((tests / "verification" / name).glob("test_*.py")), name

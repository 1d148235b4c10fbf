"""Functions and commands offer the same names and have the same defaults."""

import inspect

import pytest

from keras_taps import cli, verification
from keras_taps.choices import BRANCHINGS, DEFAULT_STAGES, MEMORY, STAGES
from keras_taps.cli.search import GIB
from keras_taps.verification.cascade.options import Options


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: getattr(p.default, "default", p.default) for p in parameters}


@pytest.mark.parametrize("name", ["certify", "verify", "certified_radius"])
def test_functions(name):
    found = defaults(getattr(verification, name))
    assert found["stages"] is None or set(found["stages"]) <= set(STAGES)


def test_options():
    found = Options()
    assert found.memory == MEMORY
    assert found.branching in BRANCHINGS


@pytest.mark.parametrize("command", [cli.certify, cli.verify])
def test_commands(command):
    found = defaults(command.run)
    assert found["memory"] * GIB == MEMORY
    assert found["branching"] == Options().branching


def test_all_but_the_exact_solver_by_default():
    assert set(STAGES) - set(DEFAULT_STAGES) == {"milp"}
    assert defaults(verification.certify)["stages"] == DEFAULT_STAGES

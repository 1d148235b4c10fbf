"""`keras-taps verify`: the answer alone on the first line, in the format of the competition."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_taps.verification.formats.onnx_writer import write_onnx
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once

SPEC = """
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(assert (and (>= X_0 -1) (<= X_0 1) (>= X_1 -1) (<= X_1 1)))
(assert (>= Y_0 {limit}))
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """`relu(x_0 + x_1) + relu(x_0 - x_1)`: at most 2 in the box."""
    path = tmp_path_factory.mktemp("verify") / "network.onnx"
    first = Dense(np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2))
    write_onnx(Graph((first, Relu((2,), 0.0), Dense(np.ones((2, 1)), np.zeros(1)))), path)
    return path


def spec(folder, limit):
    path = folder / "property.vnnlib"
    path.write_text(SPEC.format(limit=limit))
    return path


def test_unsat(capsys, network, tmp_path):
    code, out, err = call(capsys, "verify", network, spec(tmp_path, 4.5))
    assert (code, out) == (0, "unsat\n"), err
    assert "decided by ibp, confirmed in float64" in err


def test_sat_comes_with_a_counterexample(capsys, network, tmp_path):
    code, out, err = call(capsys, "verify", network, spec(tmp_path, 1.0))
    assert code == 0, err
    verdict, _, rest = out.partition("\n")
    assert verdict == "sat"
    assert rest.startswith("((X_0 ")
    assert rest.endswith("))\n")
    values = {name: float(value) for name, value in re.findall(r"\((\w_\d) ([^)]+)\)", rest)}
    assert list(values) == ["X_0", "X_1", "Y_0"]
    a, b = values["X_0"], values["X_1"]
    assert values["Y_0"] == pytest.approx(max(a + b, 0) + max(a - b, 0))
    assert values["Y_0"] >= 1


def test_json(capsys, network, tmp_path):
    code, out, _ = call(capsys, "verify", network, spec(tmp_path, 1.0), "--json")
    found = json.loads(out)
    assert (code, found["verdict"], len(found["counterexample"]["X"])) == (0, "sat", 2)


def test_why_there_is_no_verdict(capsys, network, tmp_path):
    command = ("verify", network, spec(tmp_path, 2.01), "--timeout", "1e-30")
    code, out, err = call(capsys, *command)
    assert (code, out) == (0, "timeout\n")
    assert "ibp: not begun" in err
    _, out, _ = call(capsys, *command, "--json")
    assert json.loads(out)["ended"][0]["stage"] == "ibp"


def test_branch_and_bound_is_told_how(capsys, network, tmp_path, monkeypatch):
    """2.01 is above the maximum of 2 and below every linear bound."""
    monkeypatch.setattr("keras_taps.verification.cascade.verify.MOST_INPUTS", 0)
    command = ("verify", network, spec(tmp_path, 2.01), "--branching", "gap", "--cuts", 0)
    code, out, err = call(capsys, *command, "--memory", 0.5)
    assert (code, out) == (0, "unsat\n"), err
    assert "decided by bab, confirmed in float64" in err


def test_bad_input(capsys, network, tmp_path):
    good, junk = spec(tmp_path, 1.0), tmp_path / "junk"
    junk.write_text("(assert")
    refused(capsys, "There is no file", "verify", tmp_path / "none.onnx", good)
    refused(capsys, "There is no file", "verify", network, tmp_path / "none.vnnlib")
    refused(capsys, "not a valid ONNX", "verify", junk, good)
    refused(capsys, "never closed", "verify", network, junk)
    refused(capsys, "`timeout`", "verify", network, good, "--timeout", -1)
    refused(capsys, "`--branching`", "verify", network, good, "--branching", "best")
    refused(capsys, "`--memory`", "verify", network, good, "--memory", "nan")
    refused(capsys, "--backend", "verify", network, good, "--backend", "mxnet")


CHOICE = """
import json, os, sys
from keras_taps.cli.backend import prefer_backend
prefer_backend("torch")
print(os.environ.get("KERAS_BACKEND"))
"""


@pytest.mark.parametrize(
    ("chosen", "configured", "wanted"),
    [
        (None, None, "torch"),
        (None, "tensorflow", "torch"),
        (None, "jax", "None"),
        ("jax", None, "jax"),
    ],
)
def test_the_quickest_backend_unless_another_was_chosen(chosen, configured, wanted, tmp_path):
    pytest.importorskip("torch")
    if configured:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": configured}))
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    environment |= {"KERAS_HOME": str(tmp_path)} | ({"KERAS_BACKEND": chosen} if chosen else {})
    command = [sys.executable, "-c", CHOICE]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == wanted

"""`keras-taps verify`: the answer alone on the first line, in the format of the competition."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from keras_taps.verification.formats.onnx_values import LAYOUT, OPS
from keras_taps.verification.formats.onnx_writer import write_onnx
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once

SCRIPTS = Path(__file__).parents[2] / "vnncomp"
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


QUERY = """(vnnlib-version <2.0>)
(declare-network N (declare-input images float32 [1,2]) (declare-output logits {kind} [1]))
(assert (and (>= images[0,0] -0.1) (<= images[0,0] 1.0) (== images[0,1] 0.1)))
(assert (>= logits[0] {limit}))
"""


def query(folder, limit, kind="real"):
    path = folder / "query.vnnlib"
    path.write_text(QUERY.format(limit=limit, kind=kind))
    return path


def test_the_command_line_of_the_standard(capsys, network, tmp_path):
    """Its words for a verdict, its text for an assignment or TensorProto files; float32 is told."""
    asked, given = query(tmp_path, 1.95), f"N={network}"
    code, out, err = call(capsys, "verify", asked, "--network", given, "--timeout", 20)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[:2] == ["sat", "images float32 [1,2]"]
    assert lines[4] == "logits real [1]"
    x, z, value = float(lines[2]), float(lines[3]), float(lines[5])
    assert value == pytest.approx(max(x + z, 0) + max(x - z, 0))
    assert value >= 1.95
    assert float(np.float32(x)) == x  # who replays it in float32 stays in the box
    assert z == 0.1  # of which float32 has none
    assert "declared images float32: decided in real arithmetic" in err
    folder = tmp_path / "new" / "assignment"
    options = ("--network", given, "--serialise-assignments", folder)
    code, out, _ = call(capsys, "verify", asked, *options)
    assert (code, out) == (0, "sat\n")
    found = {}
    for name in ("images", "logits"):
        tensor = onnx.TensorProto()
        tensor.ParseFromString((folder / f"{name}.pb").read_bytes())
        found[name] = numpy_helper.to_array(tensor)
    assert {name: (v.dtype.name, v.shape) for name, v in found.items()} == {
        "images": ("float32", (1, 2)), "logits": ("float64", (1,)),
    }  # fmt: skip
    assert found["images"].tolist() == [[np.float32(x), np.float32(0.1)]]
    hard = query(tmp_path, 2.1)
    assert call(capsys, "verify", network, hard)[1] == "unsat\n"
    command = ("verify", hard, "--network", given, "--timeout", "1e-30")
    assert call(capsys, *command)[1] == "timed-out\n"
    old = spec(tmp_path, 1.0)
    assert call(capsys, "verify", old, "--network", given)[1].startswith("sat\n((X_0 ")


def test_queries_that_do_not_fit_the_command_line(capsys, network, tmp_path):
    (tmp_path / "double").mkdir()
    good, double = query(tmp_path, 1.0), query(tmp_path / "double", 1.0, "float64")
    given = f"N={network}"
    for message, *arguments in [
        ("NET.onnx SPEC.vnnlib, or QUERY.vnnlib", network),
        ("one argument, the query", network, good, "--network", given),
        ("--network is taken once", good, "--network", given, "--network", f"M={network}"),
        ("--network takes NAME=NET.onnx", good, "--network", network),
        ("the network of the query, N. Received: M", good, "--network", f"M={network}"),
        ("There is no file", good, "--network", "N=none.onnx"),
        ("declared as float64", double, "--network", given),
    ]:
        refused(capsys, message, "verify", *arguments)


def test_supports(capsys):
    """Every capability of the standard, from what the readers know."""
    operators = call(capsys, "supports", "--onnx-operators")[1].split()
    assert operators == sorted({*OPS, *LAYOUT})
    for capability, wanted in [
        ("onnx-opset-versions", "7\n28\n"),
        ("onnx-element-types", "real\n"),
        ("vnnlib-versions", "1.0\n2.0\n"),
        ("hidden-node-theories", "NH\n"),
        ("multiple-input-output-theories", "SIO\n"),
        ("multiple-network-theories", "SNET\n"),
        ("multiple-node-comparison-theories", "SNC\n"),
        ("arithmetic-complexity-theories", "BND\nOUTC\n"),
        ("optimised-disjunctive-reasoning", "false\n"),
        ("serialise-assignments", "true\n"),
        ("unsat-proofs", "false\n"),
    ]:
        assert call(capsys, "supports", f"--{capability}")[:2] == (0, wanted)
    refused(capsys, "one capability", "supports")
    refused(capsys, "one capability", "supports", "--unsat-proofs", "--onnx-operators")
    assert call(capsys, "--name")[1] == "keras_taps\n"


def test_scripts_of_the_competition(network, tmp_path):
    """Prepare and run as the organisers do; an error is an answer too."""

    def script(name, *arguments):
        environment = os.environ | {"KERAS_TAPS_PYTHON": sys.executable}
        command = ["bash", str(SCRIPTS / f"{name}.sh"), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    results = tmp_path / "results.txt"
    instance = ("v1", "category", network, spec(tmp_path, 4.5))
    prepared = script("prepare_instance", *instance)
    assert (prepared.returncode, prepared.stdout) == (0, ""), prepared.stderr
    assert script("run_instance", *instance[:3], query(tmp_path, 1.0), results, 20).returncode == 0
    assert results.read_text().startswith("sat\nimages float32 [1,2]\n")
    two = f"[('f', '{network}'), ('g', '{network}')]"
    assert script("run_instance", *instance[:2], two, instance[3], results, 20).returncode == 0
    assert results.read_text() == "error\n"
    assert script("prepare_instance", *instance[:2], two, instance[3]).returncode == 1
    assert script("run_instance", "v2", *instance[1:], results, 20).returncode == 1
    for name in ("install_tool", "prepare_instance", "run_instance"):
        assert os.access(SCRIPTS / f"{name}.sh", os.X_OK)


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
    command = ("verify", network, spec(tmp_path, 2.01), "--branching", "gap")
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

"""The rooms that must be trusted run alone: NumPy and the standard library."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_taps
from keras_taps.verification import certify
from keras_taps.verification.certificate.report import files_of
from tests.verification.problems import EPS, tiny

pytestmark = pytest.mark.once

OTHERS = ("keras", "tensorflow", "jax", "torch", "scipy", "highspy", "onnx", "typer", "sklearn")
ALONE = f"""
import sys
before = set(sys.modules)
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OTHERS}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from keras_taps.verification import Graph, Report, recheck
found = recheck({{path!r}})
report = Report.load({{path!r}})
assert found.holds and len(found.confirmed) == len(report.records), found
assert {{{{"ibp", "crown-ibp", "bab"}}}} <= {{{{r["stage"] for r in report.records}}}}
known = {{{{"numpy", "keras_taps", "__main__", *sys.stdlib_module_names}}}}
print(sorted({{{{name.split(".")[0] for name in set(sys.modules) - before}}}} - known))
"""


def test_recheck_runs_where_nothing_else_can_be_imported(tmp_path):
    network, x, y = tiny()
    out = tmp_path / "report.jsonl"
    stages = ["ibp", "attack", "crown-ibp", "alpha-crown", "bab"]
    certify(network, x, y, EPS, stages=stages, out=out, certificates=True)
    assert any("box_slopes" in np.load(file) for file in files_of(out).glob("certificate-*"))
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(path=str(out))],
        env={**os.environ, "PYTHONPATH": str(Path(keras_taps.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

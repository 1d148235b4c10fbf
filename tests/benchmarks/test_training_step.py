"""The benchmark of the training step runs for eager PyTorch and for this session's backend."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training_step.py"


def test_quick_mode(tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "step.json"
    names = ["eager-torch", keras.backend.backend()]
    options = ["--quick", "--implementations", *names, "--configurations", "TAPS, 1 ReLU"]
    command = [sys.executable, str(SCRIPT), *options, "--output", str(output)]
    subprocess.run(command, check=True, timeout=300)
    results = json.loads(output.read_text())["results"]
    assert [result["implementation"] for result in results] == names
    for result in results:
        assert 0 < result["minimum_s"] <= result["median_s"]
        assert 0 < result["baseline_mib"] <= result["peak_mib"]
        assert [len(turn) for turn in result["seconds"]] == [2]

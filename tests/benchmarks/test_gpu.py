"""The prepared run on a GPU, tried on a CPU: what is found out there is found out here."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
sys.path.insert(0, str(SCRIPT.parent))

import gpu_tables  # noqa: E402
from gpu_files import PACKAGES, missing_modules  # noqa: E402
from gpu_numbers import BACKENDS, REFERENCE, compare  # noqa: E402
from gpu_training import unpack  # noqa: E402

needs_jax_and_torch = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="starts processes of its own backends; once is enough"
)


@pytest.fixture
def files(tmp_path):
    """Folder as gpu_files.py makes it, with a few random images for MNIST."""
    random = np.random.default_rng(0)
    (tmp_path / "files" / "wheels").mkdir(parents=True)
    (tmp_path / "files" / "data").mkdir()
    arrays = {}
    for split, count in (("train", 600), ("test", 60)):
        arrays[f"x_{split}"] = random.integers(0, 256, (count, 28, 28)).astype("uint8")
        arrays[f"y_{split}"] = random.integers(0, 10, count).astype("uint8")
    np.savez(tmp_path / "files" / "data" / "mnist.npz", **arrays)
    return tmp_path / "files"


def run(files, out, *arguments, **options):
    command = [sys.executable, str(SCRIPT), "--files", str(files), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)


@needs_jax_and_torch
def test_tiny_run(files, tmp_path):
    pytest.importorskip("torch")
    done = run(files, tmp_path / "out", "--tiny", "--minutes", "9")
    assert done.returncode == 0, done.stderr + done.stdout
    parts = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "out").glob("*.json")}
    assert set(parts) == {"numbers", "steps", "training", "certification"}
    assert parts["numbers"]["outside"] == 0
    names = {r["implementation"] for r in parts["steps"]["measurements"][0]["results"]}
    assert names == {"jax", "torch", "eager-torch"}
    assert parts["training"]["runs"]["ibp-tiny"]["epochs_done"] == 2
    assert parts["certification"]["ibp-tiny torch"]["stages"]["ibp"]["inputs"] == 8
    assert (tmp_path / "out" / "ibp-tiny.zip").exists()
    page = gpu_tables.section(tmp_path / "out")
    assert "| PyTorch | IBP |" in page
    assert gpu_tables.NOT_RUN not in page


@needs_jax_and_torch
def test_bad_input(files, tmp_path):
    done = run(tmp_path / "nothing", tmp_path / "out", "--tiny")
    assert done.returncode == 2
    assert "is not a folder of gpu_files.py" in done.stderr
    (files / "data" / "mnist.npz").unlink()
    done = run(files, tmp_path / "out", "--tiny", "--parts", "training", "certification")
    assert done.returncode == 1
    assert "there is no" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.once
def test_page_without_results(tmp_path):
    assert gpu_tables.section(tmp_path) == gpu_tables.NOT_RUN


@pytest.mark.once
def test_everything_is_importable_here():
    assert missing_modules(sys.executable) == []
    assert "tensorflow" not in PACKAGES


@pytest.mark.once
def test_comparison_finds_an_error():
    with np.load(REFERENCE) as file:
        reference = dict(file)
    found = {
        key.partition("/")[2]: value for key, value in reference.items() if key.startswith("jax/")
    }
    rows = compare(found, reference)
    assert {row["network"] for row in rows} == {"cnn3", "resnet", "cnn7"}
    assert all(row["within"] for row in rows)
    key = "cnn7/gradient 3 taps"
    found[key] = found[key] * 1.01
    wrong = [r["operation"] for r in compare(found, reference) if not r["within"]]
    assert wrong == ["gradient taps"]
    assert {key.split("/")[0] for key in reference} == set(BACKENDS)


def test_packed_weights_come_back(tmp_path):
    import keras_taps as kt

    network, other = (kt.networks.cnn3((8, 8, 1), 10, width=1) for _ in range(2))
    flat = np.concatenate([w.ravel() for w in network.get_weights()]).astype("float16")
    for i, part in enumerate(np.array_split(flat, 2)):
        np.save(tmp_path / f"w-{i}.npy", part)
    unpack(other, [tmp_path / "w-0.npy", tmp_path / "w-1.npy"])
    for a, b in zip(network.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a.astype("float16"), b)

"""What the run on a GPU needs and a machine without a package index lacks, collected in a folder.

    python benchmarks/gpu_files.py build/gpu                 # for Python 3.12 on Linux
    python benchmarks/gpu_files.py build/gpu --python 3.11

`wheels/` gets Keras and what it and this package import on the way, `data/` MNIST as one `.npz`
file; `commit.json` says which commit it was. PyTorch and JAX for CUDA, and what they bring (NumPy,
SciPy, ml_dtypes, opt_einsum), are expected on the machine, beside this tree.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from provenance import ROOT, provenance, write_json

# Imported on the way from a recipe to a certified image; TensorFlow is not among them.
PACKAGES = (
    "keras", "namex", "optree", "absl-py", "h5py", "packaging", "rich", "markdown-it-py", "mdurl",
    "pygments", "typing-extensions", "pyyaml", "highspy", "onnx", "protobuf", "matplotlib",
    "contourpy", "cycler", "fonttools", "kiwisolver", "pillow", "pyparsing", "python-dateutil",
    "six",
)  # fmt: skip
MODULES = {"absl-py": "absl", "pyyaml": "yaml", "markdown-it-py": "markdown_it", "pillow": "PIL",
           "fonttools": "fontTools", "python-dateutil": "dateutil", "protobuf": "google.protobuf",
           "typing-extensions": "typing_extensions"}  # fmt: skip
LIMIT = 64 * 2**20
CONSTRAINTS = ROOT / "constraints.txt"


def collect(folder, python):
    """Fill the folder.

    Args:
        folder: `Path`; wheels that are there already are kept.
        python: Version such as "3.12" that the wheels are for.
    """
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    tags = [f"manylinux_2_{n}_x86_64" for n in range(39, 16, -1)]
    tags += [f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")]
    target = ["--no-deps", "--only-binary=:all:", "--python-version", python]
    target += ["--implementation", "cp", *(f"--platform={tag}" for tag in tags)]
    pins = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-"): line for line in pins if "==" in line}
    names = [pinned.get(name, name) for name in PACKAGES]
    subprocess.run([*pip, "download", *target, "--dest", str(wheels), *names], check=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LIMIT:
        sys.exit(f"The files take {size / 2**20:.0f} MiB, more than {LIMIT / 2**20:.0f}.")


def write_mnist(path, data_dir=None):
    """MNIST as Keras' `mnist.npz` has it, from TensorFlow Datasets."""
    from keras_taps.datasets.catalogue import DATASETS

    (x_train, y_train), (x_test, y_test) = DATASETS["mnist"].read(data_dir, False)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"x_train": x_train[..., 0], "y_train": y_train.astype("uint8")}
    arrays |= {"x_test": x_test[..., 0], "y_test": y_test.astype("uint8")}
    np.savez_compressed(path, **arrays)


def missing_modules(python):
    """Packages of the list that an interpreter cannot find."""
    names = {p: MODULES.get(p, p.replace("-", "_")) for p in PACKAGES}
    code = (
        "import importlib.util, json, sys\n"
        "def there(name):\n"
        "    try:\n        return importlib.util.find_spec(name) is not None\n"
        "    except ImportError:\n        return False\n"
        "print(json.dumps([p for p, m in json.loads(sys.argv[1]).items() if not there(m)]))"
    )
    command = [python, "-c", code, json.dumps(names)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--no-data", action="store_true")
    options = parser.parse_args(arguments)
    if not options.no_data and not (options.folder / "data" / "mnist.npz").exists():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        write_mnist(options.folder / "data" / "mnist.npz")
    collect(options.folder, options.python)
    write_json(options.folder / "commit.json", provenance())
    size = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    print(f"{options.folder}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()

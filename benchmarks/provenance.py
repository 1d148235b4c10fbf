"""Where a measurement comes from, and how it is written."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"

_PACKAGES = ("keras-taps", "keras", "tensorflow", "jax", "torch", "numpy")
_INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_fp16",
)
_SETTINGS = (
    "CUDA_VISIBLE_DEVICES",
    "KERAS_BACKEND",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "XLA_FLAGS",
)


def provenance():
    """Dictionary of date, machine, software and command of this process."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": _command(),
        "commit": _git("rev-parse", "HEAD"),
        "package_modified": bool(_git("status", "--porcelain", "--", "keras_taps")),
        "cpu": _cpu_model(),
        "cpu_flags": _cpu_flags(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "environment": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
    }


def threads():
    """Threads that the framework loaded in this process computes with; import it first."""
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        return {"intra": torch.get_num_threads(), "inter": torch.get_num_interop_threads()}
    if "tensorflow" in sys.modules:  # 0 means that TensorFlow takes one a core
        threading = sys.modules["tensorflow"].config.threading
        return {
            "intra": threading.get_intra_op_parallelism_threads(),
            "inter": threading.get_inter_op_parallelism_threads(),
        }
    return {}  # XLA's pool on a CPU has one a core


def read_json(path, default=None):
    """Content of a JSON file, or `default` if there is none."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def write_json(path, content):
    """Write a JSON file in one piece, so that an interruption leaves the old one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)


def add_record(path, record, same):
    """Write a record into a file's list, in place of one with equal values of the names `same`."""
    others = [r for r in read_json(path, []) if any(r[k] != record[k] for k in same)]
    write_json(path, sorted([*others, record], key=lambda r: [str(r[k]) for k in same]))


def training_of(model):
    """How the model of a run folder was trained: its `config.json`, or `None`."""
    return read_json(Path(model).parent / "config.json")


def _command():
    script = os.path.relpath(sys.argv[0], ROOT)
    return shlex.join(["python", script, *sys.argv[1:]])


def _git(*arguments):
    try:
        command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_model():
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cpu_flags():
    """Which of the instructions that decide the speed of products this machine has."""
    known = _cpuinfo().split()
    return [name for name in _INSTRUCTIONS if name in known]


def _cpuinfo():
    """What Linux says of its processors, elsewhere nothing."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

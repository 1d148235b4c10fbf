"""The prepared run on a machine with a GPU: numbers, steps, training, certification.

    python benchmarks/gpu_files.py build/gpu                      # before, where there is an index
    python3 benchmarks/gpu.py --files build/gpu --out OUT         # there; about nine minutes
    python benchmarks/gpu.py --files build/gpu --out OUT --tiny   # the same path on a CPU

Needs Python, NumPy, PyTorch and JAX for CUDA; Keras and the rest come as wheels out of `--files`,
no network and no TensorFlow is touched. Each part is processes of its own and writes its result as
it ends, so that a run that is cut short keeps what it has. A part that cannot run says why in one
sentence, the others go on; the exit code is 1 if any did not end well, 2 for unusable arguments.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

from gpu_files import missing_modules
from gpu_steps import TF32
from provenance import ROOT, provenance, read_json, write_json

HERE = Path(__file__).resolve().parent
PARTS = ("numbers", "steps", "training", "certification")
BACKENDS = ("jax", "torch")
SHARES = {"numbers": 0.15, "steps": 0.3, "training": 0.4, "certification": 0.15}
MEMORY_GIB = 60  # the largest step, all classes of K = 200 in eager PyTorch
# Name: (recipe, changes), in waves: those of width 16 share the card with the paper's network.
RUNS = (
    {
        "ibp-64": ("mnist-0.3-ibp", {}),
        "ibp-16": ("mnist-0.1-ibp", {"width": 16}),
        "taps-16": ("mnist-0.1-taps", {"width": 16}),
    },
    {"taps-64": ("mnist-0.3-taps", {})},
)
LEAST = 100  # seconds that a wave needs for a first epoch and an evaluation
KEPT = ("ibp-64", "ibp-16", "taps-16", "ibp-tiny")  # eight files come back, and no more
TINY_RUNS = ({"ibp-tiny": ("mnist-0.1-cnn3-ibp", {"width": 1, "epochs": 2, "anneal_epochs": 1})},)


def backends_of(options):
    """The backends of numbers and certification: a tiny run takes the one that compiles nothing."""
    return ("torch",) if options.tiny else BACKENDS


class Runner:
    """Starts the processes of the parts and remembers what went wrong.

    Args:
        options: Of the command line.
        site: Folder with the packages that were missing, or `None`.
    """

    def __init__(self, options, site):
        self.options = options
        self.began = time.time()
        self.problems = []
        self.environment = {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "JAX_ENABLE_COMPILATION_CACHE": "false",  # first steps compile
            "PYTHONUNBUFFERED": "1",
            **os.environ,
        }
        paths = [str(site or ""), str(ROOT), self.environment.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))

    def left(self):
        """Seconds until the run should be over."""
        return self.options.minutes * 60 - (time.time() - self.began)

    def run(self, name, script, *arguments, seconds, **variables):
        """Run a script to its end or its time; returns whether it ended well.

        Its output goes to `NAME.log` in the folder of logs; the last line of a failure is kept.
        """
        log = self.options.logs / f"{name}.log"
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        with log.open("w") as file:
            try:
                done = subprocess.run(
                    command, stdout=file, stderr=subprocess.STDOUT, timeout=max(1, seconds),
                    env={**self.environment, **variables},
                )  # fmt: skip
                reason = None if done.returncode == 0 else _last_line(log)
            except subprocess.TimeoutExpired:
                reason = f"stopped after {seconds:.0f} s"
        if reason:
            self.problems.append(f"{name}: {reason}")
            print(f"{name}: {reason}", flush=True)
        return reason is None

    def together(self, calls):
        """Run several at once; each call is `(positional arguments, keywords)` of `run`."""
        threads = [threading.Thread(target=self.run, args=a, kwargs=k) for a, k in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _last_line(log):
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


def numbers(runner, seconds):
    """Part 1: against the CPU, with and without TF32; all at once: most of it is compiling."""
    import numpy as np
    from gpu_numbers import NETWORKS, REFERENCE, compare

    if not REFERENCE.exists():
        runner.problems.append(f"numbers: there is no '{REFERENCE}'; gpu_numbers.py makes it")
        return {"rows": []}
    options = runner.options
    networks = ["cnn3"] if options.tiny else list(NETWORKS)
    modes = {"off": TF32["off"]} if options.tiny else TF32
    drafts, calls = {}, []
    for key in product(backends_of(options), modes, networks):
        backend, mode, network = key
        name = f"numbers-{backend}-tf32-{mode}-{network}"
        drafts[key] = options.logs / f"{name}.npz"
        arguments = ["measure", drafts[key], "--networks", network]
        variables = {"KERAS_BACKEND": backend, **modes[mode]}
        calls.append(((name, "gpu_numbers.py", *arguments), {"seconds": seconds, **variables}))
    runner.together(calls)
    rows = []
    with np.load(REFERENCE) as reference:
        reference = dict(reference)
    for (backend, mode, _), draft in drafts.items():
        if draft.exists():
            with np.load(draft) as found:
                found = compare(dict(found), reference)
            rows += [{"backend": backend, "tf32": mode, **row} for row in found]
    outside = [r for r in rows if r["tf32"] == "off" and not r["within"]]
    for row in outside:
        runner.problems.append(
            f"numbers: {row['backend']}, {row['network']}, {row['operation']}: error "
            f"{row['error']} over {row['tolerance']}"
        )
    return {"rows": rows, "outside": len(outside)}


def steps(runner, seconds):
    """Part 2: training steps of two backends beside the eager step."""
    path = runner.options.logs / "steps.json"
    extra = ["--tiny"] if runner.options.tiny else []
    runner.run("steps", "gpu_steps.py", path, "--seconds", seconds, *extra, seconds=seconds + 45)
    return read_json(path, {"measurements": []})


def training(runner, seconds):
    """Part 3: recipes on JAX, a wave at a time, as far as the time goes."""
    options, outputs = runner.options, {}
    deadline = time.time() + seconds
    for wave in TINY_RUNS if options.tiny else RUNS:
        left = deadline - time.time()
        if outputs and left < LEAST:
            break
        calls = []
        for name, (recipe, changes) in wave.items():
            outputs[name] = options.logs / f"training-{name}.json"
            arguments = [recipe, "--folder", options.logs / name, "--output", outputs[name]]
            arguments += ["--data", options.files / "data", "--seconds", max(left - 50, 10)]
            arguments += ["--keep", options.out] if name in KEPT else []
            arguments += ["--limit", 500] if options.tiny else []
            if changes:
                arguments += ["--set", *(f"{k}={json.dumps(v)}" for k, v in changes.items())]
            how = {"seconds": left + (300 if options.tiny else 30), "KERAS_BACKEND": "jax"}
            calls.append(((f"training-{name}", "gpu_training.py", *arguments), how))
        runner.together(calls)
    done = {name: read_json(path)[name] for name, path in outputs.items() if path.exists()}
    return {"begun": list(outputs), "runs": done}


def certification(runner, seconds):
    """Part 4: the stages of certification, on the networks of part 3."""
    options, found = runner.options, {}
    models = {"ibp-tiny": 0.1} if options.tiny else {"ibp-16": 0.1, "ibp-64": 0.3}
    for name, eps in models.items():
        folder = options.logs / name
        if not (folder / "last.keras").exists():
            runner.problems.append(f"certification: there is no network '{name}' to certify")
            continue
        for backend in backends_of(options):
            path = options.logs / f"certification-{name}-{backend}.json"
            arguments = [folder, "--data", options.files / "data", "--eps", eps, "--output", path]
            if options.tiny:
                arguments += ["--count", 8, "--batch-size", 4, "--seconds", 0.1]
                arguments += ["--stages", "ibp", "attack", "crown-ibp"]
            share = seconds / len(models) / len(backends_of(options))
            runner.run(
                f"certification-{name}-{backend}", "gpu_certification.py", *arguments,
                seconds=share, KERAS_BACKEND=backend,
            )  # fmt: skip
            found[f"{name} {backend}"] = read_json(path, {})
    return found


def card():
    """Name, memory in GiB and driver of the first card; `None` without one."""
    command = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        name, memory, driver = (part.strip() for part in text.splitlines()[0].split(","))
        return {"name": name, "memory_gib": float(memory.split()[0]) / 1024, "driver": driver}
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return None


def install_missing(files):
    """Install the wheels of packages that this interpreter lacks; folder to import them from."""
    missing = missing_modules(sys.executable)
    if not missing:
        return None
    names = {name.lower().replace("-", "_") for name in missing}
    wheels = sorted((files / "wheels").glob("*.whl"))
    chosen = [w for w in wheels if w.name.split("-")[0].lower() in names]
    absent = names - {w.name.split("-")[0].lower() for w in chosen}
    if absent:
        sys.exit(
            f"Missing here and in '{files / 'wheels'}': {', '.join(sorted(absent))}. Collect them "
            "with python benchmarks/gpu_files.py FOLDER."
        )
    site = Path("/tmp" if os.name != "nt" else os.environ["TEMP"]) / "keras_taps_gpu_site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--no-cache-dir", "--upgrade", "--target", str(site), *map(str, chosen)]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The wheels could not be installed: {done.stderr.strip().splitlines()[-1]}")
    return site


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=Path, required=True, help="folder of gpu_files.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--logs", type=Path, help="folder of logs and runs; by default OUT/logs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--tiny", action="store_true", help="small, on a CPU too")
    options = parser.parse_args(arguments)
    found = card()
    if found is None and not options.tiny:
        print(
            "No CUDA card was found (nvidia-smi): only the numbers run. --tiny tries every part.",
            file=sys.stderr,
        )
        options.parts = [part for part in options.parts if part == "numbers"]
    if found and found["memory_gib"] < MEMORY_GIB and not options.tiny:
        print(
            f"The card has {found['memory_gib']:.0f} GiB: steps that need up to {MEMORY_GIB} may "
            "fail, the others run.",
            file=sys.stderr,
        )
    if not (options.files / "wheels").is_dir():
        parser.error(f"'{options.files}' is not a folder of gpu_files.py: it has no wheels.")
    options.logs = options.logs or options.out / "logs"
    options.logs.mkdir(parents=True, exist_ok=True)
    site = install_missing(options.files)
    sys.path.insert(1, str(site or ""))  # for the versions in what is written
    runner = Runner(options, site)
    if not (options.files / "data" / "mnist.npz").is_file() and "training" in options.parts:
        runner.problems.append(
            f"training, certification: there is no '{options.files / 'data' / 'mnist.npz'}'"
        )
        print(runner.problems[-1], file=sys.stderr)
        options.parts = [p for p in options.parts if p in ("numbers", "steps")]
    origin = {**provenance(), "card": found, "python": sys.version.split()[0]}
    collected = read_json(options.files / "commit.json", {})
    for name in ("commit", "package_modified"):  # a copied tree has no history
        origin[name] = collected.get(name, origin[name])
    total = sum(SHARES[part] for part in options.parts)
    for part in options.parts:
        began, known = time.time(), len(runner.problems)
        seconds = runner.left() * SHARES[part] / total
        total -= SHARES[part]
        content = globals()[part](runner, seconds)
        content |= {"problems": runner.problems[known:], "part_s": time.time() - began}
        content["provenance"] = {**origin, "command": origin["command"]}
        write_json(options.out / f"{part}.json", content)
        print(f"{part}: {time.time() - began:.0f} s", flush=True)
    for problem in runner.problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if runner.problems else 0)


if __name__ == "__main__":
    main()

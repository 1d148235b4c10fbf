"""`keras-taps verify`: one property of one network, answered as in the VNN competition."""

import sys
from pathlib import Path

import typer

from keras_taps.cli.backend import prefer_backend, switch_backend
from keras_taps.cli.output import print_json
from keras_taps.cli.search import (
    BRANCHING,
    CUTS_OPTION,
    MEMORY_OPTION,
    RECOMPUTE,
    search_options,
)

NAME = "verify"
QUICKEST = "torch"  # the least seconds of CPU for one property, see docs/benchmarks.md


def run(
    network: Path = typer.Argument(..., help="Network, an .onnx file."),
    spec: Path = typer.Argument(..., help="Property, a .vnnlib or .vnnlib.gz file."),
    timeout: float = typer.Option(60, "--timeout", help="Seconds."),
    check: bool = typer.Option(
        True, "--check/--no-check", help="Confirm proofs in float64 with their rounding errors."
    ),
    branching: str = BRANCHING,
    cuts: int = CUTS_OPTION,
    recompute: int = RECOMPUTE,
    memory: float = MEMORY_OPTION,
    trust_solver: bool = typer.Option(
        False, "--trust-solver", help="Take the exact solver at its word, which nothing confirms."
    ),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides the attacks."),
    backend: str = typer.Option(
        None,
        "--backend",
        help="tensorflow, jax or torch; by default torch "
        "where it is installed and Keras has no other choice.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Print unsat (the property holds), sat and a counterexample, unknown or timeout.

    Example: `keras-taps verify network.onnx property.vnnlib --timeout 60`
    """
    search = search_options(branching, cuts, recompute, memory)
    search |= {"check": check, "seed": seed, "trust_solver": trust_solver}
    for path in (network, spec):
        if not path.is_file():
            raise FileNotFoundError(f"There is no file '{path}'.")
    switch_backend(backend)
    prefer_backend(QUICKEST)
    from keras_taps.verification import read_onnx, read_vnnlib, verify

    read = read_onnx(network)
    sets = read_vnnlib(spec, read)
    answer = verify(read.graph, sets, timeout, **search)
    found = None
    if answer.point is not None:
        outputs = read.graph(answer.point[None])[0]
        found = {"X": read.to_onnx(answer.point).tolist(), "Y": outputs.tolist()}
    if as_json:
        names = ("verdict", "stage", "checked", "solver", "seconds")
        about = {name: getattr(answer, name) for name in names}
        about["ended"] = [{"stage": stage, "why": why} for stage, why in answer.ended]
        print_json({"network": str(network), "spec": str(spec), **about, "counterexample": found})
        return
    print(answer.verdict)
    if found is not None:
        print(counterexample(found))
    details = f"{answer.seconds:.1f} s"
    if answer.verdict in ("sat", "unsat"):
        checked = "" if answer.checked else "not "
        details += f", decided by {answer.stage or 'reading'}, {checked}confirmed in float64"
    elif answer.solver:
        details += f", solver: {answer.solver}, not confirmed in float64"
    print(details, file=sys.stderr)
    for stage, why in answer.ended:
        print(f"{stage}: {why}", file=sys.stderr)


def counterexample(values):
    """A counterexample in the format of the competition, all digits given.

    Example:

    >>> print(counterexample({"X": [0.5], "Y": [-1.0, 2.0]}))
    ((X_0 0.5)
     (Y_0 -1.0)
     (Y_1 2.0))
    """
    pairs = [f"({name}_{i} {v!r})" for name, side in values.items() for i, v in enumerate(side)]
    return "({})".format("\n ".join(pairs))

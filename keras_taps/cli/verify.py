"""`keras-taps verify`: one property of one network, answered as in the VNN competition."""

import sys
from pathlib import Path

import typer

from keras_taps.cli.backend import prefer_backend, switch_backend
from keras_taps.cli.output import print_json
from keras_taps.cli.search import BRANCHING, MEMORY_OPTION, search_options

NAME = "verify"
QUICKEST = "torch"  # the least seconds of CPU for one property, see docs/benchmarks.md


def run(
    network: Path = typer.Argument(
        ..., help="Network, an .onnx file; with --network the property."
    ),
    spec: Path = typer.Argument(
        None, help="Property, a .vnnlib or .vnnlib.gz file of VNN-LIB 1.0 or 2.0."
    ),
    networks: list[str] = typer.Option(
        [], "--network", help="NAME=NET.onnx, as the VNN-LIB standard has it."
    ),
    assignments: Path = typer.Option(
        None,
        "--serialise-assignments",
        help="Folder for a counterexample as TensorProto files; by default it is printed.",
    ),
    timeout: float = typer.Option(60, "--timeout", help="Seconds."),
    check: bool = typer.Option(
        True, "--check/--no-check", help="Confirm proofs in float64 with their rounding errors."
    ),
    branching: str = BRANCHING,
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

    As in the VNN-LIB standard, with timed-out for timeout:
    `keras-taps verify query.vnnlib --network N=network.onnx --timeout 60`
    """
    name, network, spec = _files(network, spec, networks)
    search = search_options(branching, memory)
    search |= {"check": check, "seed": seed, "trust_solver": trust_solver}
    for path in (network, spec):
        if not path.is_file():
            raise FileNotFoundError(f"There is no file '{path}'.")
    switch_backend(backend)
    prefer_backend(QUICKEST)
    from keras_taps.verification import read_onnx, verify
    from keras_taps.verification.formats.assignments import assignment_text, write_tensors
    from keras_taps.verification.formats.vnnlib import read_property

    read = read_onnx(network)
    asked = read_property(spec, read)
    if name is not None and asked.network not in (None, name):
        raise ValueError(
            f"--network must name the network of the query, {asked.network}. Received: {name}"
        )
    answer = verify(read.graph, asked.sets, timeout, **search)
    found = None
    if answer.point is not None:
        outputs = read.graph(answer.point[None])[0]
        found = {"X": read.to_onnx(answer.point).tolist(), "Y": outputs.tolist()}
        if assignments is not None:
            write_tensors(asked, found["X"], found["Y"], assignments)
    if as_json:
        names = ("verdict", "stage", "checked", "solver", "seconds")
        about = {name: getattr(answer, name) for name in names}
        about["ended"] = [{"stage": stage, "why": why} for stage, why in answer.ended]
        print_json({"network": str(network), "spec": str(spec), **about, "counterexample": found})
        return
    print("timed-out" if name is not None and answer.verdict == "timeout" else answer.verdict)
    if found is not None and assignments is None:
        print(assignment_text(asked, found["X"], found["Y"]))
    rounded = [variable for variable in asked.variables if variable.kind != "real"]
    if asked.version == "2.0" and rounded:
        declared = ", ".join(f"{variable.name} {variable.kind}" for variable in rounded)
        print(f"declared {declared}: decided in real arithmetic, not in theirs", file=sys.stderr)
    details = f"{answer.seconds:.1f} s"
    if answer.verdict in ("sat", "unsat"):
        checked = "" if answer.checked else "not "
        details += f", decided by {answer.stage or 'reading'}, {checked}confirmed in float64"
    elif answer.solver:
        details += f", solver: {answer.solver}, not confirmed in float64"
    print(details, file=sys.stderr)
    for stage, why in answer.ended:
        print(f"{stage}: {why}", file=sys.stderr)


def _files(network, spec, networks):
    """The name that `--network` gives, or `None`; the network and the property."""
    if not networks:
        if spec is None:
            raise ValueError(
                "Give NET.onnx SPEC.vnnlib, or QUERY.vnnlib --network NAME=NET.onnx. "
                f"Received: {network}"
            )
        return None, network, spec
    if spec is not None:
        raise ValueError(f"With --network there is one argument, the query. Received: {spec} too")
    if len(networks) > 1:
        raise ValueError(f"--network is taken once: one network. Received: {', '.join(networks)}")
    name, equals, path = networks[0].partition("=")
    if not (name and equals and path):
        raise ValueError(f"--network takes NAME=NET.onnx. Received: --network {networks[0]}")
    return name, Path(path), network

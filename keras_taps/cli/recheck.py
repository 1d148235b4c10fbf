"""`keras-taps recheck`: the proofs of a report once more, in NumPy alone."""

import runpy
from pathlib import Path

import typer

from keras_taps.cli.bar import progress_bar
from keras_taps.cli.output import console, print_json
from keras_taps.cli.target import Target, check_limit, read_radius
from keras_taps.domain import UNIT, plain
from keras_taps.radii import radii_text

NAME = "recheck"
_SHOWN = 10  # reasons


def run(
    report: Path = typer.Argument(..., help="Report of `keras-taps certify --certificates`."),
    model: Path = typer.Option(
        None, "--model", help="See that the report is about this run folder or .keras file."
    ),
    dataset: str = typer.Option(
        None, "--dataset", help="See that it is about all test images of this data set."
    ),
    limit: int = typer.Option(None, "--limit", help="Only this many test images."),
    eps: str = typer.Option(
        None,
        "--eps",
        help="See that it is about this radius, or those in a .npy file, one for each image.",
    ),
    domain: str = typer.Option(
        None,
        "--domain",
        help="See that its inputs may take these values: LOW,HIGH, none, or report for what it "
        "says. Default: those of the model, or 0,1.",
    ),
    partial: bool = typer.Option(
        False, "--partial", help="Let images be missing or without proof; what is there must hold."
    ),
    trust: list[Path] = typer.Option(
        None,
        "--trust",
        help="Python file that tells the checker of functions of somebody's own "
        "(register_function). It is run, and what it says is believed.",
    ),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Derive every claim of a report again in float64, on your own model and images.

    The exit code is 0 only if every record was confirmed and no image is missing, or with
    --partial if something was confirmed and nothing is wrong.

    Example: `keras-taps recheck report.jsonl --model runs/taps --dataset mnist --eps 0.1`
    """
    if report.is_dir():
        names = ", ".join(sorted(path.name for path in report.glob("*certification*.jsonl")))
        raise ValueError(
            f"A report is a file. Received: the folder '{report}', with {names or 'no report'}"
        )
    check_limit(limit)
    from keras_taps.verification import recheck

    radius = None if eps is None else read_radius(eps)
    trusted = [name for path in trust or () for name in _registered(path)]
    graph, x, y = None, None, None
    if model is not None:
        from keras_taps.verification import read_network

        target = Target(model)
        graph = read_network(target.network)
        domain = domain or target.domain
    domain = domain or UNIT
    if dataset is not None:
        from keras_taps.datasets import read_test_images

        known = None if domain == "report" else domain
        x, y = (part[:limit] for part in read_test_images(dataset, data_dir, known))
    with progress_bar("records", as_json) as bar:
        found = recheck(report, graph, x, y, radius, bar, domain, trusted)
    if as_json:
        print_json(_content(report, found, partial))
    else:
        _show(found, partial)
    if not (found.true if partial else found.holds):
        raise typer.Exit(1)


def _registered(path):
    """Names of the functions that a file registers; it is run."""
    from keras_taps.verification.graph.curves import FUNCTIONS

    if not path.is_file():
        raise ValueError(f"`--trust` must be a Python file. Received: '{path}'")
    before = dict(FUNCTIONS)
    runpy.run_path(str(path), run_name=path.stem)
    return [name for name, function in FUNCTIONS.items() if before.get(name) is not function]


def _content(report, found, partial):
    return {
        "report": str(report),
        "eps": {str(index): plain(eps) for index, eps in found.eps.items()}
        if isinstance(found.eps, dict)
        else plain(found.eps),
        "domain": found.domain.to_config(),
        "images": found.images,
        "records": found.records,
        "confirmed": len(found.confirmed),
        "rejected": {str(index): reason for index, reason in found.rejected.items()},
        "without": len(found.without),
        "missing": found.missing,
        "twice": found.twice,
        **found.accuracies(),
        "compared": list(found.compared),
        "trusted": list(found.trusted),
        "partial": partial,
        "holds": found.holds,
    }


def _show(found, partial):
    def say(text):
        console.print(text, markup=False, soft_wrap=True)

    own = "of the data" if "images" in found.compared else "as the report says"
    rows = {
        f"images {own}": found.images,
        "records": found.records,
        "confirmed": len(found.confirmed),
        "rejected": len(found.rejected),
        "without proof": len(found.without),
        "missing": found.missing,
        "named twice": len(found.twice),
    }
    width = max(map(len, rows)) + 2
    for name, count in rows.items():
        say(f"{name:<{width}}{count:6}")
    shares = found.accuracies()
    each = found.eps.values() if isinstance(found.eps, dict) else [found.eps]
    say(
        f"Confirmed at eps {radii_text(each)}, inputs in {found.domain}: "
        f"natural {shares['natural']:.2%}, certified "
        f"{shares['certified']:.2%}, as deployed in float32 {shares['certified_as_deployed']:.2%}."
    )
    options = {"network": "--model", "images": "--dataset", "eps": "--eps", "domain": "--domain"}
    left = [f"{name} ({opt})" for name, opt in options.items() if name not in found.compared]
    if left:
        say(f"Not compared with yours: {', '.join(left)}.")
    if found.trusted:
        say(f"Every proof rests on functions that you trust: {', '.join(found.trusted)}.")
    for index, reason in list(found.rejected.items())[:_SHOWN]:
        say(f"image {index}: {reason}")
    if len(found.rejected) > _SHOWN:
        say(f"and {len(found.rejected) - _SHOWN} more")
    if found.without:
        say("Verdicts without proof: the same `keras-taps certify` with --certificates keeps them.")
    if found.holds:
        say("Every claim was confirmed.")
    elif partial and found.true:
        say("PARTIAL: images without proof or record count as neither right nor certified.")
    else:
        say("NOT every claim was confirmed.")

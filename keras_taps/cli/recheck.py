"""`keras-taps recheck`: the proofs of a report once more, in NumPy alone."""

from pathlib import Path

import typer

from keras_taps.cli.bar import progress_bar
from keras_taps.cli.output import console, print_json
from keras_taps.cli.target import Target

NAME = "recheck"
_SHOWN = 10  # reasons


def run(
    report: Path = typer.Argument(..., help="Report of `keras-taps certify --certificates`."),
    model: Path = typer.Option(
        None, "--model", help="See that the report is about this run folder or .keras file."
    ),
    dataset: str = typer.Option(
        None, "--dataset", help="See that it is about test images of this data set."
    ),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Repeat the proofs and counterexamples of a report in float64.

    The exit code is 1 if one fails, or if the report has none.

    Example: `keras-taps recheck runs/taps/certification-0.1.jsonl --model runs/taps`
    """
    if report.is_dir():
        names = ", ".join(sorted(path.name for path in report.glob("*certification*.jsonl")))
        raise ValueError(
            f"A report is a file. Received: the folder '{report}', with {names or 'no report'}"
        )
    from keras_taps.datasets import read_test_images
    from keras_taps.verification import read_network, recheck

    graph = None if model is None else read_network(Target(model).network)
    x, y = (None, None) if dataset is None else read_test_images(dataset, data_dir)
    with progress_bar("proofs", as_json) as bar:
        found = recheck(report, graph, x, y, bar)
    if as_json:
        print_json(
            {
                "report": str(report),
                "confirmed": len(found.confirmed),
                "rejected": {str(index): reason for index, reason in found.rejected.items()},
                "without": len(found.without),
            }
        )
    else:
        console.print(f"confirmed            {len(found.confirmed):6}")
        console.print(f"rejected             {len(found.rejected):6}")
        console.print(f"without certificate  {len(found.without):6}")
        given = {"network (--model)": model, "images (--dataset)": dataset}
        own = [name for name, value in given.items() if value is None]
        if own:
            console.print(f"Not compared with yours: {', '.join(own)}.", soft_wrap=True)
        for index, reason in list(found.rejected.items())[:_SHOWN]:
            console.print(f"image {index}: {reason}", markup=False, soft_wrap=True)
        if len(found.rejected) > _SHOWN:
            console.print(f"and {len(found.rejected) - _SHOWN} more")
    nothing = bool(found.without) and not found.confirmed
    if nothing and not as_json:
        console.print("No proof was kept: the same `keras-taps certify` with --certificates does.")
    if found.rejected or nothing:
        raise typer.Exit(1)

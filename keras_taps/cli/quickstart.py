"""`keras-taps quickstart`: IBP and TAPS on embedded data, a table and three pictures."""

from pathlib import Path

import typer

from keras_taps import plots
from keras_taps.cli.backend import import_keras
from keras_taps.cli.certify import certify_into, report_path
from keras_taps.cli.output import certification_table, console, print_json, stages
from keras_taps.cli.target import Target
from keras_taps.files import write_atomically

NAME = "quickstart"
TIMEOUT = 10  # seconds an image
_RUNS = {"IBP": "digits-0.1-ibp", "TAPS": "digits-0.1-taps"}


def run(
    out: Path = typer.Option(Path("runs/quickstart"), "--out", help="Folder for the two runs."),
    epochs: int = typer.Option(None, "--epochs", help="Scale the recipes to this many epochs."),
    limit: int = typer.Option(None, "--limit", help="Use this many images of each split."),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides the runs."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Train IBP and TAPS on 1797 real digits and see what is proved, in a few minutes.

    What is already trained and proved in the folder is kept. Example: `keras-taps quickstart`
    """
    import_keras()
    from keras_taps.cli.progress import training_progress
    from keras_taps.experiments.margins import margin_report
    from keras_taps.experiments.recipes import recipe
    from keras_taps.experiments.run import Run

    runs, metrics, reports, models = {}, {}, {}, {}
    for method, name in _RUNS.items():
        folder = out / method.lower()
        if (folder / "config.json").exists():
            runs[method] = Run.open(folder)
        else:
            chosen = recipe(name) if epochs is None else recipe(name).scaled(epochs)
            runs[method] = Run.create(folder, chosen, seed, limit)
        if not as_json:
            console.print(f"[bold]{method}[/]: {runs[method].recipe.epochs} epochs, {folder}")
        with training_progress(as_json) as callbacks:
            runs[method].train(callbacks)
        with stages(as_json) as progress:
            metrics[method] = runs[method].evaluate(progress)
        models[method], reports[method] = _certified(runs[method], as_json)
    eps = runs["TAPS"].recipe.eps

    margins = margin_report(models, eps, *runs["TAPS"].data.test, count=6)
    drawings = {
        "curves.png": plots.training_curves({m: run.history() for m, run in runs.items()}),
        "margins.png": plots.margin_bounds(**margins),
        "certification.png": plots.certification(reports),
    }
    for name, drawing in drawings.items():
        write_atomically(out / name, drawing.savefig)
    if as_json:
        print_json(
            {
                method: {
                    **metrics[method],
                    "report": str(report.path),
                    "accuracies": report.accuracies(),
                    "certified_by": report.certified_by(),
                }
                for method, report in reports.items()
            }
        )
        return
    title = f"Percent of {metrics['TAPS']['count']} test images of digits, eps {eps:g}"
    estimates = {"TAPS": {method: row["taps_accuracy"] for method, row in metrics.items()}}
    console.print(certification_table(reports, title, estimates))
    console.print(
        "natural: clean images. adversarial: no attack found a wrong answer within eps.\n"
        "IBP, CROWN-IBP: what interval bounds prove, and linear bounds with them.\n"
        "complete: all that is proved; deployed: of the float32 network that runs, too.\n"
        f"unknown: undecided after {TIMEOUT} s.\n"
        "TAPS: the estimate that TAPS trains on, no proof; it chose the epoch."
    )
    if gains_when_complete(reports["IBP"], reports["TAPS"]):
        console.print(
            "IBP's network is ahead by interval bounds alone; the complete verifier proves more "
            "of TAPS'.",
            soft_wrap=True,
        )
    console.print(f"Pictures: {', '.join(str(out / name) for name in drawings)}", soft_wrap=True)
    again = f"keras-taps certify {out / 'ibp'} {out / 'taps'} --timeout {TIMEOUT}"
    again += f" --limit {runs['TAPS'].limit}" if runs["TAPS"].limit else ""
    console.print(f"What each stage decided: {again}", soft_wrap=True)


def _certified(run, quiet):
    """Model and report of a run; the report is where `keras-taps certify` would write it."""
    subject, eps = Target(run.folder), run.recipe.eps
    path = report_path(subject, eps, None, None, several=False)
    options = {"timeout": TIMEOUT}
    return subject.model, certify_into(path, subject.network, run.data.test, eps, quiet, options)


def gains_when_complete(ibp, taps):
    """Whether IBP's report is ahead by interval bounds and TAPS' by all stages together."""
    early = ibp.certified_by()["ibp"] > taps.certified_by()["ibp"]
    return early and taps.accuracies()["certified"] > ibp.accuracies()["certified"]

"""`keras-taps quickstart`: IBP and TAPS on embedded data, a table and two pictures."""

from pathlib import Path

import typer

from keras_taps import plots
from keras_taps.cli.output import accuracy_table, console, print_json, stages
from keras_taps.cli.progress import training_progress
from keras_taps.experiments.margins import margin_report
from keras_taps.experiments.recipes import recipe
from keras_taps.experiments.run import Run
from keras_taps.files import write_atomically

NAME = "quickstart"
_RUNS = {"IBP": "digits-0.1-ibp", "TAPS": "digits-0.1-taps"}


def run(
    out: Path = typer.Option(Path("runs/quickstart"), "--out", help="Folder for the two runs."),
    epochs: int = typer.Option(None, "--epochs", help="Scale the recipes to this many epochs."),
    limit: int = typer.Option(None, "--limit", help="Use this many images of each split."),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides the runs."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Train IBP and TAPS on 1797 real digits and see what is proved, in a few minutes.

    What is already trained in the folder is kept. Example: `keras-taps quickstart`
    """
    runs, metrics = {}, {}
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
    eps = runs["TAPS"].recipe.eps

    curves = plots.training_curves({method: run.history() for method, run in runs.items()})
    report = margin_report(
        {method: run.load_best() for method, run in runs.items()},
        eps,
        *runs["TAPS"].data.test,
        count=6,
    )
    figure = plots.margin_bounds(**report)
    for name, drawing in (("curves.png", curves), ("margins.png", figure)):
        write_atomically(out / name, drawing.savefig)
    if as_json:
        print_json(metrics)
        return
    count = metrics["TAPS"]["count"]
    console.print(accuracy_table(f"{count} test images of digits, eps {eps:g}", metrics))
    console.print(
        "natural: clean images. PGD: an attack of 40 steps found no wrong answer within eps.\n"
        "IBP-certified: interval bounds prove that there is none (in float32).\n"
        "TAPS accuracy: the estimate that TAPS trains on; it chose the epoch."
    )
    console.print(f"Pictures: {out / 'curves.png'}, {out / 'margins.png'}")

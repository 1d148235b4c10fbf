"""`keras-taps train`: a recipe into a run folder."""

from pathlib import Path

import typer

from keras_taps.cli.output import accuracy_table, console, print_json, stages
from keras_taps.cli.progress import training_progress
from keras_taps.experiments.recipes import recipe as find_recipe
from keras_taps.experiments.run import Run

NAME = "train"


def run(
    recipe: str = typer.Argument(None, help="Name of a recipe; `keras-taps recipes` lists them."),
    out: Path = typer.Option(None, "--out", help="Run folder, by default runs/RECIPE-SEED."),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides the run."),
    epochs: int = typer.Option(None, "--epochs", help="Scale the recipe to this many epochs."),
    limit: int = typer.Option(None, "--limit", help="Use this many images of each split."),
    resume: Path = typer.Option(None, "--resume", help="Go on with this run folder."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print the metrics as JSON only."),
):
    """Train a recipe; Ctrl-C leaves a run that --resume continues to the same numbers.

    Example: `keras-taps train mnist-0.1-cnn3-taps --out runs/taps`
    """
    if (recipe is None) == (resume is None):
        raise ValueError(
            f"`train` takes a recipe or --resume RUN. Received: recipe={recipe}, --resume {resume}"
        )
    if resume is not None:
        current = Run.open(resume)
    else:
        chosen = find_recipe(recipe)
        if epochs is not None:
            chosen = chosen.scaled(epochs)
        out = out or Path("runs") / f"{recipe}-{seed}"
        current = Run.create(out, chosen, seed, limit)
    if not as_json:
        console.print(f"Run folder {current.folder}: {current.recipe.name}, seed {current.seed}")
        if current.limit is not None or epochs is not None:
            console.print("[yellow]Scaled down: these are not the figures of the recipe.[/]")
    try:
        with training_progress(as_json) as callbacks:
            current.train(data_dir, callbacks)
    except KeyboardInterrupt:
        console.print(f"\nGo on with: keras-taps train --resume {current.folder}")
        raise
    with stages(as_json) as progress:
        metrics = current.evaluate(data_dir, progress)
    if as_json:
        print_json(metrics)
        return
    title = f"{metrics['count']} test images, eps {current.recipe.eps:g}, {metrics['model']}"
    console.print(accuracy_table(title, {current.recipe.name: metrics}))
    console.print(f"Curves: {current.path('curves.png')}")

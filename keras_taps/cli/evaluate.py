"""`keras-taps evaluate`: a run or a model on test images."""

from pathlib import Path

import typer

from keras_taps.checks import check_count, check_radius
from keras_taps.cli.output import accuracy_table, console, print_json, stages

NAME = "evaluate"


def run(
    target: Path = typer.Argument(..., help="Run folder, or a .keras file with --dataset."),
    eps: float = typer.Option(None, "--eps", help="Radius in pixel units, by default the model's."),
    dataset: str = typer.Option(None, "--dataset", help="Data set of a .keras file."),
    limit: int = typer.Option(None, "--limit", help="Only this many test images."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Natural, PGD, IBP-certified and TAPS accuracy on the test images.

    Example: `keras-taps evaluate runs/taps --eps 0.05`
    """
    if eps is not None:
        check_radius("eps", eps)
    if limit is not None:
        check_count("limit", limit, low=1)
    from keras_taps.datasets import load
    from keras_taps.experiments.evaluation import evaluate_robustness
    from keras_taps.experiments.run import Run, load_model
    from keras_taps.training import CertifiedModel

    if target.is_dir():
        current = Run.open(target)
        model, dataset = current.load_best(), dataset or current.recipe.dataset
    else:
        model = load_model(target)
    if not isinstance(model, CertifiedModel):
        raise ValueError(
            "`target` must hold a model of certified training, such as TAPSModel. "
            f"Received: {type(model).__name__}"
        )
    if dataset is None:
        raise ValueError("A .keras file needs --dataset NAME. Received: no --dataset")
    x, y = (part[:limit] for part in load(dataset, data_dir).test)
    with stages(as_json) as progress:
        metrics = evaluate_robustness(model, x, y, eps, progress=progress)
    radius = model.eps if eps is None else eps
    metrics = {"target": str(target), "dataset": dataset, "eps": radius, **metrics}
    if as_json:
        print_json(metrics)
        return
    title = f"{metrics['count']} test images of {dataset}, eps {radius:g}"
    console.print(accuracy_table(title, {target.name: metrics}))

"""`keras-taps evaluate`: a run or a model on test images."""

from pathlib import Path

import typer

from keras_taps.cli.backend import import_keras, switch_backend
from keras_taps.cli.output import accuracy_table, console, print_json, stages
from keras_taps.cli.target import Target, check_limit, parse_one_radius
from keras_taps.domain import plain, radius_text

NAME = "evaluate"


def run(
    target: Path = typer.Argument(..., help="Run folder, or a .keras file with --dataset."),
    eps: str = typer.Option(None, "--eps", help="Radius: 0.1 or 2/255. Default: the model's."),
    dataset: str = typer.Option(
        None, "--dataset", help="Test images of a .keras file: a name, or an .npz with x and y."
    ),
    limit: int = typer.Option(None, "--limit", help="Only this many test images."),
    backend: str = typer.Option(None, "--backend", help="tensorflow, jax or torch."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Natural, PGD, IBP-certified and TAPS accuracy on the test images.

    Example: `keras-taps evaluate runs/taps --eps 0.05`
    """
    radii = parse_one_radius(eps)
    check_limit(limit)
    switch_backend(backend)
    import_keras()
    from keras_taps.experiments.evaluation import evaluate_robustness
    from keras_taps.training import CertifiedModel

    subject = Target(target, dataset)
    if not isinstance(subject.model, CertifiedModel):
        raise ValueError(
            "`target` must hold a model of certified training, such as TAPSModel. "
            f"Received: {type(subject.model).__name__}. `keras-taps certify` takes others."
        )
    (radius,) = subject.radii(radii)
    x, y = subject.images(limit, data_dir)
    with stages(as_json) as progress:
        metrics = evaluate_robustness(subject.model, x, y, radius, progress=progress)
    metrics = {"target": str(target), "dataset": subject.dataset, "eps": plain(radius), **metrics}
    if as_json:
        print_json(metrics)
        return
    title = f"{metrics['count']} test images of {subject.dataset}, eps {radius_text(radius)}"
    console.print(accuracy_table(title, {target.name: metrics}))

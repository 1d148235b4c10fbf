"""`keras-taps train`: a recipe into a run folder."""

from pathlib import Path

import typer

from keras_taps.cli.backend import import_keras, switch_backend
from keras_taps.cli.output import accuracy_table, console, duration, print_json, stages
from keras_taps.domain import radius_text

NAME = "train"


def run(
    recipe: str = typer.Argument(
        None, help="Name of a recipe (`keras-taps recipes` lists them), or a YAML or TOML file."
    ),
    out: Path = typer.Option(None, "--out", help="Run folder, by default runs/RECIPE-SEED."),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides the run."),
    epochs: int = typer.Option(None, "--epochs", help="Scale the recipe to this many epochs."),
    limit: int = typer.Option(None, "--limit", help="Use this many images of each split."),
    changes: list[str] = typer.Option(
        [],
        "--set",
        metavar="NAME=VALUE",
        help="Set a field of the recipe, after --epochs; may be repeated.",
    ),
    domain: str = typer.Option(
        None,
        "--domain",
        help="What values inputs may take: LOW,HIGH, or none for no bounds; as --set domain=.",
    ),
    resume: Path = typer.Option(None, "--resume", help="Resume this run folder."),
    backend: str = typer.Option(None, "--backend", help="tensorflow, jax or torch."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show recipe, size and time; no run."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print the metrics as JSON only."),
):
    """Train a recipe; Ctrl-C leaves a run that --resume continues to the same numbers.

    Examples: `keras-taps train mnist-0.1-cnn3-taps --out runs/taps`,
    `keras-taps train cifar10-2/255-staps --epochs 2 --limit 2000 --set tau_ratio=0.2 --dry-run`
    """
    if (recipe is None) == (resume is None):
        raise ValueError(
            f"`train` takes a recipe or --resume RUN. Received: recipe={recipe}, --resume {resume}"
        )
    changes = [*changes, *([] if domain is None else [f"domain={domain}"])]
    if resume is not None and (changes or epochs is not None or limit is not None):
        raise ValueError(
            "--resume continues the recipe of the run, as it is. Received: --set, --epochs "
            "or --limit beside it"
        )
    switch_backend(backend)
    import_keras()
    from keras_taps.cli.progress import training_progress
    from keras_taps.datasets import dataset_info
    from keras_taps.experiments.recipes import find_recipe
    from keras_taps.experiments.run import Run

    if resume is not None:
        current = Run.open(resume, data_dir)
        switch_backend(backend or current.backend)
    else:
        scaled = find_recipe(recipe, epochs, parse_changes(changes))
        if dry_run:
            show_plan(scaled, limit, doubts_about(scaled, changes, limit), as_json)
            return
        out = out or Path("runs") / f"{scaled.name.replace('/', '_')}-{seed}"
        current = Run.create(out, scaled, seed, limit, data_dir)
    if not as_json:
        console.print(f"Run folder {current.folder}: {current.recipe.name}, seed {current.seed}")
        if changes:
            console.print(f"Changed: {', '.join(changes)}")
        if resume is None:
            tell_precision(scaled, current.recipe)
        tell_doubts(doubts_about(current.recipe, changes, current.limit))
        if current.limit is not None or epochs is not None:
            console.print("[yellow]Scaled down: these are not the figures of the recipe.[/]")
    try:
        with training_progress(as_json) as callbacks:
            current.train(callbacks)
    except KeyboardInterrupt:
        console.print(f"\nResume with: keras-taps train --resume {current.folder}")
        raise
    with stages(as_json) as progress:
        metrics = current.evaluate(progress)
    if as_json:
        print_json(metrics)
        return
    title = (
        f"{metrics['count']} test images, eps {radius_text(current.recipe.eps)}, {metrics['model']}"
    )
    console.print(accuracy_table(title, {current.recipe.name: metrics}))
    if metrics["natural_accuracy"] < 1.5 / dataset_info(current.recipe.dataset).num_classes:
        console.print(
            "[yellow]This network has not learned: its accuracy is that of a guess. A longer "
            "ramp of eps helps (--set anneal_epochs=N, --epochs), or a smaller train_eps.[/]"
        )
    console.print(f"Curves: {current.path('curves.png')}")


def parse_changes(changes):
    """Dictionary from the `NAME=VALUE` texts of --set."""
    from keras_taps.experiments.recipe_file import parse_value

    pairs = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not name or not equals:
            raise ValueError(f"--set takes NAME=VALUE. Received: --set {change}")
        pairs[name.strip().replace("-", "_")] = parse_value(value)
    return pairs


def doubts_about(recipe, changes=(), limit=None):
    """List of sentences about settings that are unlikely to be meant, known before the work."""
    from keras_taps.experiments.estimate import steps_per_epoch

    doubts = recipe.doubts(steps_per_epoch(recipe, limit))
    names = parse_changes(changes)
    if "eps" in names and "train_eps" not in names:
        doubts.append(
            f"eps is what is tested; training is still at train_eps="
            f"{radius_text(recipe.train_eps)}. "
            "--set train_eps= changes that."
        )
    return doubts


def tell_doubts(doubts):
    """Print them."""
    for doubt in doubts:
        console.print(f"[yellow]{doubt}[/]", soft_wrap=True)


def tell_precision(asked, found):
    """Print what 'auto' decided, and by which times."""
    if asked.options.get("search_dtype") != "auto":
        return
    from keras_taps.attacks.precision import product_seconds

    times = ", ".join(f"{1e3 * s:.2g} ms in {dtype}" for dtype, s in product_seconds().items())
    console.print(
        f"Attacks search in {found.options['search_dtype']}: a product takes {times} on this device"
    )


def show_plan(recipe, limit, doubts, as_json):
    """The resolved recipe, the size of its network and an estimate of the time."""
    from keras_taps.experiments.estimate import estimate_cost

    cost = estimate_cost(recipe, limit)
    if as_json:
        print_json({"recipe": recipe.to_config(), **cost, "warnings": doubts})
        return
    for name, value in recipe.to_config().items():
        console.print(f"{name:18} {value}")
    console.print(f"{'parameters':18} {cost['parameters']:,}")
    console.print(f"{'steps an epoch':18} {cost['steps_per_epoch']}")
    console.print(
        f"{'time':18} about {duration(cost['total_s'])} on this machine, validation not counted "
        f"({cost['annealing_step_s']:.2g} s a step while annealing, then "
        f"{cost['main_step_s']:.2g} s)"
    )
    tell_doubts(doubts)

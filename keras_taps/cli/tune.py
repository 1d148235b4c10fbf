"""`keras-taps tune`: search settings of one or more methods and draw their fronts."""

import warnings
from pathlib import Path

import typer

from keras_taps.checks import check_choice, check_count
from keras_taps.choices import DIMENSIONS, OBJECTIVES, STAGES, TUNERS
from keras_taps.cli.backend import import_keras, switch_backend
from keras_taps.cli.output import console, duration, print_json, stages
from keras_taps.cli.train import doubts_about, parse_changes, tell_doubts

NAME = "tune"
_CHEAP = "ibp,attack,crown-ibp"
_SEARCHED = ", ".join(DIMENSIONS)


def run(
    recipe: str = typer.Argument(
        None, help="Recipe that every trial starts from: a name, or a YAML or TOML file."
    ),
    method: str = typer.Option(
        None, "--method", help="Methods with commas, each searched alone. Default: the recipe's."
    ),
    trials: int = typer.Option(None, "--trials", help="Trials of each search. Default: 20."),
    workers: int = typer.Option(
        0, "--workers", help="Processes that train at the same time; 0 for this one alone."
    ),
    search: list[str] = typer.Option(
        [],
        "--search",
        metavar="NAME[=VALUES]",
        help="What to search: NAME, NAME=LOW:HIGH or NAME=A,B,C; may be repeated. Names: "
        f"{_SEARCHED}. Default: what the method has of its own.",
    ),
    tuner: str = typer.Option("random", "--tuner", help=f"{', '.join(TUNERS)}."),
    objective: str = typer.Option(
        None,
        "--objective",
        help=f"One of {', '.join(OBJECTIVES)}. Default: val_certified_accuracy with --stages, else "
        "val_taps_accuracy.",
    ),
    certify_stages: str = typer.Option(
        None,
        "--stages",
        help=f"Stages that certify validation images, out of {', '.join(STAGES)}. Default with "
        f"--objective val_certified_accuracy: {_CHEAP}.",
    ),
    images: int = typer.Option(None, "--images", help="Certify this many validation images."),
    timeout: float = typer.Option(60, "--timeout", help="Seconds of certification an image."),
    weights: str = typer.Option(
        None,
        "--weights",
        help="Weights of the certified accuracy against the natural one, such as 0.2,0.5,0.8: a "
        "search of its own for each, along the front.",
    ),
    epochs: int = typer.Option(None, "--epochs", help="Scale the recipe to this many epochs."),
    limit: int = typer.Option(None, "--limit", help="Use this many images of each split."),
    changes: list[str] = typer.Option(
        [],
        "--set",
        metavar="NAME=VALUE",
        help="Set a field of the recipe, after --epochs; may be repeated.",
    ),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides searches and trials."),
    out: Path = typer.Option(None, "--out", help="Study folder, by default studies/RECIPE-SEED."),
    resume: Path = typer.Option(
        None, "--resume", help="Resume this study folder; only --trials may be raised."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show trials and time; no search."),
    backend: str = typer.Option(None, "--backend", help="tensorflow, jax or torch."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print what was found as JSON only."),
):
    """Search settings on validation images; Ctrl-C leaves a study that --resume continues.

    The best model of each search becomes a run folder, which `certify` takes. Trials that fail
    are recorded and skipped.

    Examples: `keras-taps tune mnist-0.1-cnn3-taps --epochs 5 --trials 20 --workers 2`,
    `keras-taps tune mnist-0.1-cnn3-taps --search w_taps=1:20 --search classifier_relus=1,2`,
    `keras-taps tune mnist-0.1-cnn3-taps --method ibp,sabr,taps,staps,mtl-ibp --stages ibp,bab
    --images 500`
    """
    if (recipe is None) == (resume is None):
        raise ValueError(
            f"`tune` takes a recipe or --resume STUDY. Received: recipe={recipe}, --resume {resume}"
        )
    if resume is not None:
        given = (method, search, objective, certify_stages, images, weights, epochs, limit, changes)
        if any(value not in (None, []) for value in given):
            raise ValueError(
                "--resume continues with the settings of the study. Accepted beside it: --trials, "
                "--workers, --data-dir, --json"
            )
    check_count("--workers", workers)
    switch_backend(backend)
    import_keras()
    from keras_taps.experiments.recipe_file import parse_value
    from keras_taps.experiments.recipes import find_recipe
    from keras_taps.tuning import Study

    if resume is not None:
        study = Study.open(resume, data_dir)
        switch_backend(backend or study.backend)
    else:
        check_choice("--tuner", tuner, TUNERS)
        chosen = find_recipe(recipe, epochs, parse_changes(changes))
        if dry_run:
            count = (20 if trials is None else trials) * max(1, len(_parts(weights)))
            show_cost(chosen, _parts(method), count, limit, as_json)
            tell_doubts([] if as_json else doubts_about(chosen, changes, limit))
            return
        if certify_stages is None and objective == "val_certified_accuracy":
            certify_stages = _CHEAP
        study = Study.create(
            out or Path("studies") / f"{chosen.name.replace('/', '_')}-{seed}",
            chosen,
            methods=_parts(method),
            search=parse_search(search),
            kind=tuner,
            trials=20 if trials is None else trials,
            objective=objective,
            stages=_parts(certify_stages),
            certify_count=images,
            timeout=timeout,
            weights=tuple(parse_value(weight) for weight in _parts(weights)),
            seed=seed,
            limit=limit,
            data_dir=data_dir,
        )
    with study.held():
        if resume is not None and trials is not None:
            study = study.with_trials(trials)
        if not as_json:
            console.print(f"Study folder {study.folder}: {', '.join(study.searches)}")
            tell_doubts(doubts_about(study.recipe, changes, study.limit))
        try:
            runs = search_all(study, workers, as_json)
        except KeyboardInterrupt:
            console.print(f"\nResume with: keras-taps tune --resume {study.folder}")
            raise
        finally:
            study.write()
    if not any(runs.values()):
        raise ChildProcessError(
            f"No trial of '{study.folder}' was completed. The last error: "
            f"{study.read()[-1].get('error')}"
        )
    report(study, runs, as_json)


def show_cost(recipe, methods, trials, limit, as_json):
    """How many trials there will be of each method, and roughly how long they train."""
    from keras_taps.experiments.estimate import estimate_cost

    found = {}
    for name in methods or (recipe.method,):
        seconds = estimate_cost(recipe.changed(method=name), limit)["total_s"]
        found[name] = {"trials": trials, "trial_s": seconds, "total_s": trials * seconds}
    if as_json:
        print_json(found)
        return
    for name, cost in found.items():
        console.print(
            f"{name}: {trials} trials of about {duration(cost['trial_s'])} on this machine, "
            f"together {duration(cost['total_s'])}; validation and certification are not counted.",
            soft_wrap=True,
        )


def search_all(study, workers, quiet):
    """Run every search of a study; dictionary from their names to the runs of the best models."""
    from keras_taps.cli.trials import EpochText, watch

    runs = {}
    for name in study.searches:
        tuner = study.tuner(name)
        epoch = EpochText()
        tuner.hypermodel.callbacks = (epoch,)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Trial .* failed")  # there is a line for it
            with watch(study, name, tuner.hypermodel.objective_name, epoch, quiet):
                study.run(name, tuner, workers)
        with stages(quiet) as progress:
            runs[name] = study.export(name, progress=progress)
        study.write()
    return runs


def report(study, runs, as_json):
    """Print what was found."""
    from keras_taps.datasets import dataset_info

    fronts = study.fronts()
    found = {name: str(run.folder) for name, run in runs.items() if run}
    if as_json:
        volumes = {method: front.hypervolume() for method, front in fronts.items()}
        summary = {"study": str(study.folder), "best": found, "hypervolumes": volumes}
        print_json({**summary, "trials": study.read()})
        return
    for method, front in fronts.items():
        console.print(
            f"{method}: {len(front.front)} trials on the front, hypervolume "
            f"{front.hypervolume():.3f} ({' and '.join(front.measures)})",
            soft_wrap=True,
        )
    told = [row["val_natural_accuracy"] for row in study.read() if "val_natural_accuracy" in row]
    chance = 1.5 / dataset_info(study.recipe.dataset).num_classes
    guesses = sum(value < chance for value in told)
    if guesses:
        console.print(
            f"[yellow]{guesses} of {len(told)} trials have not learned: their accuracy is that of "
            "a guess. A longer ramp of eps helps (--set anneal_epochs=N, --epochs), or a smaller "
            "train_eps.[/]"
        )
    for name, folder in found.items():
        console.print(f"Best of {name}: {folder}", soft_wrap=True)
    console.print(f"Trials: {study.folder / 'trials.csv'}", soft_wrap=True)
    console.print(f"Front: {study.folder / 'pareto.png'}", soft_wrap=True)
    console.print(f"Next: keras-taps certify {' '.join(found.values())}", soft_wrap=True)


def _parts(text):
    """Tuple of the parts of a text with commas."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def parse_search(texts):
    """Dictionary of the dimensions in the texts of --search, `None` if there are none.

    Example:

    >>> parse_search(["w_taps=1:20", "classifier_relus=1,2", "l1"])
    {'w_taps': (1, 20), 'classifier_relus': [1, 2], 'l1': None}
    """
    from keras_taps.experiments.recipe_file import parse_value

    found = {}
    for text in texts:
        name, _, values = text.partition("=")
        ends = values.split(":")
        if not values:
            given = None
        elif len(ends) == 2:
            given = tuple(parse_value(end) for end in ends)
        else:
            given = [parse_value(value) for value in values.split(",")]
        found[name.strip().replace("-", "_")] = given
    return found or None

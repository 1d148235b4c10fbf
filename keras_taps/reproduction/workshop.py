"""Train, certify and measure the networks of a target; what is finished is kept and shared.

OUT/models/NAME/          a run folder for each network and seed, with its certification report
OUT/TARGET/results.json   records of all rows with their provenance; what is in it is not done again
OUT/TARGET/results.csv    the same, one quantity a line
OUT/TARGET/figure.png     if the target has one
"""

import hashlib
import json
import math
from contextlib import nullcontext
from pathlib import Path

from keras_taps.backend import NAME
from keras_taps.datasets import load
from keras_taps.experiments.diverged import TrainingDiverged
from keras_taps.experiments.recipe import Recipe
from keras_taps.experiments.run import Run
from keras_taps.files import write_atomically, write_csv, write_json
from keras_taps.networks.load import model_file
from keras_taps.provenance import provenance
from keras_taps.reproduction import figures
from keras_taps.reproduction.measures import MEASURES, limits_text
from keras_taps.reproduction.published import KEY
from keras_taps.reproduction.results import correlations, long_rows
from keras_taps.verification import Report, certify

_DIVERGED = "diverged.json"
_LATER = {  # fields of recipes that came after the committed results, and what was done before
    "anneal_shape": "smooth",
    "decay_every": 0,
    "cosine": False,
    "optimizer": "adam",
    "optimizer_options": {},
    "l1_per_layer": True,
    "domain": [0.0, 1.0],
}


class Workshop:
    """The folder of a scale: its models and what was measured of them.

    Args:
        folder: Path.
        scale: `Scale`.
        data_dir: Folder of TFDS data sets.
        shown: What shows the progress, functions that return contexts: 'training' of callbacks
            for `Run.train`, 'stages' of a function for `Run.evaluate`, 'images' of a function
            `show(done, total, text)`. By default nothing is shown.
    """

    def __init__(self, folder, scale, data_dir=None, shown=None):
        self.folder, self.scale, self.data_dir = Path(folder), scale, data_dir
        self.shown = shown or {
            "training": lambda: nullcontext([]),
            "stages": lambda: nullcontext(None),
            "images": lambda: nullcontext(None),
        }

    def run(self, recipe, seed):
        """The `Run` of a recipe at this scale, trained to its end.

        Of a training that diverged the epochs before are measured.

        Raises:
            TrainingDiverged: If it diverged before its first epoch ended.
            ValueError: If the folder holds a training on another number of images.
        """
        folder = self.folder / "models" / model_name(recipe, seed)
        if (folder / "config.json").exists():
            run = Run.open(folder, self.data_dir)
            if run.limit != self.scale.limit:
                raise ValueError(
                    f"'{folder}' was trained on {run.limit or 'all'} images of each split; scale "
                    f"'{self.scale.name}' takes {self.scale.limit or 'all'}. Choose another folder "
                    "with --out."
                )
        else:
            run = Run.create(folder, recipe, seed, self.scale.limit, self.data_dir)
        if not diverged(run):
            try:
                with self.shown["training"]() as callbacks:
                    run.train(callbacks)
            except TrainingDiverged as error:
                if not model_file(run.folder).exists():
                    raise  # without an epoch before it, there is nothing to measure
                write_json(run.path(_DIVERGED), {"diverged": str(error)})
        return run

    def metrics(self, run):
        """The evaluation of a run on all test images, `metrics.json` of its folder."""
        path = run.path("metrics.json")
        if not path.exists():
            with self.shown["stages"]() as progress:
                run.evaluate(progress)
        return json.loads(path.read_text())

    def images(self, run, count=None):
        """The first test images and labels, by default as many as this scale measures."""
        return tuple(part[: count or self.scale.images] for part in run.data.test)

    def report(self, run):
        """The certification report of a run at its radius.

        Returns:
            `Report` of at least as many test images as this scale measures: one that is there
            already may hold more.
        """
        path = run.path("certification.jsonl")
        x, y = self.images(run)
        if path.exists():
            report = Report.load(path)
            if len(report.records) == report.header["count"] >= len(y):
                return report
        with self.shown["images"]() as show:

            def progress(report, total):
                shares = report.accuracies()
                show(shares["count"], total, f"certified {shares['certified']:.1%}")

            return certify(
                run.load_best(),
                x,
                y,
                run.recipe.eps,
                timeout=self.scale.timeout,
                out=path,
                progress=progress if show else None,
            )


def diverged(run):
    """What there is to say of a training that diverged; empty for others."""
    path = run.path(_DIVERGED)
    return json.loads(path.read_text()) if path.exists() else {}


def model_name(recipe, seed):
    """Name of the folder of a network: the same for equal recipes, whatever they are called.

    Example:

    >>> model_name(recipe("mnist-0.1-taps"), 0).rsplit("-", 2)[0]
    'mnist-0.1-taps'
    """
    config = recipe.to_config() | {"options": recipe.own_options}
    config = {k: v for k, v in config.items() if k not in ("name", "source")}
    # A field that came later and says what was always done leaves the name as it was.
    config = {k: v for k, v in config.items() if k not in _LATER or v != _LATER[k]}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
    eps = f"{round(recipe.eps * 255)}_255" if recipe.eps < 0.04 else f"{recipe.eps:g}"
    return f"{recipe.dataset}-{eps}-{recipe.method}-{digest}-{seed}"


def reproduce(target, workshop, seeds=None, announce=None):
    """Train and measure all rows of a target and write its results.

    Records that are in the folder are not made again, and those of other seeds stay: seeds can be
    added one at a time. After each row the results are written, so an interrupted run leaves those
    that it has.

    Args:
        target: `Target`.
        workshop: `Workshop`.
        seeds: Whole numbers, by default those of the target.
        announce: Called with a short text before each row.

    Returns:
        The content of `results.json`. Rows whose data set is not there, and those whose training
        diverged before its first epoch ended, are passed over; `missing` and `failed` say why.

    Raises:
        TrainingDiverged: If that is so of every row.
        FileNotFoundError: If no data set of the target is there.
        ValueError: If the folder holds results or runs of another backend.
    """
    scale, measure = workshop.scale, MEASURES[target.kind]
    recipes = {row.key: scale.recipe(row.recipe) for row in target.rows}
    chosen = [row.key for row in target.rows if recipes[row.key]]
    if not chosen:
        raise ValueError(f"Scale '{scale.name}' leaves out every row of '{target.name}'.")
    kept = _kept(workshop.folder / target.name / "results.json", target, recipes)
    done = {each: record for each, record in kept.items() if _is_enough(record, scale)}
    wanted = tuple(target.seeds if seeds is None else seeds)
    content = {
        "target": target.name,
        "title": target.title,
        "kind": target.kind,
        "quantities": list(target.quantities),
        "command": f"keras-taps reproduce {target.name} {scale.command}",
        "scale": scale.name,
        "scale_text": scale.text + limits_text(target.kind, scale),
        "seeds": sorted(wanted),
        "backend": NAME,
        "left_out": [" ".join(filter(None, key)) for key, own in recipes.items() if own is None],
        "missing": {},
        "failed": {},
    }
    work = [(key, seed) for key in chosen for seed in wanted]
    for dataset in dict.fromkeys(key[0] for key, seed in work if (key, seed) not in done):
        try:
            load(dataset, workshop.data_dir)
        except FileNotFoundError as error:
            content["missing"][dataset] = str(error)
    work = [each for each in work if each in done or each[0][0] not in content["missing"]]
    if not work:
        raise FileNotFoundError(next(iter(content["missing"].values())))
    _save(workshop, target, content, recipes, done)
    for number, (key, seed) in enumerate(work, 1):
        name = f"{' '.join(filter(None, key))}, seed {seed}"
        if announce:
            announce(f"{target.name} {number}/{len(work)}: {name}")
        if (key, seed) in done:
            continue
        try:
            run = workshop.run(recipes[key], seed)
        except TrainingDiverged as error:  # the other rows run
            content["failed"][name] = str(error)
        else:
            done[key, seed] = {
                **dict(zip(KEY, key, strict=True)),
                "seed": seed,
                "images": scale.images,  # asked for; `None` for all
                "model": run.folder.name,
                "recipe": recipes[key].to_config(),
                "train_seconds": sum(each.get("seconds", 0.0) for each in run.history()),
                **diverged(run),
                **measure(workshop, run),
                "provenance": provenance(),
            }
        _save(workshop, target, content, recipes, done)
    if not content["records"]:
        raise TrainingDiverged(next(iter(content["failed"].values())))
    return content


def _save(workshop, target, content, recipes, done):
    """Write what there is, if anything; records of fewer images stay until they are made again."""
    folder = workshop.folder / target.name
    found = _kept(folder / "results.json", target, recipes) | done  # others may have added some
    content["seeds"] = sorted({*content["seeds"], *(seed for _, seed in found)})
    order = [(key, seed) for key in recipes for seed in content["seeds"]]
    content["records"] = [found[each] for each in order if each in found]
    content["rows"] = sum(own is not None for own in recipes.values()) * len(content["seeds"])
    content["done"] = sum(_is_enough(record, workshop.scale) for record in content["records"])
    if target.kind == "goodness":
        content["correlations"] = correlations(content["records"])
    if found:
        write(folder, target, content)


def _kept(path, target, recipes):
    """Records of earlier runs that belong to a target: dictionary from `(key, seed)`."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    if content["backend"] != NAME:
        raise ValueError(
            f"'{path}' holds results of backend {content['backend']}: resume with --backend "
            f"{content['backend']}, or choose another folder with --out. Received: backend {NAME}"
        )
    found = {}
    for record in content["records"] if content.get("kind") == target.kind else ():
        key, seed = tuple(record[name] for name in KEY), record["seed"]
        try:
            recipe = Recipe.from_config(record["recipe"])
        except (TypeError, ValueError):  # of a version with other options
            continue
        if recipes.get(key) and model_name(recipe, seed) == model_name(recipes[key], seed):
            found[key, seed] = record
    return found


def _is_enough(record, scale):
    """Whether a record is of as many test images as the scale asks for."""
    images = record.get("images", 0)  # files of older versions do not say
    return images is None or images >= (scale.images or math.inf)


def write(folder, target, content):
    """Write the results of a target.

    Args:
        folder: Path, made if it is not there.
        target: `Target`.
        content: What `reproduce` returns: it becomes `results.json`, `results.csv` with one
            quantity a line, and `figure.png` if the target has a figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", content)
    write_csv(folder / "results.csv", long_rows(target, content))
    if target.figure:
        drawing = getattr(figures, target.figure)(content)
        write_atomically(folder / "figure.png", drawing.savefig)

"""The folder of a scale: its models, trained and certified once for all targets.

OUT/models/NAME/  a run folder for each network and seed, with its certification report
"""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from keras_taps.experiments.diverged import TrainingDiverged
from keras_taps.experiments.recipe import Recipe
from keras_taps.experiments.run import Run
from keras_taps.files import write_json
from keras_taps.networks.load import model_file
from keras_taps.reproduction.scale import Scale
from keras_taps.typing import StrPath
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

    def __init__(
        self, folder: StrPath, scale: Scale, data_dir: StrPath | None = None, shown: Any = None
    ):
        self.folder, self.scale, self.data_dir = Path(folder), scale, data_dir
        self.shown = shown or {
            "training": lambda: nullcontext([]),
            "stages": lambda: nullcontext(None),
            "images": lambda: nullcontext(None),
        }

    def run(self, recipe: Recipe, seed: int) -> Run:
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

    def metrics(self, run: Run) -> dict[str, Any]:
        """The evaluation of a run on all test images, `metrics.json` of its folder."""
        path = run.path("metrics.json")
        if not path.exists():
            with self.shown["stages"]() as progress:
                run.evaluate(progress)
        return json.loads(path.read_text())

    def images(self, run: Run, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first test images and labels, by default as many as this scale measures."""
        return tuple(part[: count or self.scale.images] for part in run.data.test)

    def report(self, run: Run) -> Report:
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

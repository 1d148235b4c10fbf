"""A run folder: one training run, its settings, history, checkpoints and figures.

config.json     recipe, seed, backend, versions
history.csv     one row an epoch, its seconds with the validation
last.keras      the model after the last whole epoch, with optimizer state: what resume reads
best.keras      the model with the highest validation TAPS accuracy at the final radius (of the
                last stage)
metrics.json    the evaluation on the test images
curves.png      the history, drawn
.lock           held by the process that trains
"""

import json
import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import keras

from keras_taps import backend, plots
from keras_taps.callbacks import BestModel, TAPSEarlyStopping
from keras_taps.checks import check_count, check_seed
from keras_taps.datasets import Batches
from keras_taps.experiments.build import build_model, load_data, training_callbacks
from keras_taps.experiments.diverged import TrainingDiverged
from keras_taps.experiments.evaluation import evaluate_robustness
from keras_taps.experiments.recipe import Recipe
from keras_taps.files import PARTIAL, read_csv, write_atomically, write_csv, write_json
from keras_taps.networks.load import load_model, model_file
from keras_taps.processes import one_writer
from keras_taps.provenance import provenance
from keras_taps.training import METHODS


@dataclass(frozen=True)
class Run:
    """A run folder.

    Args:
        folder: Its path.
        recipe: `Recipe`.
        seed: Whole number; with it the run repeats itself on the same backend, machine and number
            of cores.
        limit: Number of images taken of each split, or `None` for all.
        data_dir: Folder of TFDS data sets.
        backend: Backend that it trains on: another would not resume with the same numbers.
    """

    folder: Path
    recipe: Recipe
    seed: int = 0
    limit: int | None = None
    data_dir: str | None = field(default=None, compare=False)
    backend: str = backend.NAME

    @classmethod
    def create(cls, folder, recipe, seed=0, limit=None, data_dir=None):
        """Make a new run folder, once it is clear that its model and its data are there.

        Raises:
            FileExistsError: If the folder exists and is not empty.
            FileNotFoundError: If the data is not there.
            ValueError: If `seed` or `limit` is out of range, or the recipe's method refuses its
                options or its network.
        """
        folder = Path(folder)
        check_seed(seed)
        if limit is not None:
            check_count("limit", limit, low=1)
        if folder.exists() and (not folder.is_dir() or any(map(_is_whole, folder.iterdir()))):
            raise FileExistsError(
                f"Run folder '{folder}' exists and is not empty. Choose another with --out, or go "
                f"on with it: keras-taps train --resume {folder}"
            )
        if recipe.options.get("teacher"):  # a run is resumed from anywhere
            recipe = recipe.changed(teacher=str(Path(recipe.options["teacher"]).resolve()))
        for stage in recipe.in_stages():
            model = build_model(stage.recipe, 1, seed)
        if "search_dtype" in recipe.options:  # as decided here, also where the run is resumed
            recipe = recipe.changed(search_dtype=model.search_dtype)
        run = cls(folder, recipe, seed, limit, data_dir)
        run.data  # noqa: B018 - loads, or says why it cannot
        folder.mkdir(parents=True, exist_ok=True)
        config = {"recipe": recipe.to_config(), "seed": seed, "limit": limit, **provenance()}
        write_json(folder / "config.json", config)
        return run

    @classmethod
    def open(cls, folder, data_dir=None):
        """Open an existing run folder.

        Raises:
            FileNotFoundError: If there is no run.
            ValueError: If its config cannot be read.
        """
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"'{folder}' is not a run folder: it has no config.json.")
        try:
            config = json.loads(path.read_text())
            recipe = Recipe.from_config(config["recipe"])
            return cls(folder, recipe, config["seed"], config["limit"], data_dir, config["backend"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is not the config of a run ({error!r}).") from error

    def path(self, name):
        """Path of a file of the run."""
        return self.folder / name

    def history(self):
        """Rows of `history.csv`, one an epoch; empty before the first."""
        path = self.path("history.csv")
        rows = read_csv(path) if path.exists() else []
        return [{**row, "epoch": int(row["epoch"])} for row in rows]

    def best_path(self):
        """The model that the run stands for: the best, or the last if none was chosen."""
        path = model_file(self.folder)
        if path.exists():
            return path
        raise FileNotFoundError(
            f"Run '{self.folder}' has no model yet. Train it: keras-taps train --resume "
            f"{self.folder}"
        )

    def load_best(self):
        """The model that the run stands for."""
        return load_model(self.best_path())

    @cached_property
    def data(self):
        """`Dataset` of the run, its validation split drawn by the seed, cut to `limit`."""
        return load_data(self.recipe, self.data_dir, self.seed, self.limit)

    @property
    def monitor(self):
        """Validation quantity that chooses the best epoch of this method."""
        return METHODS[self.recipe.method].monitor

    def train(self, callbacks=()):
        """Train, or resume training, to the end of the recipe.

        Args:
            callbacks: More Keras callbacks, to show progress for instance.

        Raises:
            FolderInUse: If another process trains this run.
            ValueError: On another backend than the run was begun on.
        """
        if self.backend != backend.NAME:
            raise ValueError(
                f"Run '{self.folder}' was begun on {self.backend} and resumes only there: set "
                f"KERAS_BACKEND={self.backend}. Received: backend {backend.NAME}"
            )
        with one_writer(self.folder, f"Run folder '{self.folder}'"):
            self._train(callbacks)

    def _train(self, callbacks):
        data = self.data
        steps = len(Batches(*data.train, self.recipe.batch_size))
        stages = self.recipe.in_stages()
        for stage in stages:
            # Read anew, so that a resumed run has nothing else to begin a stage with.
            model, epoch = self._checkpoint(steps)
            if epoch == stage.begin:
                model = self._begin(stage, model, steps)
            if epoch < stage.end:
                self._train_stage(stage, model, epoch, callbacks, last=stage is stages[-1])

    def _train_stage(self, stage, model, epoch, callbacks, last):
        recipe, data = stage.recipe, self.data
        history = self.history()[:epoch]  # an epoch recorded but not saved is trained again
        selection, validation = [], None
        if len(data.validation[0]):
            validation = Batches(*data.validation, recipe.batch_size, shuffle=False)
            selection = self._selection(stage, history) if last else []
        if any(each.finished for each in selection):
            return
        model.fit(
            data.train_batches(recipe.batch_size, self.seed, epoch, recipe.augment),
            epochs=stage.end,
            initial_epoch=epoch,
            validation_data=validation,
            callbacks=[
                *training_callbacks(recipe, data, stage.begin),
                *selection,
                keras.callbacks.TerminateOnNaN(),
                _Recorder(self, history),
                *callbacks,
            ],
            verbose=0,
        )

    def _selection(self, stage, history):
        """Callbacks that look at the validation, knowing what a resumed run has seen."""
        recipe = stage.recipe
        monitor = self.monitor
        first = stage.begin + max(1, recipe.annealed_epoch)
        past = [row[monitor] for row in history if row["epoch"] >= first]
        best = BestModel(
            self.path("best.keras"),
            monitor,
            best=max(past, default=None),
            averaged=recipe.averaged,
        )
        if not recipe.early_stopping:
            return [best]
        return [best, TAPSEarlyStopping(recipe.early_stopping, monitor, past=past)]

    def evaluate(self, progress=None):
        """Evaluate on the test images and write `metrics.json` and `curves.png`.

        Args:
            progress: Called with a short text before each stage.

        Returns:
            The content of `metrics.json`.
        """
        path = self.best_path()
        metrics = evaluate_robustness(load_model(path), *self.data.test, progress=progress)
        chosen = f"highest {self.monitor} on a held-out {self.recipe.validation:.0%} of train"
        metrics = {
            "model": path.name,
            "selection": chosen if path.name == "best.keras" else "last epoch",
            "dataset": self.recipe.dataset,
            "eps": self.recipe.eps,
            "seed": self.seed,
            **metrics,
            **provenance(),
        }
        write_json(self.path("metrics.json"), metrics)
        figure = plots.training_curves({self.recipe.method.upper(): self.history()})
        write_atomically(self.path("curves.png"), figure.savefig)
        return metrics

    def _checkpoint(self, steps):
        """The model of `last.keras` and the epochs that it has seen, or `(None, 0)`."""
        last = self.path("last.keras")
        if not last.exists():
            return None, 0
        model = load_model(last)
        return model, int(model.step) // steps

    def _begin(self, stage, before, steps):
        """The model with which a stage begins.

        Its step counter goes on from the stage before, and so says of any checkpoint to which
        stage it belongs.
        """
        network = None if before is None else before.network
        if network is None:
            keras.utils.set_random_seed(self.seed)
        model = build_model(stage.recipe, steps, self.seed, network)
        model.step.assign(stage.begin * steps)
        return model


def _is_whole(path):
    """Whether a file is not what an interrupted `write_atomically` left."""
    return not path.name.startswith(PARTIAL)


class _Recorder(keras.callbacks.Callback):
    """After each epoch, the history and then the checkpoint, each file whole or absent."""

    def __init__(self, run, history):
        super().__init__()
        self.run, self.history = run, list(history)

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(value) for name, value in (logs or {}).items()}
        row["seconds"] = time.perf_counter() - self._began
        if not math.isfinite(row["loss"]):
            raise TrainingDiverged(
                f"Training diverged in epoch {epoch + 1}: the loss is {row['loss']}. The files in "
                f"'{self.run.folder}' are those of the epoch before. A smaller learning_rate or "
                "clipnorm, or more anneal_epochs, may help."
            )
        self.history.append({"epoch": epoch + 1, **row})
        write_csv(self.run.path("history.csv"), self.history)
        write_atomically(self.run.path("last.keras"), self.model.save)

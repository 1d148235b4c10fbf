"""A study: searches of one recipe by one or more methods, in a folder that can be resumed.

study.json         what is searched, and how
METHOD/            the search by a method, KerasTuner's files; METHOD-WEIGHT/ if weights are given
METHOD/best/       its best model, a run folder for `keras-taps certify`
trials.csv, .json  all trials: settings, figures, costs, and which are dominated
pareto.png         the front of each method

It is one class with one long list of settings, which it checks before the first trial.
"""

import json
import shutil
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras_tuner

from keras_taps import backend, plots
from keras_taps.checks import check_choice, check_count, check_real
from keras_taps.choices import TUNERS
from keras_taps.datasets import Dataset
from keras_taps.experiments.build import load_data
from keras_taps.experiments.recipe import Recipe
from keras_taps.experiments.run import Run
from keras_taps.files import write_atomically, write_csv, write_json
from keras_taps.processes import one_writer
from keras_taps.provenance import provenance
from keras_taps.tuning.front import ParetoFront
from keras_taps.tuning.hypermodel import SCALARISED, CertifiedHyperModel
from keras_taps.tuning.space import (
    RANGES,
    TUNED,
    Range,
    dimension_values,
    search_space,
    takes,
)
from keras_taps.tuning.trials import read_trials
from keras_taps.tuning.tuners import make_tuner
from keras_taps.tuning.workers import search_with_workers
from keras_taps.typing import Progress, StrPath

_CONFIG = "study.json"


@dataclass(frozen=True)
class Study:
    """Searches by several methods, each with the same number of trials.

    Args:
        folder: Its path.
        recipe: `Recipe` that all trials start from.
        methods: Names of methods; by default that of the recipe. Each is a search of its own.
        search: As `CertifiedHyperModel`; a method searches those that it takes, or its own
            dimensions if it takes none.
        kind: As `make_tuner`.
        trials: Trials of each search.
        objective: As `CertifiedHyperModel`.
        stages: As `CertifiedHyperModel`.
        certify_count: As `CertifiedHyperModel`.
        timeout: Seconds that the certification of an image may take.
        weights: Weights in [0, 1] of the certified accuracy. Each makes a search of its own that
            maximises the scalarised accuracy, so that the searches spread along the front.
        seed: Whole number of searches and trials.
        limit: Number of images taken of each split, or `None` for all.
        data_dir: Folder of TFDS data sets.
        backend: Backend that its trials train on.

    Example:

    >>> methods = ("ibp", "sabr")
    >>> study = Study("study", recipe("digits-0.1-taps"), methods=methods, weights=(0.2, 0.8))
    >>> list(study.searches)
    ['ibp-0.2', 'ibp-0.8', 'sabr-0.2', 'sabr-0.8']
    """

    folder: Path
    recipe: Recipe
    methods: tuple[str, ...] = ()
    search: dict | None = None
    kind: str = "random"
    trials: int = 20
    objective: str | None = None
    stages: tuple[str, ...] = ()
    certify_count: int | None = None
    timeout: float = 60
    weights: tuple[float, ...] = ()
    seed: int = 0
    limit: int | None = None
    data_dir: StrPath | None = field(default=None, compare=False)
    backend: str = backend.NAME

    def __post_init__(self):
        search = self.search
        if search is not None and not isinstance(search, dict):
            search = dict.fromkeys([search] if isinstance(search, str) else search)
        own = {
            "folder": Path(self.folder),
            "methods": tuple(self.methods) or (self.recipe.method,),
            "stages": tuple(self.stages),
            "weights": tuple(self.weights),
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)
        for method in self.methods:
            check_choice("methods", method, TUNED)
        if self.weights and self.objective not in (None, SCALARISED):
            raise ValueError(
                f"With `weights` the objective is '{SCALARISED}'. Received: {self.objective!r}"
            )
        if search:
            search_space(dict.fromkeys(search), self.methods, (0,))  # the names; values come later
            search = {name: _plain(name, values) for name, values in search.items()}
        object.__setattr__(self, "search", search)
        check_choice("kind", self.kind, TUNERS)
        check_count("trials", self.trials, low=1)
        if self.limit is not None:
            check_count("limit", self.limit, low=1)
        for weight in self.weights:
            check_real("weights", weight, 0, 1)
        for values in (self.methods, self.weights):
            if len(set(values)) < len(values):
                raise ValueError(f"Methods and weights must differ. Received: {list(values)}")

    @classmethod
    def create(cls, folder: StrPath, recipe: Recipe, **settings: Any) -> "Study":
        """Make a new study, once it is clear that its trials can be built and its data is there.

        Args:
            folder: Path of a folder that does not exist or is empty.
            recipe: `Recipe`.
            **settings: Further arguments of `Study`.

        Raises:
            FileExistsError: If the folder exists and is not empty.
            FileNotFoundError: If the data is not there.
            ValueError: If an argument is out of range.
        """
        study = cls(Path(folder), recipe, **settings)
        folder = study.folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(
                f"Study folder '{folder}' exists and is not empty. Choose another with --out, or "
                f"resume it: keras-taps tune --resume {folder}"
            )
        for name in study.searches:
            study.hypermodel(name)
        folder.mkdir(parents=True, exist_ok=True)
        study.save()
        return study

    @classmethod
    def open(cls, folder: StrPath, data_dir: StrPath | None = None) -> "Study":
        """Open an existing study.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If its settings cannot be read.
        """
        path = Path(folder) / _CONFIG
        if not path.is_file():
            raise FileNotFoundError(f"'{folder}' is not a study folder: it has no {_CONFIG}.")
        try:
            config = json.loads(path.read_text())["study"]
            recipe = Recipe.from_config(config.pop("recipe"))
            return cls(Path(folder), recipe, **config, data_dir=data_dir)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is not the config of a study ({error!r}).") from error

    def with_trials(self, trials: int) -> "Study":
        """This study with another number of trials, which is written to its folder."""
        study = replace(self, trials=trials)
        study.save()
        return study

    def save(self) -> None:
        """Write `study.json`."""
        write_json(self.folder / _CONFIG, {"study": self.config(), **provenance()})

    def config(self) -> dict[str, Any]:
        """Plain dictionary of what is searched, and how; without paths of this machine."""
        return {k: v for k, v in asdict(self).items() if k not in ("folder", "data_dir")}

    @property
    def searches(self) -> dict[str, tuple[str, float | None]]:
        """Dictionary from the name of each search to its method and weight."""
        pairs = [(method, weight) for method in self.methods for weight in self.weights or (None,)]
        return {m if w is None else f"{m}-{w:g}": (m, w) for m, w in pairs}

    @cached_property
    def data(self) -> Dataset:
        """`Dataset` of the study, its validation split drawn by the seed."""
        return load_data(self.recipe, self.data_dir, self.seed, self.limit)

    def hypermodel(self, name: str) -> CertifiedHyperModel:
        """`CertifiedHyperModel` of a search."""
        method, weight = self.searches[name]
        own = {k: v for k, v in (self.search or {}).items() if takes(method, k)}
        return CertifiedHyperModel(
            self.recipe,
            own or None,
            methods=[method],
            objective=None if weight is not None else self.objective,
            stages=self.stages,
            certify_count=self.certify_count,
            certify_options={"timeout": self.timeout},
            weight=weight,
            data=self.data,
            seed=self.seed,
        )

    def tuner(self, name: str) -> keras_tuner.Tuner:
        """Tuner of a search, new or resumed."""
        return make_tuner(
            self.hypermodel(name), self.folder / name, self.kind, self.trials, self.seed
        )

    def run(self, name: str, tuner: keras_tuner.Tuner | None = None, workers: int = 0) -> None:
        """Search, or resume searching, until the trials are used up.

        Args:
            name: Name of a search.
            tuner: What `tuner` made of it.
            workers: Number of processes; 0 for this one alone.

        Raises:
            FolderInUse: If another process searches in this folder.
            ValueError: On another backend than the study was begun on.
        """
        with self.held():
            self._run(name, tuner, workers)

    def held(self) -> AbstractContextManager[None]:
        """Context in which this process alone searches in the folder."""
        return one_writer(self.folder, f"Study folder '{self.folder}'")

    def work(self, name: str) -> None:
        """Search as a worker of the process that holds the folder."""
        self._check_backend()
        self.tuner(name).search(verbose=0)

    def _check_backend(self):
        if self.backend != backend.NAME:
            raise ValueError(
                f"Study '{self.folder}' was begun on {self.backend} and resumes only there: set "
                f"KERAS_BACKEND={self.backend}. Received: backend {backend.NAME}"
            )

    def _run(self, name, tuner, workers):
        self._check_backend()
        tuner = tuner or self.tuner(name)
        if not workers:
            tuner.search(verbose=0)
            return
        command = [sys.executable, "-m", "keras_taps.tuning.worker", str(self.folder), name]
        search_with_workers(tuner, [*command, *filter(None, [self.data_dir])], workers)

    def read(self, name: str | None = None) -> list[dict[str, Any]]:
        """Trials of a search, or of all of them, as `read_trials` with the name as `search`."""
        names = list(self.searches) if name is None else [name]
        begun = [name for name in names if (self.folder / name / "oracle.json").exists()]
        return [
            {"search": name, **row} for name in begun for row in read_trials(self.folder / name)
        ]

    def fronts(self) -> dict[str, ParetoFront]:
        """Dictionary from each method that has a complete trial to its `ParetoFront`."""
        rows = self.read()
        found = {m: [row for row in rows if row["method"] == m] for m in self.methods}
        whole = {m for m in found if any(row["status"] == "completed" for row in found[m])}
        return {method: ParetoFront(found[method]) for method in found if method in whole}

    def export(
        self, name: str, evaluate: bool = True, progress: Progress | None = None
    ) -> Run | None:
        """The best model of a search as a run folder.

        Args:
            name: Name of a search.
            evaluate: Whether to measure it on test images, which nothing before has seen.
            progress: As `Run.evaluate`.

        Returns:
            `Run`, or `None` if no trial is complete.
        """
        tuner = self.tuner(name)
        whole = [t for t in tuner.oracle.trials.values() if t.status == "COMPLETED"]
        if not whole:
            return None
        # Of equals the first; KerasTuner would take that whose file it read first.
        trial = max(whole, key=lambda trial: (trial.score, -int(trial.trial_id)))
        chosen = tuner.hypermodel.trial_recipe(trial.hyperparameters).changed(
            name=f"{self.folder.resolve().name}-{name}-{trial.trial_id}",
            source=f"{self.recipe.name}, best of {len(tuner.oracle.trials)} trials",
        )
        folder = self.folder / name / "best"
        if folder.exists():
            shutil.rmtree(folder)
        run = Run.create(folder, chosen, self.seed, self.limit, self.data_dir)
        write_atomically(run.path("best.keras"), tuner.load_model(trial).save)
        history = Path(tuner.get_trial_dir(trial.trial_id)) / "history.csv"
        shutil.copyfile(history, run.path("history.csv"))
        if evaluate:
            run.evaluate(progress)
        return run

    def write(self) -> None:
        """Write `trials.csv`, and `trials.json` and `pareto.png` once there is a front."""
        rows, fronts = self.read(), self.fronts()
        if fronts:
            front = ParetoFront(rows)
            front.save(self.folder / "trials.json")
            figure = plots.pareto(fronts)
            write_atomically(self.folder / "pareto.png", figure.savefig)
            rows = front.trials
        if rows:
            write_csv(self.folder / "trials.csv", rows)


def _plain(name, values):
    """Values of a dimension as JSON keeps them apart: a list is a list, a range a dictionary."""
    if isinstance(values, tuple) and name in RANGES:
        values = dimension_values(name, values)
    return asdict(values) if isinstance(values, Range) else values

"""KerasTuner's tuners, made so that a search resumes and outlives failing trials."""

import contextlib
import io
import os
from itertools import islice
from pathlib import Path
from typing import Any

import keras_tuner

from keras_taps.checks import check_choice, check_count, check_seed
from keras_taps.choices import TUNERS
from keras_taps.tuning.hypermodel import CertifiedHyperModel
from keras_taps.typing import StrPath


class GridOracle(keras_tuner.Oracle):
    """Every combination of the values of a search space, in order.

    The n-th trial is the n-th combination, whoever asks. KerasTuner's own GridSearch keeps its
    place in memory: resumed, it ends at once or fails.

    Args:
        **options: As `keras_tuner.Oracle`. Of a range, ten values are taken.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next combination."""
        every = _combinations(self.hyperparameters.space, {})
        values = next(islice(every, len(self.start_order), None), None)
        return {"status": "RUNNING" if values else "STOPPED", "values": values}


def _combinations(space, values):
    if not space:
        yield values
        return
    first, *rest = space
    if not all(condition.is_active(values) for condition in first.conditions):
        yield from _combinations(rest, values)
        return
    discrete = isinstance(first, keras_tuner.engine.hyperparameters.Choice)
    for value in first.values if discrete else sorted(first.values):  # those of a range are a set
        yield from _combinations(rest, {**values, first.name: value})


def _grid(hypermodel, directory, project_name, **options):
    oracle = GridOracle(**options)
    return keras_tuner.Tuner(oracle, hypermodel, directory=directory, project_name=project_name)


_MAKERS = {
    "random": keras_tuner.RandomSearch,
    "bayesian": keras_tuner.BayesianOptimization,
    "hyperband": keras_tuner.Hyperband,
    "grid": _grid,
}


def make_tuner(
    hypermodel: CertifiedHyperModel,
    folder: StrPath,
    kind: str = "random",
    trials: int = 20,
    seed: int = 0,
    **options: Any,
) -> keras_tuner.Tuner:
    """A tuner of KerasTuner for a hypermodel, new or resumed.

    KerasTuner's classes take the hypermodels of this package as they are. Made here, a search
    resumes where its folder stopped, whichever process began it; failing trials never end it
    (KerasTuner gives up after three in a row); seed 0 is a seed (KerasTuner draws one);
    and a grid resumes.

    Args:
        hypermodel: `CertifiedHyperModel`.
        folder: Folder of the search; made, or resumed if it holds one.
        kind: 'random', 'bayesian', 'hyperband' or 'grid'.
        trials: Number of trials, at most; Hyperband may end before.
        seed: Whole number of the search; that of the trials is the hypermodel's.
        **options: More arguments of the tuner, such as `num_initial_points` or `factor`.

    Returns:
        `keras_tuner.Tuner`; call its `search()`. A chief and workers on several machines: call the
        same with the variables KERASTUNER_TUNER_ID ("chief" on one), KERASTUNER_ORACLE_IP and
        KERASTUNER_ORACLE_PORT set and the folder shared.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> import tempfile
    >>> hypermodel = IBPHyperModel(recipe("digits-0.1-ibp", width=1).scaled(1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tuner = make_tuner(hypermodel, folder, trials=5)  # and then tuner.search()
    >>> tuner.remaining_trials
    5
    """
    check_choice("kind", kind, TUNERS)
    check_count("trials", trials, low=1)
    folder = Path(folder).resolve()
    options = {
        "objective": hypermodel.objective,
        "seed": check_seed(seed) + 1,  # of 0, KerasTuner makes a random one
        "max_consecutive_failed_trials": trials + 1,
        **options,
    }
    if kind == "hyperband":
        options.setdefault("max_epochs", hypermodel.recipe.epochs)
    else:
        options["max_trials"] = trials
    with contextlib.redirect_stdout(io.StringIO()):  # it announces what it reloads
        tuner = _MAKERS[kind](
            hypermodel, directory=str(folder.parent), project_name=folder.name, **options
        )
        if kind == "hyperband" and not is_worker():
            tuner.oracle.max_trials = trials
        # KerasTuner resumes by a file of this very process, and not if another began the search.
        if not is_worker() and not tuner.oracle.trials and (folder / "oracle.json").exists():
            tuner.oracle.reload()
    return tuner


def is_worker():
    """Whether this process is a worker of a chief, by KerasTuner's variables."""
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" not in os.environ.get(
        "KERASTUNER_TUNER_ID", ""
    )

"""Every tuner of KerasTuner searches, resumes and outlives failing trials."""

import json

import keras_tuner
import pytest

from keras_taps.experiments.diverged import TrainingDiverged
from keras_taps.tuning import ParetoFront, make_tuner, read_trials
from tests.tuning.helpers import Untrained, hypermodel

pytestmark = pytest.mark.once

FEW = {"classifier_relus": [0, 1], "w_taps": (1, 10)}


class StopAt:
    """Ctrl-C when the n-th training begins."""

    def __init__(self, training):
        self.left = training

    def __call__(self, model):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def values(tuner):
    keys = ("classifier_relus", "w_taps", "epochs", "score")
    return [{k: row[k] for k in keys if k in row} for row in read_trials(tuner)]


@pytest.mark.parametrize(
    ("kind", "trials", "options"),
    [
        ("random", 3, {}),
        ("bayesian", 3, {"num_initial_points": 2}),
        ("hyperband", 3, {"max_epochs": 2, "factor": 2}),
        ("grid", 9, {}),
    ],
)
def test_a_stopped_search_resumes(tmp_path, kind, trials, options):
    """It ends like one that was not stopped; the trial that was cut is trained again."""
    search = {"classifier_relus": [0, 1], "w_taps": [1, 10]} if kind == "grid" else FEW

    def tuner(name, **more):
        model = hypermodel(search, kind=Untrained, **more)
        return make_tuner(model, tmp_path / name, kind, trials, seed=1, **options)

    whole = tuner("whole")
    whole.search(verbose=0)
    with pytest.raises(KeyboardInterrupt):
        tuner("stopped", callbacks=[StopAt(2)]).search(verbose=0)
    statuses = [row["status"] for row in read_trials(tmp_path / "stopped")]
    assert statuses == ["completed", "running"]
    resumed = tuner("stopped")
    resumed.search(verbose=0)
    assert values(resumed) == values(whole)
    rows = read_trials(resumed)
    assert all(row["status"] == "completed" for row in rows)
    if kind == "grid":  # with 0 ReLUs after the split there is no w_taps
        found = [(row["classifier_relus"], row.get("w_taps")) for row in rows]
        assert found == [(0, None), (1, 1), (1, 10)]
    elif kind == "hyperband":
        assert [row["epochs"] for row in rows] == [1, 1, 2]
    else:
        assert len(rows) == trials
    tuner("stopped").search(verbose=0)  # finished: nothing more happens
    assert len(read_trials(tmp_path / "stopped")) == len(rows)


def test_the_same_trials_on_every_backend(tmp_path):
    """KerasTuner draws them with Python's generator; the literals are of any backend."""
    tuner = make_tuner(hypermodel(), tmp_path / "search", trials=2, seed=0)
    drawn = [tuner.oracle.create_trial(f"tuner{i}").hyperparameters.values for i in range(2)]
    assert [row["classifier_relus"] for row in drawn] == [1, 1]
    assert [row["w_taps"] for row in drawn] == pytest.approx([1.7297, 6.2136], abs=1e-3)


def test_hyperband_continues_and_scales(tmp_path):
    """The second round starts from the state of the first, with the schedule of its epochs."""
    begun = []

    def train(model):
        begun.append((int(model.step), int(model.optimizer.iterations)))
        model.step.assign(7)
        model.optimizer.iterations.assign(7)

    changes = {"epochs": 4, "anneal_epochs": 3}
    model = hypermodel(changes=changes, callbacks=(train,), kind=Untrained)
    tuner = make_tuner(model, tmp_path / "search", "hyperband", 3, max_epochs=2, factor=2)
    tuner.search(verbose=0)
    assert [row["epochs"] for row in read_trials(tuner)] == [1, 1, 2]
    assert begun == [(0, 0), (0, 0), (7, 7)]
    recipes = [model.trial_recipe(tuner.oracle.trials[t].hyperparameters) for t in ("0", "1", "2")]
    assert [(r.epochs, r.annealed_epoch) for r in recipes] == [(1, 0.75), (1, 0.75), (2, 1.5)]


def test_failing_trials_are_recorded_and_skipped(tmp_path):
    """KerasTuner alone gives up after three in a row."""
    count = 0

    def fail(model):
        nonlocal count
        count += 1
        if count == 2:
            raise MemoryError("no 8 GiB left")
        if 2 < count < 6:
            raise TrainingDiverged("the loss is nan")

    model = hypermodel(callbacks=(fail,), kind=Untrained)
    tuner = make_tuner(model, tmp_path / "search", trials=6)
    with pytest.warns(RuntimeWarning, match="failed and is skipped; the search continues") as told:
        tuner.search(verbose=0)
    assert len([w for w in told if "is skipped" in str(w.message)]) == 4
    rows = read_trials(tuner)
    assert [row["status"] for row in rows] == ["completed", *["failed"] * 4, "completed"]
    assert rows[1]["error"] == "MemoryError: no 8 GiB left"
    assert rows[2]["error"] == "TrainingDiverged: the loss is nan"
    assert len(ParetoFront(rows).front) == 2
    state = json.loads((tmp_path / "search" / "trial_2" / "trial.json").read_text())
    assert "TrainingDiverged" in state["message"]


def test_a_failure_outside_of_fit_is_recorded(tmp_path, monkeypatch):
    model = hypermodel(kind=Untrained)
    tuner = make_tuner(model, tmp_path / "search", trials=1)
    monkeypatch.setattr(model, "trial_recipe", lambda hp: 1 / 0)
    tuner.search(verbose=0)
    assert read_trials(tuner)[0]["error"] == "ZeroDivisionError: division by zero"


def test_keras_tuners_own_classes(tmp_path):
    """A hypermodel needs nothing of `make_tuner`."""
    model = hypermodel(search={"classifier_relus": [0, 1]}, kind=Untrained)
    tuner = keras_tuner.GridSearch(model, model.objective, directory=tmp_path, project_name="own")
    tuner.search(verbose=0)
    assert [row["classifier_relus"] for row in read_trials(tuner)] == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "greedy"}, "`kind` must be one of 'random'"),
        ({"trials": 0}, "`trials`"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_bad_input(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_tuner(hypermodel(), tmp_path / "search", **options)

"""A chief and workers, in real processes."""

import os
import sys

import pytest

from keras_taps.tuning import read_trials, search_with_workers

pytestmark = pytest.mark.once

# A search without networks: trial 1 kills its process, the others return their x.
DYING = """
import os, signal, sys
import keras_tuner
class Tuner(keras_tuner.Tuner):
    def run_trial(self, trial, **options):
        if trial.trial_id == "1" and "worker" in os.environ.get("KERASTUNER_TUNER_ID", ""):
            os.kill(os.getpid(), signal.SIGKILL)
        return float(trial.hyperparameters.get("x"))
def make(folder):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("method", "none")
    hp.Choice("x", [1, 2, 3])
    oracle = keras_tuner.oracles.GridSearchOracle("loss", hyperparameters=hp, max_trials=3)
    return Tuner(oracle, directory=folder, project_name="search")
"""
SEARCH = "make(sys.argv[1]).search(verbose=0)"


def make(folder):
    names = {}
    exec(DYING, names)
    return names["make"](folder)


def test_a_killed_worker_fails_its_trial_and_is_replaced(tmp_path):
    tuner = make(tmp_path)
    search_with_workers(tuner, [sys.executable, "-c", DYING + SEARCH, str(tmp_path)], 1)
    rows = read_trials(tuner)
    assert [row["status"] for row in rows] == ["completed", "failed", "completed"]
    assert rows[1]["error"] == "Its process ended with code -9, see worker-1.log."
    assert [row["score"] for row in rows if row["status"] == "completed"] == [1.0, 3.0]


def test_workers_that_cannot_start_are_shown(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('no such search')"]
    with pytest.raises(ChildProcessError, match="no such search"):
        search_with_workers(make(tmp_path), command, 2)


def test_a_chief_that_fails_ends_its_workers(tmp_path, monkeypatch):
    tuner = make(tmp_path)
    monkeypatch.setattr(tuner, "save", lambda: 1 / 0)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(ChildProcessError, match="division by zero"):
        search_with_workers(tuner, command, 1)


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="`count`"):
        search_with_workers(make(tmp_path), ["true"], 0)


def test_the_environment_is_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "7")
    with pytest.raises(ChildProcessError):
        search_with_workers(make(tmp_path), [sys.executable, "-c", "raise SystemExit(1)"], 1)
    assert os.environ["KERASTUNER_ORACLE_PORT"] == "7"
    assert "KERASTUNER_TUNER_ID" not in os.environ

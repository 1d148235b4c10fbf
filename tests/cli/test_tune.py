"""`keras-taps tune`: a search as a user starts, stops and resumes it."""

import json

import keras
import pytest
from rich.console import Console

from keras_taps.cli import trials as shown
from keras_taps.training import IBPModel
from keras_taps.tuning import Study
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once

TINY = ("--limit", 64, "--epochs", 1)
for change in ("width=1", "batch_size=32", "anneal_epochs=0", "decay_epochs=[]"):
    TINY += ("--set", change)


def test_search_resume_and_certify(capsys, tmp_path):
    study = tmp_path / "study"
    search = ("--search", "l1=0,1e-3", "--tuner", "grid", "--trials", 1, "--stages", "ibp")
    code, out, err = call(
        capsys, "tune", "digits-0.1-ibp", *TINY, *search, "--images", 20, "--out", study
    )
    assert code == 0, err
    assert "ibp: trial 0  val_certified_accuracy 0." in out
    assert f"Next: keras-taps certify {study / 'ibp' / 'best'}" in out
    assert (study / "pareto.png").exists()

    code, out, err = call(capsys, "tune", "--resume", study, "--trials", 2, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [(row["trial"], row["l1"]) for row in found["trials"]] == [("0", 0), ("1", 0.001)]
    assert all(row["train_seconds"] > 0 for row in found["trials"])
    assert set(found["hypervolumes"]) == {"ibp"}
    (best,) = found["best"].values()

    code, out, _ = call(capsys, "certify", best, "--limit", 4, "--stages", "ibp", "--json")
    assert (code, json.loads(out)["accuracies"]["count"]) == (0, 4)


def test_a_study_whose_trials_all_fail(capsys, tmp_path, monkeypatch):
    certified_loss = IBPModel.certified_loss

    def diverging(self, batch, region):
        outcome = certified_loss(self, batch, region)
        return outcome._replace(loss=outcome.loss * float("nan"))

    monkeypatch.setattr(IBPModel, "certified_loss", diverging)
    arguments = ("--search", "l1", "--trials", 1, "--out", tmp_path / "study")
    code, out, err = call(capsys, "tune", "digits-0.1-ibp", *TINY, *arguments)
    assert code == 1
    assert "trial 0 failed, the study continues: TrainingDiverged" in out
    assert "No trial of" in err
    assert "TrainingDiverged" in err
    assert ",failed," in (tmp_path / "study" / "trials.csv").read_text()


def test_ctrl_c_tells_how_to_go_on(capsys, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", interrupted)
    study = tmp_path / "study"
    code, out, _ = call(capsys, "tune", "digits-0.1-ibp", *TINY, "--out", study)
    assert code
    assert f"keras-taps tune --resume {study}" in " ".join(out.split())
    assert [row["status"] for row in Study.open(study).read()] == ["running"]


ROWS = [
    {"trial": "0", "status": "completed", "w_taps": 1.234, "score": 0.5, "val_taps_accuracy": 0.5,
     "val_natural_accuracy": 0.9, "train_seconds": 3.0, "certify_seconds": 1.0},
    {"trial": "1", "status": "failed", "w_taps": 2.0, "error": "MemoryError: all\nof it"},
    {"trial": "2", "status": "completed", "w_taps": 9.0, "score": 0.7, "val_taps_accuracy": 0.7,
     "val_natural_accuracy": 0.8, "train_seconds": 2.0, "certify_seconds": 1.0},
    {"trial": "3", "status": "running", "w_taps": 5.0},
]  # fmt: skip


class Fixed:
    """A study with these trials."""

    trials = 4

    def read(self, name):
        return ROWS


def test_the_table_and_the_lines():
    objective = "val_taps_accuracy"
    table = shown.best_table(Fixed(), "taps", objective, ", epoch 1/5")
    assert table.title == "taps: 3 of 4 trials, 1 failed, running 3, epoch 1/5"
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    text = console.export_text().splitlines()
    first = next(line for line in text if "70.0 %" in line or "50.0 %" in line)
    assert first.split()[1] == "2"
    line = shown.describe(ROWS[0], objective)
    assert line == "trial 0  val_taps_accuracy 0.500  w_taps 1.23  4 s"
    line = shown.describe(ROWS[1], objective)
    assert line == "trial 1 failed, the study continues: MemoryError: all  w_taps 2"


def test_progress_on_a_terminal(monkeypatch):
    console = Console(width=100, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    monkeypatch.setattr(shown, "console", console)
    trials = [[], ROWS]  # what had ended before is not told again

    class Growing(Fixed):
        def read(self, name):
            return trials.pop(0) if len(trials) > 1 else trials[0]

    with shown.watch(Growing(), "taps", "val_taps_accuracy", shown.EpochText(), quiet=False):
        pass
    text = console.export_text()
    assert "taps: trial 1 failed, the study continues: MemoryError" in text
    assert "3 of 4 trials" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "takes a recipe or --resume"),
        (("digits-0.1-tap",), "Did you mean"),
        (("digits-0.1-taps", "--search", "w_tap"), "Did you mean 'w_taps'"),
        (("digits-0.1-taps", "--search", "w_taps=5:1"), "low < high"),
        (("digits-0.1-taps", "--search", "w_taps=a"), "Received: ['a']"),
        (("digits-0.1-ibp", "--search", "w_taps"), "changes nothing in the training by ibp"),
        (("digits-0.1-taps", "--method", "trades"), "`methods` must be one of"),
        (("digits-0.1-taps", "--tuner", "greedy"), "`--tuner` must be one of"),
        (("digits-0.1-taps", "--trials", "0"), "`trials`"),
        (("digits-0.1-taps", "--workers", "-1"), "`--workers`"),
        (("digits-0.1-taps", "--objective", "loss"), "`objective` must be one of"),
        (("digits-0.1-taps", "--stages", "crowns"), "`stages` must be one of"),
        (("digits-0.1-taps", "--weights", "0.5,2"), "`weights` must be a number in [0, 1]"),
        (("digits-0.1-taps", "--set", "validation=0"), "needs validation images"),
        (("--resume", "{tmp}"), "is not a study folder"),
        (("--resume", "{tmp}", "--epochs", "3"), "--resume continues with the settings"),
    ],
)
def test_bad_input(capsys, tmp_path, arguments, message):
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    out = () if "--resume" in arguments else ("--out", tmp_path / "study")
    refused(capsys, message, "tune", *arguments, *out)
    assert not (tmp_path / "study").exists()


def test_dry_run_tells_the_cost_and_makes_nothing(capsys, tmp_path):
    command = ["tune", "digits-0.1-taps", "--set", "width=1", "--epochs", "1", "--limit", "64"]
    command += ["--method", "ibp,taps", "--trials", "3", "--dry-run", "--out", tmp_path / "study"]
    code, out, err = call(capsys, *command)
    assert code == 0, err
    assert "ibp: 3 trials of about" in out
    assert "The radius grows within" in out
    assert not (tmp_path / "study").exists()

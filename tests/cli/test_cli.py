"""The command line: what a user types, sees and gets back."""

import json
import os
import subprocess
import sys

import pytest

from keras_taps.cli.app import COMMANDS
from keras_taps.datasets import DATASETS
from keras_taps.experiments.evaluation import COLUMNS
from keras_taps.experiments.recipes import RECIPES
from keras_taps.experiments.run import Run
from tests.cli.helpers import call
from tests.helpers import BACKEND


@pytest.mark.once
@pytest.mark.parametrize("command", [command.NAME for command in COMMANDS])
def test_help_shows_an_example(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert ": keras-taps " + command in " ".join(out.replace("│", " ").split())


@pytest.mark.once
def test_the_list_of_commands_has_an_example_of_each(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for command in COMMANDS:
        assert f" keras-taps {command.NAME}" in out


def test_version(capsys):
    assert call(capsys, "--version")[1].startswith("keras-taps 0.")


@pytest.mark.once
def test_recipes(capsys):
    code, out, _ = call(capsys, "recipes", "--json")
    assert code == 0
    assert set(json.loads(out)) == set(RECIPES)
    assert "classifier_relus   3" in call(capsys, "recipes", "mnist-0.1-taps")[1]


@pytest.mark.once
def test_datasets(capsys):
    code, out, _ = call(capsys, "datasets", "--json")
    assert code == 0
    assert [row["dataset"] for row in json.loads(out)] == list(DATASETS)


def test_train_evaluate_and_refusals(capsys, tmp_path):
    run = tmp_path / "run"
    train = ("train", "digits-0.1-ibp", "--epochs", 1, "--limit", 64, "--out", run)
    train += ("--set", "width=2")
    code, out, _ = call(capsys, *train)
    assert code == 0
    assert "Scaled down" in out
    assert "IBP-certified" in out

    code, _, err = call(capsys, *train)
    assert code == 2
    assert "--resume" in err

    code, out, _ = call(capsys, "evaluate", run, "--eps", "1/50", "--limit", 32, "--json")
    metrics = json.loads(out)
    assert (code, metrics["eps"], metrics["count"]) == (0, 0.02, 32)

    assert call(capsys, "train", "--resume", run)[0] == 0


@pytest.mark.once
@pytest.mark.parametrize(("natural", "hint"), [(0.12, True), (0.4, False)])
def test_a_network_that_guesses_is_pointed_out(capsys, tmp_path, monkeypatch, natural, hint):
    metrics = dict.fromkeys(COLUMNS, natural)
    monkeypatch.setattr(Run, "train", lambda self, callbacks: None)
    found = {**metrics, "count": 9, "model": "best.keras"}
    monkeypatch.setattr(Run, "evaluate", lambda self, progress: found)
    code, out, _ = call(capsys, "train", "digits-0.1-ibp", "--out", tmp_path / "run")
    assert code == 0
    assert ("has not learned" in out) == hint


def test_dry_run_trains_nothing(capsys, tmp_path):
    arguments = ("train", "digits-0.1-sabr", "--set", "tau_ratio=0.2", "--set", "width=2")
    arguments += ("--epochs", 3, "--limit", 200, "--dry-run", "--out", tmp_path / "run")
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "'tau_ratio': 0.2" in out
    assert "parameters         " in out
    assert "on this machine" in out
    code, out, _ = call(capsys, *arguments, "--json")
    plan = json.loads(out)
    assert plan["recipe"]["epochs"] == 3
    assert plan["steps_per_epoch"] == 4
    assert not (tmp_path / "run").exists()


def test_a_recipe_file_and_another_method(capsys, tmp_path, monkeypatch):
    """A recipe with a slash in its name still makes one folder."""
    path = tmp_path / "mine.toml"
    path.write_text('base = "digits-0.1-taps"\nname = "digits-1/10"\nwidth = 1\nepochs = 1\n')
    arguments = ("train", path, "--limit", 32, "--set", "anneal_epochs=0", "--set", "method=pgd")
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 0, err
    assert "Changed: anneal_epochs=0, method=pgd" in out
    config = json.loads((tmp_path / "runs" / "digits-1_10-0" / "config.json").read_text())
    assert config["recipe"]["method"] == "pgd"


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the other backends are where it leads")
def test_backend_option_starts_anew(tmp_path):
    command = [sys.executable, "-m", "keras_taps", "train", "digits-0.1-ibp", "--backend", "torch"]
    command += ["--epochs", "1", "--limit", "32", "--json", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backend"] == "torch"


def test_a_backend_that_is_not_installed():
    """Neither Keras' own choice nor --backend ends in a traceback."""
    hidden = "import sys; sys.modules['jax'] = None; from keras_taps.cli import main; main()"
    command = [sys.executable, "-c", hidden, "evaluate", "nowhere.keras"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "jax"}
    )
    assert done.returncode == 1
    assert "pip install 'keras-taps[jax]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "mnist-0.1-tap"), "Did you mean 'mnist-0.1-taps'"),
        (("train",), "takes a recipe or --resume"),
        (("train", "digits-0.1-ibp", "--epochs", "0", "--out", "x"), "`epochs`"),
        (("train", "--resume", "nowhere"), "run folder"),
        (("evaluate", "nowhere.keras"), "no model file"),
        (("evaluate", "nowhere.keras", "--eps", "-8"), "Received: eps='-8'"),
        (("evaluate", "network.onnx"), "`keras-taps verify`"),
        (("train", "mnist-0.1-ibp", "--out", "{tmp}/r", "--data-dir", "{tmp}"), "TFDS_DATA_DIR"),
        (("train", "digits-0.1-ibp", "--set", "epoch=3"), "Did you mean 'epochs'"),
        (("train", "digits-0.1-ibp", "--set", "epochs"), "--set takes NAME=VALUE"),
        (("train", "digits-0.1-sabr", "--set", "tau_ratio=1.5", "--out", "{tmp}/r"), "`tau_ratio`"),
        (("train", "digits-0.1-ibp", "--set", "method=trades"), "Received: method='trades'"),
        (("train", "digits-0.1-ibp", "--backend", "mxnet"), "Received: --backend='mxnet'"),
        (("train", "--resume", "{tmp}", "--set", "epochs=2"), "Received: --set"),
        (("train", "{tmp}/none.yaml"), "There is no recipe file"),
        (("train", "digits-0.1-ibp", "--set", "decay_epochs=[a, 1]"), "decay_epochs='a'"),
        (("train", "digits-0.1-ibp", "--dry-run", "--limit", "-5"), "`limit`"),
        (("datasets", "--nonsense"), "No such option"),
        (("nonsense",), "No such command"),
    ],
)
def test_bad_input_ends_with_2_and_no_traceback(capsys, tmp_path, arguments, message):
    code, out, err = call(capsys, *(a.format(tmp=tmp_path) for a in arguments))
    assert code == 2
    assert message in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in out + err


@pytest.mark.once
def test_a_path_that_cannot_be_made_ends_with_1(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ("train", "digits-0.1-ibp", "--set", "width=1", "--out", tmp_path / "file" / "run")
    code, out, err = call(capsys, *arguments)
    assert code == 1
    assert "Failed:" in err
    assert "Traceback" not in out + err


def test_missing_data_leave_no_folder(capsys, tmp_path):
    arguments = ("train", "mnist-0.1-cnn3-ibp", "--data-dir", tmp_path, "--out", tmp_path / "run")
    assert call(capsys, *arguments)[0] == 2
    assert not (tmp_path / "run").exists()


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "keras_taps", "--version"], capture_output=True, text=True
    )
    assert done.stdout.startswith("keras-taps ")

"""The command line: what a user types, sees and gets back."""

import json
import subprocess
import sys

import pytest

from keras_taps.cli import main
from keras_taps.experiments.recipes import RECIPES


def call(capsys, *arguments):
    """Exit code and what was printed."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    return code or 0, printed.out, printed.err


@pytest.mark.parametrize("command", ["quickstart", "train", "evaluate", "recipes", "datasets"])
def test_help_shows_an_example(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert "Example: keras-taps " + command in " ".join(out.replace("│", " ").split())


def test_version(capsys):
    assert call(capsys, "--version")[1].startswith("keras-taps 0.")


def test_recipes(capsys):
    code, out, _ = call(capsys, "recipes", "--json")
    assert code == 0
    assert set(json.loads(out)) == set(RECIPES)
    assert "classifier_relus   3" in call(capsys, "recipes", "mnist-0.1-taps")[1]


def test_datasets(capsys):
    code, out, _ = call(capsys, "datasets", "--json")
    assert code == 0
    assert [row["dataset"] for row in json.loads(out)] == ["digits", "mnist", "fashion_mnist"]


def test_train_evaluate_and_refusals(capsys, tmp_path):
    run = tmp_path / "run"
    train = ("train", "digits-0.1-ibp", "--epochs", 1, "--limit", 64, "--out", run)
    code, out, _ = call(capsys, *train)
    assert code == 0
    assert "Scaled down" in out
    assert "IBP-certified" in out

    code, _, err = call(capsys, *train)
    assert code == 2
    assert "--resume" in err

    code, out, _ = call(capsys, "evaluate", run, "--eps", 0.02, "--limit", 32, "--json")
    metrics = json.loads(out)
    assert (code, metrics["eps"], metrics["count"]) == (0, 0.02, 32)

    assert call(capsys, "train", "--resume", run)[0] == 0


def test_quickstart_draws_its_pictures(capsys, tmp_path):
    code, out, _ = call(capsys, "quickstart", "--out", tmp_path, "--epochs", 1, "--limit", 32)
    assert code == 0
    assert "TAPS" in out
    for name in ("curves.png", "margins.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "mnist-0.1-tap"), "Did you mean 'mnist-0.1-taps'"),
        (("train",), "takes a recipe or --resume"),
        (("train", "digits-0.1-ibp", "--epochs", "0", "--out", "x"), "`epochs`"),
        (("train", "--resume", "nowhere"), "no run folder"),
        (("evaluate", "nowhere.keras"), "no model file"),
        (("evaluate", "nowhere.keras", "--eps", "8"), "Received: eps=8"),
        (("train", "mnist-0.1-ibp", "--out", "{tmp}/r", "--data-dir", "{tmp}"), "TFDS_DATA_DIR"),
        (("datasets", "--nonsense"), "No such option"),
        (("nonsense",), "No such command"),
    ],
)
def test_bad_input_ends_with_2_and_no_traceback(capsys, tmp_path, arguments, message):
    code, out, err = call(capsys, *(a.format(tmp=tmp_path) for a in arguments))
    assert code == 2
    assert message in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in out + err


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "keras_taps", "--version"], capture_output=True, text=True
    )
    assert done.stdout.startswith("keras-taps ")

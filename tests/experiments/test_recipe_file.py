"""Recipes of the user's own, and values of the command line."""

import pytest

from keras_taps.experiments.recipe import Recipe
from keras_taps.experiments.recipe_file import parse_value
from keras_taps.experiments.recipes import find_recipe

FILE = """
base: mnist-0.1-staps
eps: 2/255
train_eps: 2/255
l1: 1e-5
w_taps: .inf
decay_epochs: [3, 4]
"""
TOML = """
dataset = "digits"
method = "mtl-ibp"
eps = "8/255"
alpha = 0.25
epochs = 3
"""


def test_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    found = find_recipe(path)
    assert (found.name, found.source, found.eps) == ("mine", str(path), 2 / 255)
    assert (found.l1, found.decay_epochs) == (1e-5, (3, 4))
    assert found.options["w_taps"] == float("inf")
    assert found.options["tau_ratio"] == 0.4
    path = tmp_path / "own.toml"
    path.write_text(TOML)
    found = find_recipe(str(path))
    assert (found.train_eps, found.epochs, found.options) == (8 / 255, 3, {"alpha": 0.25})
    assert Recipe.from_config(found.to_config()) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: mnist-0.1-tap", "Did you mean 'mnist-0.1-taps'"),
        ("base: mnist-0.1-taps\ntau: 3", "Received: 'tau'"),
        ("dataset: mnist", "Missing: method, eps"),
        ("- a list", "must map names to values. Received: list"),
        ("a: [", "cannot be read as a recipe"),
        ("1: 2", "Received: name of a field=1"),
        ("base: [1]", "Received: base="),
        ("dataset: [1]\nmethod: ibp\neps: 0.1", "Received: dataset="),
        ("dataset: mnist\nmethod: [ibp]\neps: 0.1", "Received: method="),
        ("base: digits-0.1-ibp\nepochs: many", "Received: epochs='many'"),
        ("dataset: mnist\nmethod: foo\neps: 0.1", "Received: method='foo'"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "bad.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        find_recipe(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no recipe file"):
        find_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-5", 1e-5), ("true", True), ("2/255", "2/255"), ("[1, 2.5]", [1, 2.5])],
)
def test_values_of_the_command_line(text, value):
    assert parse_value(text) == value

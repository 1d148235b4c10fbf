"""Recipes are complete, consistent with the paper's tables, and refuse what does not exist."""

import pytest

from keras_taps.experiments.build import build_network
from keras_taps.experiments.recipes import RECIPES, Recipe, recipe
from keras_taps.networks import IntervalSequential


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_its_source_and_survives_its_config(name):
    entry = recipe(name)
    assert entry.name == name
    assert entry.source
    assert Recipe.from_config(entry.to_config()) == entry
    assert entry.anneal_epochs < entry.decay_epochs[0] < entry.decay_epochs[1] < entry.epochs


@pytest.mark.parametrize("name", ["digits-0.1-taps", "mnist-0.1-cnn3-taps"])
def test_the_network_of_a_recipe_has_its_split(name):
    network = build_network(recipe(name))
    assert isinstance(network, IntervalSequential)
    assert recipe(name).classifier_relus in network.legal_splits


def test_the_published_settings():
    """Tables 5 and 6 of the paper."""
    entry = recipe("mnist-0.1-taps")
    assert (entry.batch_size, entry.epochs, entry.anneal_epochs) == (256, 70, 20)
    assert (entry.decay_epochs, entry.classifier_relus, entry.w_taps) == ((50, 60), 3, 5.0)
    assert (entry.eps, entry.train_eps) == (0.1, 0.2)
    assert recipe("mnist-0.3-taps").classifier_relus == 1


def test_scaling_shrinks_every_time():
    scaled = recipe("mnist-0.1-ibp").scaled(7)
    assert (scaled.epochs, scaled.anneal_epochs, scaled.decay_epochs) == (7, 2.0, (5.0, 6.0))


def test_changes():
    assert recipe("digits-0.1-ibp", epochs=3).epochs == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recipe("mnist-0.1-tap"), "Did you mean 'mnist-0.1-taps'"),
        (lambda: recipe("digits-0.1-ibp", epoch=3), "Did you mean 'epochs'"),
        (lambda: recipe("digits-0.1-ibp", epochs=0), "`epochs` must be a whole number >= 1"),
        (lambda: recipe("digits-0.1-ibp", eps=8), "Received: eps=8"),
        (lambda: recipe("digits-0.1-ibp", method="trades"), "Received: method='trades'"),
        (lambda: recipe("digits-0.1-ibp", dataset="mnits"), "Did you mean 'mnist'"),
        (lambda: recipe("digits-0.1-ibp").scaled(0), "`epochs`"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match="(?s).*" + message.replace("(", r"\(").replace("`", "`")):
        call()

"""The search space: what is searched, under which condition, and what a recipe becomes."""

import keras_tuner
import pytest

from keras_taps.choices import DIMENSIONS
from keras_taps.experiments.recipes import RECIPES, recipe
from keras_taps.training import METHODS
from keras_taps.tuning.space import (
    RANGES,
    SPLIT,
    Range,
    declare,
    default_search,
    recipe_changes,
    search_space,
    takes,
)

pytestmark = pytest.mark.once

SPLITS = (0, 1, 2)


def test_every_dimension_has_a_range_and_a_method():
    assert set(DIMENSIONS) == {SPLIT, *RANGES}
    for name in DIMENSIONS:
        assert any(takes(method, name) for method in METHODS)
    for method in METHODS:
        assert default_search([method])


def test_usual_ranges_hold_the_published_settings():
    """But for alpha = 0 and l1 = 0, which no logarithm reaches."""
    for entry in RECIPES.values():
        published = {**entry.options, "l1": entry.l1, "learning_rate": entry.learning_rate}
        for name, value in published.items():
            if name in RANGES and value:
                assert RANGES[name].low <= value <= RANGES[name].high, (entry.name, name, value)


def test_words_of_a_user():
    given = {"w_taps": (0, 10), "c": [0, 0.5, 1], "attack_steps": [1, 8], "tau_ratio": (0.5, 1)}
    found = search_space(given, ["staps"], SPLITS)
    assert list(found) == ["w_taps", "c", "attack_steps", "tau_ratio"]  # in one order
    assert found["w_taps"] == Range(0, 10)  # 0 has no logarithm
    assert found["tau_ratio"].scale == "log"
    assert found["c"] == [0.0, 0.5, 1.0]
    assert found["attack_steps"] == [1, 8]
    assert search_space("classifier_relus", ["taps"], SPLITS) == {SPLIT: [0, 1, 2]}
    assert search_space({SPLIT: [1, 2]}, ["taps"], SPLITS) == {SPLIT: [1, 2]}
    own = Range(1, 3, "linear")
    assert search_space({"w_taps": own}, ["taps"], SPLITS)["w_taps"] is own


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (["w_tap"], "Did you mean 'w_taps'"),
        (["tau_ratio"], "changes nothing in the training by taps"),
        ([], "must name a dimension"),
        ({"classifier_relus": [3]}, "`classifier_relus` must be one of 0, 1, 2"),
        ({"w_taps": (5, 1)}, "low < high"),
        ({"w_taps": "all"}, "Received: 'all'"),
        ({"w_taps": [True]}, r"Received: \[True\]"),
        ({"w_taps": 5}, "Received: 5"),
        ({"w_taps": (1, "a")}, "`range` must be a number"),
        ({"attack_steps": (1.5, 4)}, "whole ends"),
        ({"w_taps": Range(1, 2, "log"), "l1": {"low": 0, "high": 1, "scale": "log"}}, "0 < low"),
    ],
)
def test_bad_input(search, message):
    with pytest.raises(ValueError, match=message):
        search_space(search, ["taps"], SPLITS)


def names(values, methods=("ibp", "sabr", "taps"), search=None):
    """Active dimensions where the choices are `values`."""
    space = search_space(search, methods, SPLITS)
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return set(declare(hp, space, methods))


def test_conditions():
    search = ["classifier_relus", "w_taps", "tau_ratio", "l1"]
    assert names({"method": "ibp"}, search=search) == {"method", "l1"}
    assert names({"method": "sabr"}, search=search) == {"method", "l1", "tau_ratio"}
    taps = {"method", "l1", "classifier_relus"}
    assert names({"method": "taps", "classifier_relus": 0}, search=search) == taps
    assert names({"method": "taps", "classifier_relus": 2}, search=search) == {*taps, "w_taps"}


def test_no_choice_of_one_method():
    hp = keras_tuner.HyperParameters()
    assert declare(hp, {"l1": [0.0]}, ["ibp"]) == {"method": "ibp", "l1": 0.0}


def test_shares_scale_with_the_epochs():
    """As under Hyperband: the same values, other numbers of epochs."""
    base = recipe("mnist-0.1-taps")  # 70 epochs, decays at 50 and 60
    values = {"anneal_share": 0.5, "decay_share": 0.8, "train_eps_factor": 1.5, "c": 0.2}
    for epochs in (7, 70):
        found = base.scaled(epochs).changed(**recipe_changes(base.scaled(epochs), values))
        assert found.annealed_epoch == pytest.approx(0.5 * epochs)
        assert found.decay_epochs == pytest.approx((0.8 * epochs, 0.9 * epochs))
        assert found.train_eps == pytest.approx(0.15)
        assert found.options["c"] == 0.2


def test_corners_of_the_shares():
    bare = recipe("digits-0.1-ibp", decay_epochs=())
    assert recipe_changes(bare, {"decay_share": 0.5}) == {"decay_epochs": (30.0,)}
    late = recipe("digits-0.1-ibp", decay_epochs=(60,))
    assert recipe_changes(late, {"decay_share": 0.5}) == {"decay_epochs": (30.0,)}
    wide = recipe("digits-0.1-ibp", eps=0.6, train_eps=0.6)
    assert recipe_changes(wide, {"train_eps_factor": 2}) == {"train_eps": 1.0}

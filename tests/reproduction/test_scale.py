"""What a scale makes of a recipe of the paper."""

import pytest

from keras_taps.experiments.build import build_network
from keras_taps.experiments.recipes import recipe
from keras_taps.reproduction import SCALES, TARGETS

pytestmark = pytest.mark.once


def test_full_changes_nothing():
    for target in TARGETS.values():
        for row in target.rows:
            assert SCALES["full"].recipe(row.recipe) == row.recipe


def test_cpu():
    small = SCALES["cpu"].recipe(recipe("mnist-0.3-taps"))
    assert (small.network, small.width, small.epochs) == ("cnn5", 4, 10)
    assert small.anneal_epochs == pytest.approx(20 / 7)
    assert small.decay_epochs == pytest.approx((50 / 7, 60 / 7))
    assert (small.batch_size, small.learning_rate) == (32, 0.005)
    assert small.options["attack_steps"] == 8
    assert small.eps == 0.3
    assert small.train_eps == 0.4
    one = recipe("mnist-0.3-taps", attack_steps=1)
    assert SCALES["cpu"].recipe(one).options["attack_steps"] == 1


def test_another_number_of_images():
    some = SCALES["full"].with_images(1000)
    assert some.images == 1000
    assert some.command == "--scale full --images 1000"
    with pytest.raises(ValueError, match="`images` must be a whole number >= 1"):
        SCALES["full"].with_images(0)


def test_rows_that_a_scale_leaves_out():
    cpu = SCALES["cpu"]
    relus = build_network(cpu.recipe(recipe("mnist-0.1-ibp"))).relus
    assert cpu.recipe(recipe("mnist-0.1-taps", classifier_relus=relus)) is not None
    assert cpu.recipe(recipe("mnist-0.1-taps", classifier_relus=relus + 1)) is None
    assert cpu.recipe(recipe("mnist-0.1-taps", attack_steps=100)) is None


def test_other_networks_stay():
    row = TARGETS["figure1"].rows[0]
    small = SCALES["cpu"].recipe(row.recipe)
    assert (small.network, small.width, small.epochs) == ("cnn3", 1, 10)

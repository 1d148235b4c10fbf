"""The box of SABR and STAPS inside a training step."""

import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import ibp_margins
from keras_taps.interval import Interval, input_box
from keras_taps.layers import IntervalReLU, Pass
from keras_taps.training import AdversarialModel, SABRModel
from tests.helpers import close, conv_network, images, numpy
from tests.training.steps import batch_of, outcome_of

EPS = 0.1


def test_region_is_the_small_box_around_the_attacked_image():
    """Property 9."""
    x, y = images()
    model = SABRModel(conv_network(), EPS, tau_ratio=0.3, pgd_steps=3)
    batch = batch_of(x, y, EPS)
    box, small = batch.box, model.region(batch)
    points = numpy(model.adversarial_images(batch))
    close(small.width, 0.3 * numpy(box.width), 1e-5)
    inside = (points >= numpy(small.lower) - 1e-6) & (points <= numpy(small.upper) + 1e-6)
    assert np.all(inside)
    assert np.all(numpy(small.lower) >= numpy(box.lower))
    assert np.all(numpy(small.upper) <= numpy(box.upper))


def test_evaluation_is_about_the_whole_box():
    x, y = images()
    model = SABRModel(conv_network(), EPS, tau_ratio=0.3, relu_shrinkage=0.5)
    batch = batch_of(x, y, EPS, training=False)
    expected = ibp_margins(model.network, input_box(x, EPS), y)
    close(outcome_of(model, batch).ibp_margins, expected, 0)


def test_bounds_of_the_small_box_are_no_metric():
    model = SABRModel(conv_network(), EPS, tau_ratio=0.3, pgd_steps=1)
    outcome = outcome_of(model, batch_of(*images(), EPS))
    assert outcome.ibp_margins is None
    assert outcome.taps_margins is None


def test_shrinkage_only_where_a_relu_crosses():
    box = Interval(*(ops.convert_to_tensor([b]) for b in ([-1.0, 1.0, -3.0], [2.0, 2.0, -1.0])))
    found = IntervalReLU()(box, given=Pass(relu_shrinkage=0.8))
    close(found.upper, [[1.6, 2.0, 0.0]])
    close(found.lower, [[0.0, 1.0, 0.0]])
    close(IntervalReLU()(box).upper, [[2.0, 2.0, 0.0]])


def test_attack_raises_the_loss_and_stays_in_its_box():
    x, y = images()
    model = AdversarialModel(conv_network(), EPS, pgd_steps=5)
    batch = batch_of(x, y, EPS)
    points = numpy(model.adversarial_images(batch))
    assert np.all(points >= numpy(batch.box.lower))
    assert np.all(points <= numpy(batch.box.upper))
    still = AdversarialModel(model.network, 0.0)
    attacked = float(numpy(outcome_of(model, batch).loss))
    clean = float(numpy(outcome_of(still, batch_of(x, y, 0.0)).loss))
    assert attacked > clean


def test_attack_radius_and_long_steps():
    """The published 2/255 settings attack 2.1 times the radius; one long step reaches corners."""
    x = np.full((2, 6, 6, 1), 0.5, "float32")
    y = np.zeros(2, "int32")
    model = AdversarialModel(conv_network(), EPS, pgd_steps=1, pgd_step_size=10, pgd_radius=2.0)
    distance = np.abs(numpy(model.adversarial_images(batch_of(x, y, EPS))) - x)
    assert distance.max() == pytest.approx(0.2, rel=1e-4)
    assert np.mean(distance > 0.199) > 0.5


def test_starts_of_sabr_lie_in_the_inner_half():
    x, y = np.full((4, 6, 6, 1), 0.5, "float32"), np.zeros(4, "int32")
    batch = batch_of(x, y, EPS)
    inner = SABRModel(conv_network(), EPS, pgd_steps=0).adversarial_images(batch)
    whole = AdversarialModel(conv_network(), EPS, pgd_steps=0).adversarial_images(batch)
    assert np.abs(numpy(inner) - x).max() <= 0.05 + 1e-6
    assert np.abs(numpy(whole) - x).max() > 0.09

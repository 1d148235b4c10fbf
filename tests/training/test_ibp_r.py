"""IBP-R: its ends, its mask, and what the regulariser does."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.bounds.margins import cross_entropy, logit_margins
from keras_taps.callbacks import EpsAnneal
from keras_taps.interval import input_box
from keras_taps.layers import Pass
from keras_taps.objectives import instability
from keras_taps.training import AdversarialModel, IBPRModel
from tests.helpers import close, conv_network, dense_network, images, numpy
from tests.training.steps import loss_and_gradients, loss_function, loss_of

EPS = 0.05
OPTIONS = {"pgd_steps": 2, "pgd_step_size": 0.5, "seed": 1}


def test_without_regulariser_it_is_adversarial_training_at_its_radius():
    network, (x, y) = conv_network(), images()
    model = IBPRModel(network, EPS, 2 * EPS, stability=0, **OPTIONS)
    other = AdversarialModel(network, EPS, 2 * EPS, **OPTIONS)
    (loss, found), (expected, gradients) = (loss_and_gradients(m, x, y) for m in (model, other))
    assert loss == pytest.approx(expected, rel=1e-6)
    for a, b in zip(found, gradients, strict=True):
        close(a, b, 1e-5)


@pytest.mark.parametrize("annealing", [True, False])
def test_radius_zero_is_the_clean_cross_entropy(annealing):
    network, (x, y) = conv_network(batch_norm=False), images()
    model = IBPRModel(network, 0.0, stability=1, warmup_weight=0, **OPTIONS)
    if annealing:  # a growing radius starts at 0
        model = IBPRModel(network, EPS, stability=1, warmup_weight=0, **OPTIONS)
        model.set_annealing(0, 10, "linear")
    expected = ops.mean(cross_entropy(logit_margins(network(ops.convert_to_tensor(x)), y)))
    assert loss_of(model, x, y) == pytest.approx(float(numpy(expected)), rel=1e-3)


def test_half_way_everything_counts_half():
    network, (x, y) = dense_network(), images(8, (6,))
    model = IBPRModel(network, EPS, 2 * EPS, stability=0.1, warmup_weight=0, **OPTIONS)
    model.set_annealing(0, 10, "linear")
    model.step.assign(5)
    found = loss_of(model, x, y)
    clean = float(numpy(ops.mean(cross_entropy(logit_margins(network(x), y)))))
    whole = IBPRModel(network, EPS, EPS, stability=0.1, **OPTIONS)
    whole.step.assign(5)
    assert found == pytest.approx(0.5 * clean + 0.5 * loss_of(whole, x, y), rel=1e-5)


@pytest.mark.parametrize("include_logits", [True, False])
def test_the_regulariser(include_logits):
    """A sum over neurons, a mean over layers and images, of IBP boxes of the same radius."""
    network, (x, y) = dense_network(), images(8, (6,))
    plain, model = (
        IBPRModel(network, EPS, stability=s, include_logits=include_logits, **OPTIONS)
        for s in (0, 20.0)
    )
    boxes = []
    logits = network(input_box(x, EPS), given=Pass(relu_boxes=boxes))
    boxes += [logits] if include_logits else []
    expected = 20.0 / len(boxes) * float(numpy(instability(boxes)).mean())
    assert len(boxes) == 2 + include_logits
    assert expected > 0.01
    assert loss_of(model, x, y) - loss_of(plain, x, y) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mask", ["clean", "adversarial"])
def test_mask(mask):
    network, (x, _) = dense_network(), images(24, (6,))
    right = np.argmax(numpy(network(ops.convert_to_tensor(x))), -1).astype("int32")
    wrong = ((right + 1) % 3).astype("int32")
    plain, whole, masked = (
        loss_function(IBPRModel(network, 0.001, 0.001, stability=s, mask=m, **OPTIONS))
        for s, m in ((0, None), (50.0, None), (50.0, mask))
    )
    assert masked(x, wrong) == plain(x, wrong)
    assert whole(x, right) > plain(x, right)
    assert masked(x, right) == pytest.approx(whole(x, right), rel=0.2)
    assert masked(x, right) > plain(x, right)


def test_one_box_for_warm_up_and_regulariser():
    """The warm-up regulariser still has its boxes."""
    network, (x, y) = dense_network(), images(8, (6,))
    losses = []
    for weight in (0.0, 0.5):
        model = IBPRModel(network, EPS, stability=0.1, warmup_weight=weight, **OPTIONS)
        model.set_annealing(0, 10)
        model.step.assign(5)
        losses.append(loss_of(model, x, y))
    assert losses[1] > losses[0]


def test_regularised_training_makes_neurons_stable():
    x, y = images(32, (6,))

    def trained(stability):
        keras.utils.set_random_seed(0)
        network = dense_network(hidden=(16, 8))
        model = IBPRModel(network, EPS, stability=stability, warmup_weight=0, **OPTIONS)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
        ramp = EpsAnneal(4, shape="linear")
        history = model.fit(x, y, batch_size=16, epochs=12, callbacks=[ramp], verbose=0).history
        boxes = []
        network(input_box(x, EPS), given=Pass(relu_boxes=boxes))
        return history, float(numpy(instability(boxes)).mean())

    _, free = trained(0.0)
    history, pressed = trained(0.5)
    assert pressed < 0.5 * free
    assert np.all(np.isfinite(history["loss"]))


def test_evaluation_is_about_the_whole_loss():
    """Evaluated at eps below train_eps, the share is 1: no ramp is left."""
    network, (x, y) = dense_network(), images(8, (6,))
    model = IBPRModel(network, EPS, 2 * EPS, stability=0.1, **OPTIONS)
    same = IBPRModel(network, EPS, stability=0.1, **OPTIONS)
    for each in (model, same):
        each.compile("sgd")
    found, expected = (m.evaluate(x, y, verbose=0, return_dict=True) for m in (model, same))
    assert found == pytest.approx(expected)

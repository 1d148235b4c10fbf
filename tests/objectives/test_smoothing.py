"""Noise on weights: its size, its gradient, and what a step with it leaves."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import ibp_margins
from keras_taps.bounds.margins import cross_entropy
from keras_taps.interval import input_box
from keras_taps.objectives.smoothing import perturbed
from keras_taps.training import METHODS, COLTModel, IBPModel
from keras_taps.training.certified_model import _NOISE
from tests.helpers import close, dense_network, images, numpy, seed_tensor, weight_gradients
from tests.training.steps import loss_and_gradients

EPS = 0.05
NOISE = {"smoothing_std": 0.05, "smoothing_samples": 2}


def test_noise_has_its_deviation_and_lets_gradients_through():
    """The gradient of half a sum of squares is the weights with their noise."""
    network = dense_network(hidden=(60, 60))
    model = IBPModel(network, EPS)
    weights = network.trainable_variables

    def squares():
        with perturbed(model, 0.1, seed_tensor(1, 2)):
            return sum(ops.sum(ops.square(w.value)) for w in weights) / 2

    _, found = weight_gradients(squares, weights)
    noise = [g - numpy(w.value) for g, w in zip(found, weights, strict=True)]
    everything = np.concatenate([n.ravel() for n in noise])
    assert np.mean(everything) == pytest.approx(0, abs=0.005)
    assert np.std(everything) == pytest.approx(0.1, rel=0.05)
    first, second = noise[0].ravel(), noise[2].ravel()
    assert abs(np.corrcoef(first, second[: len(first)])[0, 1]) < 0.2


def test_a_smoothed_step_of_training():
    """Averages move as without noise; bounds of noisy networks are no metric."""
    x, y = images(8, (6,))
    clean, network = (dense_network(hidden=(4,), batch_norm=True) for _ in range(2))
    model = IBPModel(network, EPS, seed=1, robust_weight=0.9, **NOISE)
    model.compile(keras.optimizers.SGD(0.1))
    logs = model.train_on_batch(x, y, return_dict=True)
    assert set(logs) == {"loss", "eps", "natural_accuracy"}
    assert np.any(numpy(network.weights[0]) != numpy(clean.weights[0]))
    clean(ops.convert_to_tensor(x), training=True)
    pairs = zip(network.non_trainable_weights, clean.non_trainable_weights, strict=True)
    for found, expected in pairs:
        close(found, expected)


@pytest.mark.once
@pytest.mark.parametrize("method", ["taps", "crown-ibp", "convex"])
def test_limits_of_smoothing_and_of_the_robust_weight(method):
    """Little noise is none, much is not; the weight is linear between clean and robust losses."""
    x, y = images(8, (6,))
    network = dense_network(batch_norm=True)

    def loss(**options):
        return loss_and_gradients(METHODS[method](network, EPS, seed=1, **options), x, y)[0]

    assert loss(smoothing_std=1e-6, smoothing_samples=2) == pytest.approx(loss(), rel=1e-3)
    assert loss(**NOISE) != pytest.approx(loss(), rel=1e-4)
    weighed = loss(robust_weight=0.3)
    assert weighed == pytest.approx(0.7 * loss(robust_weight=0.0) + 0.3 * loss(), rel=1e-5)
    assert loss(robust_weight=0.0) == pytest.approx(
        loss_and_gradients(METHODS["standard"](network, EPS), x, y)[0], rel=1e-5
    )


@pytest.mark.once
def test_the_loss_is_the_mean_over_the_draws():
    network, (x, y) = dense_network(), images(8, (6,))
    model = IBPModel(network, EPS, seed=1, smoothing_std=0.2, smoothing_samples=3)

    def mean():
        losses = []
        for draw in (1, 2, 3):
            with perturbed(model, 0.2, seed_tensor(1, 0) + _NOISE * draw):
                losses.append(ops.mean(cross_entropy(ibp_margins(network, input_box(x, EPS), y))))
        return sum(losses) / 3

    expected, gradients = weight_gradients(mean, network.trainable_variables)
    loss, found = loss_and_gradients(model, x, y)
    assert loss == pytest.approx(expected, rel=1e-5)
    for a, b in zip(found, gradients, strict=True):
        close(a, b, 1e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("robust_weight", 2), ("smoothing_std", -1), ("smoothing_samples", 0)]
)
@pytest.mark.once
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        IBPModel(dense_network(), EPS, **{name: value})


@pytest.mark.once
def test_a_frozen_extractor_is_left_alone():
    with pytest.raises(ValueError, match=r"`robust_weight` must be 1 .*robust_weight=0.5"):
        COLTModel(dense_network(), EPS, robust_weight=0.5)

"""Training of distance nets: its losses, its schedules, and what is kept in files."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import ibp_margins
from keras_taps.bounds.margins import certified, logit_margins
from keras_taps.callbacks import BatchNormReestimation, EpsAnneal
from keras_taps.interval import Interval, input_box
from keras_taps.layers import IntervalBatchNormalization, IntervalDense, distance
from keras_taps.networks import IntervalSequential, distance_net, sortnet_mlp
from keras_taps.networks.segment import Segment
from keras_taps.training import DistanceNetModel
from tests.helpers import close, dense_network, images, numpy, weight_gradients

SHAPE, EPS = (4, 4, 1), 0.05
NORMAL = {"mean": 0.3, "std": 0.5}
SMALL = {"width": 6, "depth": 3, **NORMAL}


def margins_of(model, x, y):
    """Margins of a training step, and its features."""
    clean = model(ops.convert_to_tensor(x), training=True)
    return numpy(logit_margins(clean.logits, ops.convert_to_tensor(y))), clean.features


def loss_of(model, x, y, training=True):
    return float(numpy(model.compute_loss(x=ops.convert_to_tensor(x), y=y, training=training)))


def test_the_loss():
    """A hinge at the certificate, cut off at 1, and the cross-entropy of scaled logits."""
    network, (x, y) = distance_net(SHAPE, 3, **SMALL), images(16, SHAPE)
    model = DistanceNetModel(network, EPS, 0.1, clean_weight=0.4, final_clean_weight=0.4)
    model.logit_scale.assign(3.0)
    margins, _ = margins_of(model, x, y)
    hinge = np.clip(1 + margins / (2 * 0.1 / 0.5), 0, 1).max(-1)
    assert 0 < hinge.mean() < 1
    expected = (hinge + 0.4 * np.log(1 + np.exp(3 * margins).sum(-1))).mean()
    assert loss_of(model, x, y) == pytest.approx(expected, rel=1e-4)


def test_the_loss_with_dense_layers():
    """A hinge on the bounds over a box about the features, of images that are right."""
    network, (x, y) = sortnet_mlp(SHAPE, 3, width=6, depth=4, units=5, **NORMAL), images(16, SHAPE)
    model = DistanceNetModel(network, EPS, clean_weight=0.4, final_clean_weight=0.4)
    margins, features = margins_of(model, x, y)
    box = Interval(features - EPS / 0.5, features + EPS / 0.5)
    rest = Segment(tuple(network.layers[-2:]))
    bounds = numpy(ibp_margins(rest, box, ops.convert_to_tensor(y)))
    right = (margins < 0).all(-1)
    assert 0 < right.sum() < 16
    hinge = right * np.maximum(0, 1 + bounds.max(-1))
    expected = (hinge + 0.4 * np.log(1 + np.exp(margins).sum(-1))).mean()
    assert loss_of(model, x, y) == pytest.approx(expected, rel=1e-4)
    # Of radii that differ, the largest counts.
    radii = np.full(SHAPE, EPS / 2)
    radii[1, 2] = EPS
    other = DistanceNetModel(network, radii, clean_weight=0.4, final_clean_weight=0.4)
    assert loss_of(other, x, y) == pytest.approx(expected, rel=1e-4)


def test_schedules(tmp_path):
    """p and the weight of the cross-entropy along the ramp; a loaded model goes on."""
    network = distance_net(SHAPE, 3, **SMALL)
    options = {"final_power": 800.0, "clean_weight": 0.1, "final_clean_weight": 0.001}
    model = DistanceNetModel(network, EPS, 0.1, eps_share=0.5, **options)
    model.set_annealing(10, 30)
    found = []
    for step in (0, 10, 20, 29, 30, 40):
        model.step.assign(step)
        if step == 20:
            model.save(tmp_path / "model.keras")
            model = keras.saving.load_model(tmp_path / "model.keras")
        annealing, eps = model.scheduled_eps()
        weight = model._along(0, model.clean_weight, model.final_clean_weight)
        power = model.relaxation().power
        found.append([float(numpy(v)) for v in (power, weight, eps)])
        assert bool(annealing) == (step < 30)
    power, weight, eps = np.transpose(found)
    expected = [8, 8, 80, 8 * 100**0.95, 1e6, 1e6]
    assert power == pytest.approx(expected, rel=1e-4)
    assert weight == pytest.approx([0.1, 0.1, 0.01, 0.1 * 100**-0.95, 1e-3, 1e-3], rel=1e-4)
    assert eps[0] == 0 < eps[1] < eps[2] == pytest.approx(0.1)


def test_trains_reports_and_is_saved(tmp_path, monkeypatch):
    """The ramp, exact mean shifts before the validation, a file that says the same."""
    monkeypatch.setattr(distance, "TERMS", 2)  # less to compile
    (x, y), network = images(48, SHAPE), distance_net(SHAPE, 3, keep=0.8, **SMALL)
    model = DistanceNetModel(network, EPS, 0.1, seed=1)
    model.compile(keras.optimizers.AdamW(0.02, weight_decay=0.5, beta_2=0.99, epsilon=1e-10))
    before = [np.array(w) for w in network.get_weights()]
    callbacks = [EpsAnneal(2), BatchNormReestimation([(x[:30], y[:30]), (x[30:], y[30:])])]
    options = {"batch_size": 16, "epochs": 3, "verbose": 0, "callbacks": callbacks}
    history = model.fit(x, y, validation_data=(x, y), **options).history
    names = {"loss", "eps", "natural_accuracy"}
    evaluated = {f"val_{name}" for name in (*names, "ibp_certified_accuracy")}
    assert set(history) == names | evaluated
    assert np.all(np.isfinite(history["loss"]))
    assert any(not np.allclose(a, b) for a, b in zip(before, network.get_weights(), strict=True))
    margins = ibp_margins(network, input_box(x, EPS), y)
    share = float(np.mean(numpy(certified(margins))))
    assert history["val_ibp_certified_accuracy"][-1] == pytest.approx(share)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config()["final_power"] == model.final_power
    close(loaded(x), model(x), 0)
    assert float(numpy(loaded.logit_scale)) == float(numpy(model.logit_scale)) != 1.0
    assert type(model.at_eps(0.01)) is DistanceNetModel


def test_means_of_all_images():
    """The first layer's: its inputs do not depend on other means."""
    (x, y), network = images(30, SHAPE), distance_net(SHAPE, 3, **SMALL)
    model = DistanceNetModel(network, EPS, 0.1)
    callback = BatchNormReestimation([(x[:20], y[:20]), (x[20:], y[20:])])
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_test_begin()
    layer = network.mean_shifts[0]
    pixels = (x.reshape(30, -1) - 0.3) / 0.5
    away = np.abs(pixels[:, :, None] - numpy(layer.kernel)).max(1)
    close(layer.moving_mean, away.mean(0))


def test_weight_decay_leaves_the_centres_alone():
    network, (x, y) = sortnet_mlp(SHAPE, 3, width=6, depth=3, units=5), images(8, SHAPE)
    model = DistanceNetModel(network, EPS)
    model.compile(keras.optimizers.AdamW(1e-9, weight_decay=1e8))
    before = network.get_weights()
    model.train_on_batch(x, y)
    centres, _, *dense = zip(before, network.get_weights(), strict=True)
    close(*centres, 1e-6)
    assert all(not np.allclose(a, b, rtol=1e-2) for a, b in dense)


def test_gradients_reach_every_weight():
    network, (x, y) = sortnet_mlp(SHAPE, 3, width=6, depth=4, keep=0.9, units=5), images(16, SHAPE)
    model = DistanceNetModel(network, EPS)
    tensors = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    _, found = weight_gradients(
        lambda: model.compute_loss(x=tensors[0], y=tensors[1], training=True),
        model.trainable_variables,
    )
    assert all(np.all(np.isfinite(g)) and np.any(g) for g in found)


def normalised():
    layers = [*distance_net(SHAPE, 3, **SMALL).layers[:-1], IntervalBatchNormalization()]
    return IntervalSequential([*layers, IntervalDense(3)], input_shape=SHAPE)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (dense_network, {}, "`network` must have distance layers"),
        (normalised, {}, "no trainable BatchNormalization"),
        (None, {"classifier_relus": 0}, "Received: classifier_relus=0"),
        (None, {"eps": 0.0}, "`train_eps` must be above 0"),
        (None, {"power": 0.5}, "Received: power=0.5"),
        (None, {"final_power": 2}, "Received: final_power=2"),
        (None, {"clean_weight": 0}, "Received: clean_weight=0"),
        (None, {"final_clean_weight": -1}, "Received: final_clean_weight=-1"),
        (None, {"eps_share": 2}, "Received: eps_share=2"),
    ],
)
def test_bad_arguments(make, options, message):
    network = distance_net(SHAPE, 3, **SMALL) if make is None else make()
    with pytest.raises(ValueError, match=message):
        DistanceNetModel(network, **{"eps": EPS, **options})

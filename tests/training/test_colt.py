"""COLT: its region, what is frozen, and its stages."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.attacks.noise_attack import LatentZonotope, noise_attack
from keras_taps.bounds import fixed_slope_margins
from keras_taps.bounds.margins import cross_entropy, logit_margins
from keras_taps.callbacks import EpsAnneal
from keras_taps.interval import Interval, input_box
from keras_taps.layers import IntervalDense, IntervalFlatten, IntervalMaxPooling2D, IntervalReLU
from keras_taps.networks import IntervalSequential
from keras_taps.training import AdversarialModel, COLTModel
from keras_taps.training.colt import next_relu
from tests.helpers import (
    assert_contains,
    close,
    conv_network,
    dense_network,
    images,
    numbers,
    numpy,
    sample_points,
    seed_tensor,
)
from tests.training.steps import loss_and_gradients, loss_of

EPS = 0.05
OPTIONS = {"attack_steps": 2, "seed": 1}


def zonotope_of(network, x, relus, eps=EPS):
    extractor, classifier = network.split(network.relus - relus)
    return LatentZonotope.of(extractor, input_box(x, eps)), extractor, classifier


def test_stage_0_is_adversarial_training():
    network, (x, y) = conv_network(), images()
    options = {"pgd_steps": 2, "pgd_step_size": 0.25, "seed": 1}
    models = COLTModel(network, EPS, **OPTIONS), AdversarialModel(network, EPS, **options)
    (loss, found), (expected, gradients) = (loss_and_gradients(m, x, y) for m in models)
    assert loss == pytest.approx(expected, rel=1e-3)
    for a, b in zip(found, gradients, strict=True):
        close(a, b, 1e-2)


@pytest.mark.parametrize("relus", [1, 2])
def test_points_of_the_region(relus):
    """No error is the centre; every image lies in it, coordinate by coordinate."""
    network, (x, _) = dense_network(hidden=(6, 5, 4)), images(3, (6,))
    zonotope, extractor, _ = zonotope_of(network, x, relus)
    centre = zonotope.points(ops.zeros((3, zonotope.size)))
    close(centre, zonotope.out.centre, 1e-4)
    assert zonotope.shapes == [(6,), (6,), (5,)][: relus + 1]
    for i in range(3):
        box = Interval(*(bound[i : i + 1] for bound in zonotope.box))
        found = extractor(ops.convert_to_tensor(sample_points(box)))
        assert_contains(Interval(*(bound[i] for bound in zonotope.out)), numpy(found), 1e-4)


def test_without_crossing_relus_it_is_the_image():
    network, (x, _) = dense_network(), images(3, (6,))
    network.layers[0].bias.assign(ops.full((5,), 30.0))
    zonotope, extractor, _ = zonotope_of(network, x, 1)
    errors = numbers(3, zonotope.size)
    point = zonotope.box.centre + zonotope.box.radius * errors[:, :6]
    close(zonotope.points(ops.convert_to_tensor(errors)), extractor(point), 1e-4)


def test_the_attack_reaches_the_bound_of_a_linear_classifier():
    """One long step from anywhere leads to the vertex that the fixed-slope bound is about."""
    network, (x, y) = dense_network(hidden=(6, 5), classes=2), images(4, (6,), classes=2)
    zonotope, _, classifier = zonotope_of(network, x, 2)
    points = noise_attack(zonotope, classifier, y, seed_tensor(), steps=2, step_size=1.0)
    found = logit_margins(classifier(points), y)
    close(found, fixed_slope_margins(network, input_box(x, EPS), y), 1e-3)


@pytest.mark.parametrize("k", [0, 5, 10])
@pytest.mark.parametrize(("stage", "batch_norm"), [(1, False), (1, True), (2, False)])
def test_the_extractor_is_frozen(stage, batch_norm, k):
    network, (x, y) = conv_network(batch_norm), images()
    model = COLTModel(network, EPS, stage=stage, stability=0.1, l1=0.01, **OPTIONS)
    model.set_annealing(0, 10, "linear")
    model.step.assign(k)
    loss, found = loss_and_gradients(model, x, y)
    assert np.isfinite(loss)
    extractor, _ = network.split(network.relus - stage)
    frozen = {id(variable) for variable in extractor.variables}
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        still = id(variable) in frozen
        assert np.all(gradient == 0) == still or (batch_norm and not still), variable.path


def test_at_the_start_of_a_stage_it_is_the_stage_before():
    network, (x, y) = dense_network(), images(8, (6,))
    model = COLTModel(network, EPS, stage=0, stability=1.0, **OPTIONS)
    model.set_annealing(0, 10)
    clean = ops.mean(cross_entropy(logit_margins(network(ops.convert_to_tensor(x)), y)))
    assert loss_of(model, x, y) == pytest.approx(float(numpy(clean)), rel=1e-5)
    later = COLTModel(network, EPS, stage=1, stability=1.0, **OPTIONS)
    later.set_annealing(0, 10)
    before = COLTModel(network, EPS, stage=0, seed=1, attack_steps=2)
    found, expected = (loss_of(m, x, y) for m in (later, before))
    assert found == pytest.approx(expected, rel=0.05)  # another start


def test_next_relu_is_bounded_by_the_zonotope():
    network, (x, _) = dense_network(hidden=(6, 5, 4)), images(3, (6,))
    for relus in (0, 1, 2):
        zonotope, extractor, classifier = zonotope_of(network, x, relus)
        box = next_relu(zonotope, classifier)
        for i in range(3):
            one = Interval(*(bound[i : i + 1] for bound in zonotope.box))
            points = extractor(ops.convert_to_tensor(sample_points(one)))
            found = classifier.layers[0](points)
            assert_contains(Interval(*(bound[i] for bound in box)), numpy(found), 1e-4)
        loose = classifier.layers[0](zonotope.out)
        assert np.all(numpy(box.upper) <= numpy(loose.upper) + 1e-4)


@pytest.mark.once
def test_projections_estimate_the_bounds():
    """Many draws: slopes of the second ReLU and the box of the third within some percent."""
    network, (x, _) = dense_network(hidden=(16, 12, 10)), images(2, (6,))
    extractor, classifier = network.split(1)
    box = input_box(x, 4 * EPS)
    exact = LatentZonotope.of(extractor, box)
    found = LatentZonotope.of(extractor, box, seed_tensor(), 2000)
    close(found.traces[1].upper_slope, exact.traces[1].upper_slope, 1e-5)  # by intervals
    close(found.traces[3].upper_slope, exact.traces[3].upper_slope, 0.05)
    ratio = numpy(next_relu(found, classifier).width) / numpy(next_relu(exact, classifier).width)
    assert np.abs(ratio - 1).max() < 0.2
    assert np.mean(ratio) == pytest.approx(1, abs=0.03)


@pytest.mark.once
def test_training_by_projections():
    """Gradients are finite, those of the extractor 0, and training reports what it did before."""
    network, (x, y) = conv_network(batch_norm=False), images()
    for stage in (1, 2):
        model = COLTModel(
            network, EPS, stage=stage, stability=0.1 * (2 - stage), projections=5, **OPTIONS
        )
        _, found = loss_and_gradients(model, x, y)
        assert all(np.all(np.isfinite(gradient)) for gradient in found)
        frozen = len(network.split(network.relus - stage)[0].variables)
        moved = [np.any(gradient != 0) for gradient in found]
        assert moved == [i >= frozen for i in range(len(moved))]
    assert COLTModel.from_config(model.get_config()).projections == 5


def test_stages_one_after_the_other_saved_and_resumed(tmp_path):
    x, y = images(16, (6,))
    keras.utils.set_random_seed(0)
    network = dense_network(hidden=(8, 8))
    for stage, eps in ((0, 0.08), (1, 0.06)):
        model = COLTModel(network, EPS, eps, stage=stage, stability=0.01, **OPTIONS)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
        kernels = [numpy(layer.kernel).copy() for layer in network.affine_layers]
        options = {"callbacks": [EpsAnneal(2, shape="linear")], "batch_size": 8, "verbose": 0}
        history = model.fit(x, y, epochs=3, shuffle=False, **options).history
        assert set(history) == {"loss", "eps", "natural_accuracy", "colt_accuracy"}
        assert history["eps"][0] == pytest.approx(eps)
        moved = [
            np.any(k != numpy(layer.kernel))
            for k, layer in zip(kernels, network.affine_layers, strict=True)
        ]
        assert moved == [stage == 0, True, True]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.stage, loaded.stability) == (1, 0.01)
    for each in (model, loaded):
        each.fit(x, y, epochs=1, shuffle=False, batch_size=8, verbose=0)
    for a, b in zip(model.network.weights, loaded.network.weights, strict=True):
        close(a, b, 1e-6)
    shares = model.evaluate(x, y, verbose=0, return_dict=True)
    assert {"ibp_certified_accuracy", "taps_accuracy", "colt_accuracy"} <= set(shares)


@pytest.mark.parametrize(
    "name", ["stage", "stability", "attack_steps", "attack_step_size", "projections"]
)
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        COLTModel(dense_network(), EPS, **{name: 2 if name == "attack_step_size" else -1})


def test_a_stage_needs_a_relu_behind_it():
    with pytest.raises(ValueError, match=r"`stage` must be one of 0, 1: .*Received: stage=2"):
        COLTModel(dense_network(), EPS, stage=2)


def test_max_pooling_in_the_extractor():
    layers = [IntervalFlatten(), IntervalDense(4), IntervalReLU(), IntervalDense(3)]
    first = [IntervalMaxPooling2D(2), IntervalReLU()]
    network = IntervalSequential([*first, *layers], input_shape=(6, 6, 1))
    with pytest.raises(ValueError, match="maximum over windows"):
        COLTModel(network, EPS, stage=1)

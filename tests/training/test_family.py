"""What holds for every method: one protocol, the limits between them, the same on each backend."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import fixed_slope_margins, ibp_margins
from keras_taps.bounds.margins import certified, cross_entropy, logit_margins
from keras_taps.bounds.projections import Projected, projected_margins, projected_traces
from keras_taps.callbacks import EpsAnneal
from keras_taps.interval import input_box
from keras_taps.networks import cnn3, convert
from keras_taps.networks.segment import Segment
from keras_taps.training import METHODS, IBPModel, SABRModel, STAPSModel, TAPSModel
from keras_taps.verification import certify
from tests.helpers import (
    BACKEND,
    close,
    conv_network,
    dense_network,
    images,
    numpy,
    seed_tensor,
    weight_gradients,
)
from tests.training import golden
from tests.training.steps import batch_of, loss_and_gradients, loss_of, outcome_of

EPS = 0.05
FAST = {
    "taps": {"attack_steps": 2},
    "staps": {"attack_steps": 2, "pgd_steps": 2},
    "sabr": {"pgd_steps": 2},
    "pgd": {"pgd_steps": 2},
    "ibp-r": {"pgd_steps": 2},
    "diffai": {"pgd_steps": 2},
}
LOGGED = {
    "standard": set(),
    "pgd": {"adversarial_accuracy"},
    "ibp": {"ibp_certified_accuracy"},
    "crown-ibp": {"ibp_certified_accuracy"},
    "convex": {"convex_accuracy"},
    "sabr": set(),
    "taps": {"ibp_certified_accuracy", "taps_accuracy"},
    "staps": set(),
    "cc-ibp": {"ibp_certified_accuracy", "adversarial_accuracy"},
    "mtl-ibp": {"ibp_certified_accuracy", "adversarial_accuracy"},
    "exp-ibp": {"ibp_certified_accuracy", "adversarial_accuracy"},
    "ibp-r": {"ibp_certified_accuracy", "adversarial_accuracy"},
    "diffai": {"adversarial_accuracy"},
}
SHARES = {"natural_accuracy", "ibp_certified_accuracy", "taps_accuracy"}
# SortNet has networks and tests of its own, COLT stages.
METHODS = {name: model for name, model in METHODS.items() if name not in ("sortnet", "colt")}
every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_trains_reports_and_is_saved(method, tmp_path):
    """Own loss, annealing, validation over the whole box; loaded again, it says the same."""
    x, y = images(12, (6,))
    model = METHODS[method](dense_network(batch_norm=True), EPS, seed=1, **FAST.get(method, {}))
    model.compile(keras.optimizers.Adam(0.0))
    batches = {"batch_size": 6, "verbose": 0}  # the same for all, so that each is compiled once
    # Property 6: one step moves the averages as one clean forward, whatever is attacked.
    model.fit(x[:6], y[:6], **batches)
    clean = dense_network(batch_norm=True)
    clean(ops.convert_to_tensor(x[:6]), training=True)
    for found, expected in zip(model.network.weights, clean.weights, strict=True):
        close(found, expected)
    model.optimizer.learning_rate = 1e-2
    options = {"epochs": 2, "callbacks": [EpsAnneal(1)], **batches}
    history = model.fit(x, y, validation_data=(x, y), **options).history
    logged = {name for name in history if not name.startswith("val_")}
    assert logged == {"loss", "eps", "natural_accuracy"} | LOGGED[method]
    assert np.all(np.isfinite(history["loss"]))
    assert {f"val_{name}" for name in SHARES} <= set(history)
    margins = ibp_margins(model.network, input_box(x, EPS), y)
    share = float(np.mean(numpy(certified(margins))))
    assert history["val_ibp_certified_accuracy"][-1] == pytest.approx(share)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is METHODS[method]
    for name, value in model.get_config().items():
        assert name == "network" or loaded.get_config()[name] == value
    if BACKEND == "tensorflow":  # tracing it again would be a third of this test
        for judged in (loaded, model):
            judged.run_eagerly, judged.test_function = True, None
    assert loaded.evaluate(x, y, **batches) == model.evaluate(x, y, **batches)


@pytest.mark.parametrize("case", golden.CASES)
def test_every_backend_gives_the_same_loss_and_gradients(case):
    """Property 10, for given points."""
    expected, found = json.loads(golden.FILE.read_text())[case], golden.measure(case)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    scale = max(expected["norms"])
    assert scale > 0.01
    np.testing.assert_allclose(found["norms"], expected["norms"], rtol=1e-3, atol=1e-4 * scale)
    np.testing.assert_allclose(found["sums"], expected["sums"], rtol=1e-3, atol=1e-4 * scale)


# Limits between methods run once: above, every backend is held to the same numbers.
def same_step(model, other, tolerance=0.0):
    """Loss and gradients of one training step agree."""
    x, y = images()
    loss, found = loss_and_gradients(model, x, y)
    expected, gradients = loss_and_gradients(other, x, y)
    assert loss == pytest.approx(expected, rel=tolerance, abs=tolerance)
    for a, b in zip(found, gradients, strict=True):
        close(a, b, tolerance)


@pytest.mark.once
def test_sabr_with_the_whole_box_is_ibp():
    network = conv_network()
    same_step(SABRModel(network, EPS, tau_ratio=1), IBPModel(network, EPS))


@pytest.mark.once
def test_staps_with_the_whole_box_is_taps():
    """Property 9."""
    network = conv_network()
    options = {"attack_steps": 2, "seed": 1}
    same_step(STAPSModel(network, EPS, tau_ratio=1, **options), TAPSModel(network, EPS, **options))


@pytest.mark.once
def test_staps_without_relus_after_the_split_is_sabr():
    network = conv_network()
    options = {"tau_ratio": 0.3, "pgd_steps": 2, "seed": 1}
    staps = STAPSModel(network, EPS, classifier_relus=0, **options)
    same_step(staps, SABRModel(network, EPS, **options))


@pytest.mark.once
def test_staps_anneals_with_the_loss_of_sabr():
    network = conv_network()
    options = {"tau_ratio": 0.3, "pgd_steps": 2, "seed": 1}
    models = STAPSModel(network, EPS, **options), SABRModel(network, EPS, **options)
    for model in models:
        model.set_annealing(0, 10)
        model.step.assign(5)
    same_step(*models, 1e-6)


@pytest.mark.once
@pytest.mark.parametrize("method", ["cc-ibp", "mtl-ibp", "exp-ibp"])
def test_ends_of_the_expressive_losses(method):
    network = conv_network()
    options = {"pgd_steps": 2, "pgd_step_size": 0.5, "seed": 1}
    same_step(METHODS[method](network, EPS, alpha=1), IBPModel(network, EPS), 1e-5)
    adversarial = METHODS["pgd"](network, EPS, **options)
    same_step(METHODS[method](network, EPS, alpha=0, **options), adversarial, 1e-5)


@pytest.mark.once
def test_ends_of_diffai():
    """The whole box and its bound alone; attacked images alone."""
    network, (x, y) = dense_network(), images(8, (6,))
    options = {"pgd_steps": 1, "pgd_step_size": 0.5, "seed": 1}
    for weight, other in (
        (1, IBPModel(network, EPS)),
        (0, METHODS["pgd"](network, EPS, **options)),
    ):
        model = METHODS["diffai"](network, EPS, bound_weight=weight, **options)
        (loss, found), (expected, gradients) = (
            loss_and_gradients(each, x, y) for each in (model, other)
        )
        assert loss == pytest.approx(expected, rel=1e-5)
        for a, b in zip(found, gradients, strict=True):
            close(a, b, 1e-4)


def test_boxes_of_diffai_lie_in_the_whole_one():
    """Width and place; at the start of the ramp they are the image, in an evaluation all."""
    (x, y), network = images(), conv_network()
    model = METHODS["diffai"](network, EPS, box_share=0.5)
    batch = batch_of(x, y, EPS)
    region, whole = (numpy(box) for box in (model.region(batch), batch.box))
    close(region.upper - region.lower, 0.5 * (whole.upper - whole.lower), 1e-5)
    assert np.all(region.lower >= whole.lower - 1e-7)
    assert np.all(region.upper <= whole.upper)
    assert np.std(region.lower - whole.lower) > 0.005
    small = numpy(model.region(batch_of(x, y, EPS / 4)))
    assert np.max(small.upper - small.lower) <= 2 * EPS / 4 * 0.125 + 1e-6
    close(model.region(batch_of(x, y, EPS, training=False)), whole)


def test_middle_of_the_expressive_losses():
    ibp, adversarial = (ops.convert_to_tensor([[m, -1.0]]) for m in (1.0, -2.0))
    losses = [float(numpy(cross_entropy(margins))[0]) for margins in (ibp, adversarial)]
    mixtures = {
        name: METHODS[name](dense_network(), EPS, alpha=0.3).mixture(ibp, adversarial)
        for name in ("cc-ibp", "mtl-ibp", "exp-ibp")
    }
    mixtures = {name: float(numpy(value)[0]) for name, value in mixtures.items()}
    assert mixtures["mtl-ibp"] == pytest.approx(0.3 * losses[0] + 0.7 * losses[1], rel=1e-5)
    assert mixtures["exp-ibp"] == pytest.approx(losses[0] ** 0.3 * losses[1] ** 0.7, rel=1e-5)
    assert mixtures["cc-ibp"] == pytest.approx(math.log(1 + math.exp(-1.1) + math.exp(-1)))


def test_exp_ibp_of_confident_samples_has_a_finite_gradient():
    network = conv_network()
    for variable in network.layers[-1].trainable_variables:
        variable.assign(100 * variable.value)
    model = METHODS["exp-ibp"](network, 0.0, alpha=0.1)
    loss, gradients = loss_and_gradients(model, *images())
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.once
def test_crown_ibp_ends_as_ibp():
    network = conv_network()
    same_step(METHODS["crown-ibp"](network, EPS), IBPModel(network, EPS), 1e-5)


def test_crown_weight_falls_with_the_radius():
    model = METHODS["crown-ibp"](conv_network(), EPS, final_crown_weight=0.5)
    assert [model.crown_weight(share) for share in (0, 0.5, 1)] == [1, 0.75, 0.5]


def test_standard_training_is_the_cross_entropy():
    (x, y), network = images(), conv_network(batch_norm=False)
    loss = loss_of(METHODS["standard"](network, EPS), x, y)
    logits = network(ops.convert_to_tensor(x))
    expected = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    assert loss == pytest.approx(float(numpy(expected).mean()), rel=1e-5)
    close(cross_entropy(logit_margins(logits, y)), expected)


@pytest.mark.once
def test_objectives_of_taps_alone():
    """Rows of Table 2 of the paper."""
    network = conv_network()
    ibp = TAPSModel(network, EPS, objective="ibp", attack_steps=2)
    same_step(ibp, IBPModel(network, EPS))
    x, y = images()
    options = {"attack_steps": 2, "seed": 1}
    alone, product = (
        loss_of(TAPSModel(network, EPS, objective=name, **options), x, y)
        for name in ("taps", "product")
    )
    factor = loss_of(ibp, x, y)
    assert alone * factor == pytest.approx(product, rel=1e-5)


def vgg():
    """A functional network as Keras users write them: fused activations, max pooling."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(16, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def residual():
    """A residual network with Add and batch normalisation."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    y = keras.layers.Conv2D(4, 3, padding="same")(x)
    y = keras.layers.ReLU()(keras.layers.BatchNormalization()(y))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, padding="same")(y))
    x = keras.layers.ReLU()(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def leaky():
    """LeakyReLU and average pooling, sequential."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(2.0, offset=-1.0),
            keras.layers.Conv2D(4, 3),
            keras.layers.LeakyReLU(0.1),
            keras.layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(8),
            keras.layers.LeakyReLU(0.1),
            keras.layers.Dense(3),
        ]
    )


BROUGHT = [
    (make, method)
    for i, method in enumerate(METHODS)
    for j, make in enumerate((vgg, residual, leaky))
    if (make, method) != (vgg, "convex")  # a maximum over windows has no slope
    # The others compile each for many seconds; DiffAI is made of parts of other methods.
    if BACKEND == "torch" or (i % 3 == j and method != "diffai")
]


@pytest.mark.parametrize(("make", "method"), BROUGHT)
def test_networks_that_users_bring(make, method):
    """Converted, trained for a few steps, certified by IBP; no loss is off and no weight is NaN."""
    x, y = images(8, (8, 8, 1))
    model = METHODS[method](convert(make()), 0.01, seed=0, **FAST.get(method, {}))
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=10.0))
    model.set_annealing(0, 2)
    losses = [float(model.train_on_batch(x, y, return_dict=True)["loss"]) for _ in range(4)]
    assert np.all(np.isfinite(losses))
    assert all(np.all(np.isfinite(numpy(w))) for w in model.weights)
    assert np.all(np.isfinite(numpy(ibp_margins(model.network, input_box(x, 0.01), y))))


BAD = [
    ("sabr", "tau_ratio", 0),
    ("sabr", "tau_ratio", 1.1),
    ("staps", "tau_ratio", -0.4),
    ("staps", "tau_ratio", float("nan")),
    ("staps", "relu_shrinkage", 0),
    ("sabr", "relu_shrinkage", 1.5),
    ("sabr", "pgd_steps", -1),
    ("pgd", "pgd_step_size", 0),
    ("pgd", "pgd_restarts", 0),
    ("pgd", "pgd_radius", 0),
    ("mtl-ibp", "alpha", 1.1),
    ("cc-ibp", "alpha", -0.1),
    ("exp-ibp", "alpha", None),
    ("taps", "objective", "sum"),
    ("crown-ibp", "final_crown_weight", 2),
    ("crown-ibp", "loss_fusion", "yes"),
    ("diffai", "bound_weight", 2),
    ("diffai", "box_share", -1),
    ("diffai", "abstraction", "zonotope"),
    ("convex", "projections", 0),
    ("ibp-r", "stability", -1),
    ("ibp-r", "mask", "image"),
    ("ibp-r", "include_logits", "no"),
]


@pytest.mark.parametrize(("method", "name", "value"), BAD)
def test_bad_arguments(method, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        METHODS[method](dense_network(), EPS, **{name: value})


@every_method
def test_network_without_relus(method):
    """There is nothing after a split, and the message says so."""
    with pytest.raises(ValueError, match=r"has no ReLU.*`classifier_relus=0`"):
        METHODS[method](dense_network(hidden=()), EPS)
    assert METHODS[method](dense_network(hidden=()), EPS, classifier_relus=0).eps == EPS


def test_convex_training_names_the_layer_without_a_slope():
    with pytest.raises(ValueError, match="is a maximum over windows"):
        METHODS["convex"](convert(vgg()), EPS)


def test_convex_training_by_projections():
    """One step, of so many draws that the batch is taken in two parts; estimates are no metric."""
    network, (x, y) = cnn3((8, 8, 1), 3, width=1, mean=0.4, std=0.5), images(44, (8, 8, 1))
    model = METHODS["convex"](network, EPS, projections=2000, seed=1)
    model.compile(keras.optimizers.SGD(1e-3))
    logs = model.train_on_batch(x, y, return_dict=True)
    assert set(logs) == {"loss", "eps", "natural_accuracy"}
    assert np.isfinite(logs["loss"])
    assert all(np.all(np.isfinite(numpy(w))) for w in network.weights)


@pytest.mark.once
def test_projections_against_exact_bounds():
    """Many draws give the exact margins; parts change neither value nor gradient."""
    network, (x, y) = dense_network(hidden=(16, 12, 10), batch_norm=True), images(5, (6,))
    batch = batch_of(x, y, EPS)
    drawn = (network.segment, batch.box, batch.labels, batch.seed)
    exact = fixed_slope_margins(network, batch.box, y)
    close(projected_margins(*drawn, 3000), exact, 0.05)

    def difference():
        whole, parts = (projected_margins(*drawn, 2, floats) for floats in (10**6, 500))
        return ops.sum(cross_entropy(whole) - cross_entropy(parts))

    value, found = weight_gradients(difference, network.trainable_variables)
    close(value, 0, 1e-5)
    for gradient in found:
        close(gradient, np.zeros_like(gradient), 1e-4)
    model = METHODS["convex"](network, EPS, projections=2)
    evaluated = outcome_of(model, batch_of(x, y, EPS, training=False)).convex_margins
    close(evaluated, exact)
    with pytest.raises(TypeError, match="no option `projections`"):
        certify(network, x, y, EPS, projections=2)


@pytest.mark.once
def test_projections_have_the_right_median():
    """An estimate by an odd number of draws is too small as often as too large."""
    segment, (x, _) = Segment(dense_network().layers[:1]), images(1, (6,))
    box = input_box(x, EPS)
    exact = numpy(segment(box).radius)[0]
    _, _, projected = projected_traces(segment, box, seed_tensor(), 7 * 4000)
    draws = ops.reshape(projected.images, (4000, 1, 7, len(exact)))
    found = numpy(Projected(projected.box, draws).estimate.radius)
    np.testing.assert_allclose(np.mean(found < exact, axis=0), 0.5, atol=0.04)
    np.testing.assert_allclose(np.median(found, axis=0), exact, rtol=0.05)


@pytest.mark.once
def test_convex_training_is_about_its_bound():
    """Margins of the batch's own moments; at radius 0 the clean cross-entropy."""
    (x, y), network = images(8, (6,)), dense_network()
    clean = loss_of(METHODS["convex"](network, 0.0), x, y)
    assert clean == pytest.approx(loss_of(METHODS["standard"](network, 0.0), x, y), rel=1e-4)
    loss, found = loss_and_gradients(METHODS["convex"](network, EPS), x, y)
    margins = fixed_slope_margins(network, input_box(x, EPS), ops.convert_to_tensor(y))
    assert loss == pytest.approx(float(numpy(cross_entropy(margins)).mean()), rel=1e-5)
    # Slopes and intermediate bounds have a gradient: it is that of the loss as a function.
    model, kernel = METHODS["convex"](network, EPS), network.layers[0].kernel
    value, ends = numpy(kernel).copy(), []
    direction = np.sign(found[0])
    for sign in (-1, 1):
        kernel.assign(value + sign * 1e-3 * direction)
        ends.append(loss_of(model, x, y))
    kernel.assign(value)
    assert (ends[1] - ends[0]) / 2e-3 == pytest.approx(np.abs(found[0]).sum(), rel=2e-2)


def test_default_split_of_a_residual_network():
    """The ReLU inside the last block is not a place to cut, so the next one is taken."""
    model = TAPSModel(convert(residual()), EPS)
    assert model.network.legal_splits == (0, 2, 3)
    assert model.classifier_relus == 2

import math
import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import cross_entropy
from keras_taps.callbacks import EpsAnneal
from keras_taps.datasets import Batches
from keras_taps.interval import Interval, input_box
from keras_taps.layers import (
    IntervalBatchNormalization,
    IntervalDense,
    IntervalDropout,
    IntervalReLU,
)
from keras_taps.networks import IntervalSequential
from keras_taps.objectives import warmup_regulariser
from keras_taps.schedules import smooth_eps
from keras_taps.training import CertifiedModel, IBPModel, TAPSModel
from tests.helpers import BACKEND, close, dense_network, images, numpy
from tests.training.steps import loss_and_gradients, loss_of

EPS, TRAIN_EPS, STEPS = 0.05, 0.1, 3
X, Y = images(12, (6,))


def taps(**options):
    network = dense_network(batch_norm=True)
    model = TAPSModel(network, EPS, TRAIN_EPS, attack_steps=2, seed=1, **options)
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=10.0))
    return model


def run(model, epochs=2, first=0, callbacks=(), **options):
    return model.fit(
        Batches(X, Y, 4, epoch=first),
        initial_epoch=first,
        epochs=epochs,
        callbacks=[EpsAnneal(1.5), *callbacks],
        verbose=0,
        **options,
    )


def assert_same_state(a, b):
    """Weights, counters and optimizer, bit for bit."""
    states = (model.weights + model.optimizer.variables for model in (a, b))
    for one, other in zip(*states, strict=True):
        assert np.array_equal(numpy(one), numpy(other)), one.path


@pytest.fixture(scope="module")
def fitted():
    """Three epochs of three steps: one and a half of annealing, the rest with the own loss."""
    keras.utils.set_random_seed(0)
    model = taps()
    history = run(model, epochs=3, validation_data=(X, Y)).history
    return model, history


def test_metrics_in_the_history(fitted):
    _, history = fitted
    names = {"loss", "natural_accuracy", "ibp_certified_accuracy", "taps_accuracy", "eps"}
    assert set(history) == names | {f"val_{name}" for name in names}
    assert np.all(np.isfinite(history["loss"]))


def test_no_taps_accuracy_while_annealing(fitted):
    _, history = fitted
    assert math.isnan(history["taps_accuracy"][0])
    assert np.all(np.isfinite(history["taps_accuracy"][1:]))
    assert np.all(np.isfinite(history["val_taps_accuracy"]))


def test_radius_in_the_history(fitted):
    """Property 10: the radius of the last step of each epoch, and the testing radius."""
    _, history = fitted
    expected = [float(numpy(smooth_eps(s, 0, round(1.5 * STEPS), TRAIN_EPS))) for s in (2, 5, 8)]
    np.testing.assert_allclose(history["eps"], expected, rtol=1e-5)
    assert history["eps"][1] == pytest.approx(TRAIN_EPS)
    np.testing.assert_allclose(history["val_eps"], EPS, rtol=1e-6)


def test_evaluation_by_hand(fitted):
    model, history = fitted
    found = model.evaluate(X, Y, return_dict=True, verbose=0)
    for name, value in found.items():
        assert value == pytest.approx(history[f"val_{name}"][-1], abs=1e-6)
    logits = numpy(model.network(ops.convert_to_tensor(X)))
    assert found["natural_accuracy"] == pytest.approx((logits.argmax(1) == Y).mean())
    margins = numpy(ibp_margins(model.network, input_box(X, EPS), Y))
    assert found["ibp_certified_accuracy"] == pytest.approx((margins < 0).all(1).mean())
    assert found["ibp_certified_accuracy"] <= found["taps_accuracy"] <= found["natural_accuracy"]


def test_evaluation_is_repeatable(fitted):
    model, _ = fitted
    first, second = (model.evaluate(X, Y, return_dict=True, verbose=0) for _ in range(2))
    assert first == second


def test_saved_model_is_the_same(fitted, tmp_path):
    """Weights, optimizer, step counter, annealing: evaluate and predict agree bit for bit."""
    model, _ = fitted
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_state(loaded, model)
    for name, value in model.get_config().items():
        assert name == "network" or loaded.get_config()[name] == value
    assert int(loaded.step) == 3 * STEPS
    assert loaded.annealed()
    assert loaded.evaluate(X, Y, return_dict=True, verbose=0) == model.evaluate(
        X, Y, return_dict=True, verbose=0
    )


def test_resumed_run_equals_the_uninterrupted(fitted, tmp_path):
    """Property 10: bit for bit, from the middle of the annealing; validation disturbs nothing."""
    whole, _ = fitted
    part = taps()
    run(part, epochs=1)
    part.save(tmp_path / "part.keras")
    keras.utils.set_random_seed(99)
    resumed = keras.saving.load_model(tmp_path / "part.keras")
    run(resumed, epochs=3, first=1)
    assert_same_state(resumed, whole)


def test_annealing_uses_the_warmup_loss():
    """IBP loss plus the regulariser with its decreasing weight, at the radius of the schedule."""
    model = taps(warmup_weight=0.3)
    model.set_annealing(0, 10)
    model.step.assign(4)
    eps = float(numpy(smooth_eps(4, 0, 10, TRAIN_EPS)))
    with keras.StatelessScope():
        boxes, moments = [], model.network.clean_pass(ops.convert_to_tensor(X)).moments
        given = replace(model.network.replay(moments), relu_boxes=boxes)
        margins = ibp_margins(model.network.under(given), input_box(X, eps), Y)
        penalty = warmup_regulariser(input_box(X, eps), boxes)
        expected = ops.mean(cross_entropy(margins)) + 0.3 * (1 - eps / TRAIN_EPS) * penalty
    assert float(numpy(penalty)) > 0
    loss = loss_of(model, X, Y)
    assert loss == pytest.approx(float(numpy(expected)), rel=1e-4)


def test_regulariser_vanishes_with_the_annealing():
    """Property 10: its weight reaches 0 where the radius reaches its end."""
    model = taps(warmup_weight=5.0)
    box = input_box(X, TRAIN_EPS)
    boxes = [Interval(ops.convert_to_tensor(X) - 9.0, ops.convert_to_tensor(X) + 9.0)]  # too wide
    penalties = [
        float(numpy(model.warmup_penalty(box, boxes, ops.convert_to_tensor(eps))))
        for eps in (0.5 * TRAIN_EPS, TRAIN_EPS)
    ]
    assert penalties[0] > 0
    assert penalties[1] == pytest.approx(0, abs=1e-6)


def test_without_annealing_the_radius_is_final_at_once():
    loss = loss_of(IBPModel(dense_network(), EPS, TRAIN_EPS), X, Y)
    margins = ibp_margins(dense_network(), input_box(X, TRAIN_EPS), Y)
    assert loss == pytest.approx(float(numpy(ops.mean(cross_entropy(margins)))), rel=1e-5)


def test_first_step_of_annealing_is_finite():
    """At radius 0 the regulariser looks at boxes of radius 1e-6."""
    model = taps()
    model.set_annealing(0, 10)
    loss, gradients = loss_and_gradients(model, X, Y)
    assert math.isfinite(loss)
    assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan")])
@pytest.mark.parametrize("training", [True, False])
def test_bad_pixels_inside_the_step_make_the_loss_nan(bad, training):
    """Plain generators are not looked at beforehand."""
    x = X.copy()
    x[3, 2] = bad
    assert math.isnan(loss_of(IBPModel(dense_network(), EPS), x, Y, training))


@pytest.mark.parametrize("bad", [-1, 3])
def test_bad_labels_inside_the_step_make_the_loss_nan(bad):
    y = Y.copy()
    y[5] = bad
    assert math.isnan(loss_of(IBPModel(dense_network(), EPS), X, y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -0.1}, "`eps` must be"),
        ({"eps": 8}, "`eps` must be"),
        ({"eps": "much"}, "`eps` must be"),
        ({"train_eps": 1.1}, "`train_eps` must be"),
        ({"train_eps": -0.1}, "`train_eps` must be"),
        ({"eps": 0.2, "train_eps": 0.1}, "`train_eps` must be at least `eps`"),
        ({"classifier_relus": 3}, "`classifier_relus` must be one of"),
        ({"classifier_relus": -1}, "`classifier_relus` must be"),
        ({"warmup_weight": -1}, "`warmup_weight` must be"),
        ({"l1": -1}, "`l1` must be"),
        ({"seed": 1.5}, "`seed` must be"),
        ({"network": keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])}, "convert"),
    ],
)
@pytest.mark.parametrize("cls", [IBPModel, TAPSModel])
def test_bad_arguments(cls, options, message):
    with pytest.raises(ValueError, match=f"(?s){message}.*Received"):
        cls(**{"network": dense_network(), "eps": 0.1, **options})


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([IntervalDropout(0.5), IntervalDense(3)], "has rate 0.5"),
        ([IntervalDense(3), IntervalReLU()], "last layer must be a Dense"),
    ],
)
def test_bad_networks(layers, message):
    with pytest.raises(ValueError, match=message):
        IBPModel(IntervalSequential(layers, input_shape=(6,)), 0.1, classifier_relus=0)


BAD_DATA = [
    (np.where(np.arange(6) == 2, np.nan, X), Y, "`x` must hold values"),
    (X * 255, Y, "`x` must hold values"),
    (X - 0.5, Y, "`x` must hold values"),
    (X[:, :5], Y, "`x` must have shape"),
    (X[..., None], Y, "`x` must have shape"),
    (X, Y + 1, "`y` must hold whole labels"),
    (X, Y - 1, "`y` must hold whole labels"),
    (X, np.eye(3)[Y], "one integer label an image"),
    (X, Y + 0.5, "`y` must hold whole labels"),
    (X, None, "`y` must hold the integer labels"),
]


@pytest.mark.parametrize(("x", "y", "message"), BAD_DATA)
def test_bad_data(x, y, message):
    model = taps()
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        model.evaluate(x, y, verbose=0)
    if y is not None:
        with pytest.raises(ValueError, match=f"{message}.*Received"):
            model.fit(X, Y, validation_data=(x, y), verbose=0)
        with pytest.raises(ValueError, match=f"{message}.*Received"):
            model.fit(Batches(x, y, 4), verbose=0)


def test_sample_weights_refused():
    model = taps()
    with pytest.raises(ValueError, match=r"`sample_weight` and `class_weight` are not supported"):
        model.fit(X, Y, sample_weight=np.ones(12), verbose=0)


def test_loss_refused():
    with pytest.raises(ValueError, match=r"`loss` must stay None.*Received: 'mse'"):
        taps().compile(loss="mse")


def test_an_unknown_argument_is_named_with_the_nearest():
    with pytest.raises(TypeError, match=r"^TAPSModel has no argument `wtaps`.*mean 'w_taps'"):
        TAPSModel(dense_network(), eps=0.1, wtaps=3.0)


def test_a_new_method_is_one_formula():
    model = CertifiedModel(dense_network(), EPS)
    with pytest.raises(NotImplementedError):
        model.certified_loss(None, None)


FORGETFUL = (
    lambda network, x: network(x),
    lambda network, x: network.segment(x),
    lambda network, x: network.split(1)[0](x),
)


@pytest.mark.parametrize("look", FORGETFUL)
def test_a_method_that_forgets_the_moments_is_told_so(look):
    """Training by moving averages would pass unnoticed; if they are frozen it is right."""

    class Forgetful(IBPModel):
        def certified_loss(self, batch, region):
            look(self.network, region)
            return super().certified_loss(batch, region)

    network = dense_network(batch_norm=True)
    model = Forgetful(network, EPS)
    model.compile("sgd", jit_compile=False)
    with pytest.raises(ValueError, match=r"self\.network\.under\(batch\.given\)"):
        model.train_on_batch(X[:4], Y[:4])
    assert np.isfinite(model.evaluate(X, Y, verbose=0, return_dict=True)["loss"])
    for layer in network.batch_norms:
        layer.trainable = False
    for right in (Forgetful(network, EPS), Forgetful(dense_network(), EPS)):
        assert np.isfinite(loss_of(right, X, Y))


def test_predict_gives_logits(fitted):
    model, _ = fitted
    close(model.predict(X, verbose=0), model.network(ops.convert_to_tensor(X)))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the trace count is TensorFlow's")
def test_no_retracing():
    """Traced for the shapes of the data, not again at each step."""
    traces = []

    class Counting(IBPModel):
        def compute_loss(self, *args, **kwargs):
            traces.append(1)
            return super().compute_loss(*args, **kwargs)

    model = Counting(dense_network(), EPS)
    model.compile("sgd")
    model.fit(X, Y, batch_size=4, epochs=4, verbose=0)
    assert len(traces) <= 2


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere the default is the only way")
def test_xla_gives_the_same_step():
    losses = []
    for jit_compile in (True, False):
        model = taps()
        model.compile("sgd", jit_compile=jit_compile)
        losses.append(float(model.train_on_batch(X, Y, return_dict=True)["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


MIRRORED = """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from tests.helpers import dense_network, images
from tests.training.steps import FixedPoints
x, y = images(8, (6,))

class Points(FixedPoints):
    def latent_attack(self, classifier, features, batch):
        from keras import ops
        return ops.stop_gradient(ops.repeat(ops.expand_dims(features.upper, 1), 2, axis=1))

def step():
    model = Points(dense_network(), 0.05)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    return [v.numpy() for v in model.trainable_variables]

alone = step()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    together = step()
for a, b in zip(alone, together):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
print("equal")
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_two_replicas_take_the_step_of_one():
    """The losses are averaged over the global batch before they are multiplied."""
    result = subprocess.run(
        [sys.executable, "-c", MIRRORED], env=os.environ, capture_output=True, text=True
    )
    assert result.stdout.strip().endswith("equal"), result.stderr[-3000:]


def test_two_calls_before_the_loss():
    """Each result carries its own moments: which call came last plays no part."""
    x, other = ops.convert_to_tensor(X), ops.convert_to_tensor(images(12, (6,), seed=5)[0] ** 4)
    y = ops.convert_to_tensor(Y)

    def loss(*called):
        model = taps()
        found = [model(batch, training=True) for batch in called]
        return float(numpy(model.compute_loss(x=x, y=y, y_pred=found[0], training=True)))

    assert loss(x, other) == loss(x)


def test_a_shared_batch_normalization_is_refused():
    shared = IntervalBatchNormalization()
    layers = [IntervalDense(6), shared, IntervalReLU(), IntervalDense(6), shared, IntervalDense(3)]
    network = IntervalSequential(layers, input_shape=(6,))
    with pytest.raises(ValueError, match="is used twice in the network"):
        IBPModel(network, EPS)
    shared.trainable = False  # its averages serve both uses
    assert np.isfinite(loss_of(IBPModel(network, EPS), X, Y))


def test_metrics_given_to_compile_see_logits():
    model = taps()
    model.compile("adam", metrics=[keras.metrics.SparseCategoricalAccuracy(name="own")])
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert logs["own"] == pytest.approx(logs["natural_accuracy"])
    logs = model.evaluate(X, Y, return_dict=True, verbose=0)
    assert logs["own"] == pytest.approx(logs["natural_accuracy"])


def test_a_radius_of_zero_needs_no_annealing():
    model = IBPModel(dense_network(batch_norm=True), 0.0)
    model.compile("sgd")
    losses = run(model).history["loss"]
    assert np.all(np.isfinite(losses))


def test_float64_while_annealing():
    """Layers in float64, images in float32, on every backend."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        model = IBPModel(dense_network(batch_norm=True), EPS)
    finally:
        keras.config.set_dtype_policy(before)
    model.compile("sgd")
    assert np.all(np.isfinite(run(model).history["loss"]))


def test_activity_regularizer_refused():
    layers = [IntervalDense(4, activity_regularizer="l2"), IntervalReLU(), IntervalDense(3)]
    network = IntervalSequential(layers, input_shape=(6,))
    with pytest.raises(ValueError, match=r"`activity_regularizer`.*Accepted"):
        IBPModel(network, EPS)


def test_a_global_policy_does_not_round_images():
    """A pixel of 0.7081 would be 0.70703 in bfloat16, out of its own box of eps 1e-4."""
    network = dense_network()
    x = np.full((1, 6), 0.7081, "float32")
    expected = numpy(network(x))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = IBPModel(type(network).from_config(network.get_config()), EPS)
        model.network.set_weights(network.get_weights())
    finally:
        keras.config.set_dtype_policy(before)
    close(model(x), expected, 1e-6)
    assert numpy(model(x)).dtype == "float32"


def test_evaluation_is_at_eps_whatever_the_radius_of_training():
    network = dense_network(batch_norm=True)

    def shares(*radii):
        model = IBPModel(network, *radii)
        model.compile()
        return model.evaluate(X, Y, verbose=0, return_dict=True)

    small, large = shares(1e-4), shares(1.0)
    assert small["loss"] < large["loss"]
    found = shares(1e-4, 1.0)
    assert found.keys() == small.keys()
    for name, value in small.items():
        assert found[name] == pytest.approx(value), name

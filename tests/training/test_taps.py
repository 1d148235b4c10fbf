import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.attacks.box_attack import margins_at
from keras_taps.bounds import ibp_margins, margin_rows
from keras_taps.bounds.margins import cross_entropy
from keras_taps.callbacks import EpsAnneal
from keras_taps.interval import input_box
from keras_taps.objectives import connect, product_loss
from keras_taps.training import IBPModel, STAPSModel, TAPSModel
from tests.helpers import (
    BACKEND,
    close,
    conv_network,
    dense_network,
    images,
    numpy,
    weight_gradients,
)
from tests.training.steps import FixedPoints, batch_of, loss_and_gradients, loss_of, outcome_of

EPS = 0.05


@pytest.mark.parametrize("relus", [1, 2])
@pytest.mark.parametrize("w_taps", [0.0, 5.0, float("inf")])
def test_loss_is_the_composition(relus, w_taps):
    """Clean statistics, box, points, connector, product: Figure 2 of the paper by hand."""
    x, y = images()
    network = conv_network()
    model = FixedPoints(network, EPS, classifier_relus=relus, w_taps=w_taps, c=0.3)

    def by_hand():
        moments = network.clean_pass(ops.convert_to_tensor(x)).moments
        extractor, classifier = network.split(relus, network.replay(moments))
        features = extractor(input_box(x, EPS))
        ibp = ops.mean(cross_entropy(ibp_margins(classifier, features, y)))
        points = connect(model.latent_attack(classifier, features, None), features, 0.3)
        rows = margin_rows(network.layers[-1], y)
        taps = ops.mean(cross_entropy(margins_at(classifier, points, rows)))
        return product_loss(taps, ibp, w_taps)

    expected, gradients = weight_gradients(by_hand, model.trainable_variables)
    loss, found = loss_and_gradients(model, x, y)
    assert loss == pytest.approx(expected, rel=1e-5)
    for a, b in zip(found, gradients, strict=True):
        close(a, b, 1e-4)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_chunks_of_classes_change_nothing(size):
    """Gradients flow through points, weights and clean statistics; the last chunk is filled."""
    x, y = images(classes=6)
    network = conv_network(classes=6)
    whole = FixedPoints(network, EPS, classifier_relus=2, c=0.3)
    chunked = FixedPoints(network, EPS, classifier_relus=2, c=0.3, chunk_size=size)
    expected, gradients = loss_and_gradients(whole, x, y)
    loss, found = loss_and_gradients(chunked, x, y)
    assert loss == pytest.approx(expected, rel=1e-6)
    for a, b in zip(found, gradients, strict=True):
        close(a, b, 1e-5)


def test_chunks_train_and_are_saved(tmp_path):
    """Inside the compiled step and its branch; points lie in the box and differ by chunk."""
    x, y = images(classes=6)
    options = {"classifier_relus": 1, "attack_steps": 3, "seed": 1}
    model = TAPSModel(conv_network(classes=6), EPS, chunk_size=2, **options)
    model.compile("sgd")
    model.fit(x, y, epochs=2, batch_size=4, callbacks=[EpsAnneal(1)], verbose=0)
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.chunk_size == 2
    assert loaded.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(found, rel=1e-5)
    whole = TAPSModel(loaded.network, EPS, **options)
    whole.compile("sgd")
    assert whole.evaluate(x, y, verbose=0)[0] == pytest.approx(found["loss"], rel=0.05)


@pytest.mark.parametrize(
    "options", [{"chunk_size": 0}, {"chunk_size": 2, "estimators": 1},
                {"chunk_size": 2, "estimator": "single"}]
)  # fmt: skip
def test_chunks_refused(options):
    with pytest.raises(ValueError, match=r"`chunk_size` .*Received"):
        TAPSModel(dense_network(), EPS, **options)


def test_no_relu_after_the_split_is_ibp():
    """Property 1: in loss and gradient, exactly."""
    (x, y), network = images(), conv_network()
    loss, found = loss_and_gradients(TAPSModel(network, EPS, classifier_relus=0), x, y)
    expected, gradients = loss_and_gradients(IBPModel(network, EPS), x, y)
    assert loss == expected
    for a, b in zip(found, gradients, strict=True):
        close(a, b, 0)


def test_radius_zero_gives_the_squared_cross_entropy():
    """Property 7: both factors are the cross-entropy."""
    (x, y), network = images(), conv_network()
    expected = loss_of(IBPModel(network, 0.0), x, y)
    loss = loss_of(TAPSModel(network, 0.0, attack_steps=2), x, y)
    assert loss == pytest.approx(expected**2, rel=1e-4)


def test_one_step_moves_the_averages_as_one_clean_forward():
    """Property 6."""
    x, y = images()
    model, clean = TAPSModel(conv_network(), EPS, attack_steps=2), conv_network()
    model.compile(keras.optimizers.SGD(0.0))
    model.train_on_batch(x, y)
    clean(ops.convert_to_tensor(x), training=True)
    moving = [w for w in model.network.weights if "moving" in w.path]
    expected = [w for w in clean.weights if "moving" in w.path]
    assert len(moving) == 4
    for a, b in zip(moving, expected, strict=True):
        close(a, b)
    assert int(model.step) == 1


def test_scaled_points_change_no_statistic():
    """Property 6."""
    x, y = images()
    found = []
    for scale in (1.0, 100.0):
        model = FixedPoints(conv_network(), EPS, classifier_relus=2)
        model.scale = scale
        with keras.StatelessScope() as scope:
            model.compute_loss(x=ops.convert_to_tensor(x), y=ops.convert_to_tensor(y))
        moving = [w for w in model.network.weights if "moving" in w.path]
        found.append([numpy(scope.get_current_value(w)) for w in moving])
    for a, b in zip(*found, strict=True):
        close(a, b, 0)


@pytest.mark.parametrize("estimator", ["multi", "single"])
def test_estimate_is_below_the_bound(estimator):
    """Property 5, in the margins that the method returns."""
    (x, y), network = images(), dense_network()
    x = x.reshape(8, -1)[:, :6]
    model = TAPSModel(network, EPS, attack_steps=3, estimator=estimator)
    outcome = outcome_of(model, batch_of(x, y, EPS))
    taps, ibp = numpy(outcome.taps_margins), numpy(outcome.ibp_margins)
    assert taps.shape == ibp.shape == (8, 2)
    assert np.all(taps <= ibp + 1e-5)
    losses = [float(ops.mean(cross_entropy(ops.convert_to_tensor(m)))) for m in (taps, ibp)]
    assert float(numpy(model.combine(outcome))) == pytest.approx(losses[0] * losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("w_taps", -1),
        ("w_taps", float("nan")),
        ("c", 1.5),
        ("attack_steps", -1),
        ("attack_steps", 2.5),
        ("attack_step_size", 0),
        ("attack_restarts", 0),
        ("estimator", "both"),
        ("estimators", "some"),
        ("estimators", 0),
        ("estimators", 3),
    ],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        TAPSModel(dense_network(), EPS, **{name: value})


def test_chosen_classes_in_training():
    """The gap is reported while training alone; the small box of STAPS has it too."""
    x, y = images(8, (6,))
    for method in (TAPSModel, STAPSModel) if BACKEND == "torch" else (STAPSModel,):
        model = method(dense_network(), EPS, estimators=1, attack_steps=2)
        model.compile("adam")
        options = {"epochs": 2, "verbose": 0, "callbacks": [EpsAnneal(1)]}
        history = model.fit(x, y, validation_data=(x, y), **options).history
        assert np.isnan(history["taps_loss_gap"][0])  # eps grows: nothing is attacked
        assert 0 <= history["taps_loss_gap"][1] < 2
        assert "val_taps_loss_gap" not in history


def test_chosen_classes_evaluate_as_all():
    x, y = images(8, (6,))
    reports = []
    for estimators in ("all", 1):
        model = TAPSModel(dense_network(), EPS, estimators=estimators)
        model.compile("adam")
        reports.append(model.evaluate(x, y, verbose=0, return_dict=True))
    assert reports[0] == reports[1]


def test_chosen_classes_need_a_point_each():
    with pytest.raises(ValueError, match="estimator='multi'"):
        TAPSModel(dense_network(), EPS, estimator="single", estimators=1)


def test_round_trip():
    options = {"w_taps": 2.0, "c": 0.25, "attack_steps": 3, "attack_restarts": 2, "l1": 1e-4}
    options.update(attack_step_size=0.5, estimator="single", classifier_relus=2, seed=5)
    model = TAPSModel(dense_network(), EPS, 0.1, warmup_weight=0.2, name="mine", **options)
    again = TAPSModel.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    for name, value in options.items():
        assert getattr(again, name) == value

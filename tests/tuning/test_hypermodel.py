"""A trial is the run of its recipe, measured on validation images alone."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import pytest

from keras_taps.experiments.build import build_model
from keras_taps.experiments.run import Run, load_model
from keras_taps.layers import IntervalDense, IntervalFlatten, IntervalReLU
from keras_taps.networks import IntervalSequential
from keras_taps.training import METHODS, IBPModel
from keras_taps.tuning import CertifiedHyperModel, TAPSHyperModel, family, make_tuner, read_trials
from keras_taps.tuning.space import TUNED
from keras_taps.verification import certify
from tests.tuning.helpers import LIMIT, Untrained, data, hypermodel, tiny


def at(**values):
    """HyperParameters with these values."""
    hp = keras_tuner.HyperParameters()
    hp.values = values
    return hp


class Unseen:
    """Test images of which nobody may know."""

    def __getitem__(self, index):
        raise AssertionError("the test images were looked at")

    __iter__ = __len__ = __getitem__


def test_a_trial_is_the_run_of_its_recipe(tmp_path):
    """The same weights as `keras-taps train` gives, of the one epoch that counts; no test image."""
    changes = {"anneal_epochs": 1.5, "bn_reestimation": True, "ema_momentum": 0.5}
    unseen = replace(data(seed=3), test=Unseen())
    model = hypermodel({"l1": [1e-5]}, "ibp", changes, seed=3, data=unseen)
    tuner = make_tuner(model, tmp_path / "search", trials=1)
    tuner.search(verbose=0)
    (ours,) = tuner.get_best_models()
    run = Run.create(tmp_path / "run", tiny("ibp", **changes, l1=1e-5), seed=3, limit=LIMIT)
    run.train()
    theirs = load_model(run.best_path())
    for a, b in zip(ours.network.get_weights(), theirs.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    (trial,) = read_trials(tuner)
    assert trial["val_taps_accuracy"] == pytest.approx(run.history()[-1]["val_taps_accuracy"])
    assert int(ours.step) == 2 * LIMIT // 32


@pytest.mark.once
def test_figures_of_a_certified_trial():
    """Each is what evaluation and certification of validation images say, at one split for all."""
    search = {"classifier_relus": None, "w_taps": (1, 10)}
    model = hypermodel(search, stages=["ibp"], certify_count=20, weight=0.25)
    assert model.evaluation_relus == 1
    assert model.objective == keras_tuner.Objective("val_scalarised_accuracy", "max")
    hp = at(classifier_relus=2, w_taps=3.0)
    built = model.build(hp)
    assert built.classifier_relus == 2
    figures = model.fit(hp, built)
    x, y = model.data.validation
    other = IBPModel(built.network, 0.1, classifier_relus=1)
    other.compile()
    shares = other.evaluate(x, y, verbose=0, return_dict=True)
    for name in ("natural", "ibp_certified", "taps"):
        expected = pytest.approx(shares[f"{name}_accuracy"], abs=1e-6)
        assert figures[f"val_{name}_accuracy"] == expected
    report = certify(built.network, x[:20], y[:20], 0.1, stages=["ibp"])
    assert figures["val_certified_accuracy"] == pytest.approx(report.accuracies()["certified"])
    losses = (
        0.25 * (1 - figures["val_certified_accuracy"]),
        0.75 * (1 - figures["val_natural_accuracy"]),
    )
    scalarised = 1 - max(losses) - 0.05 * sum(losses)
    assert figures["val_scalarised_accuracy"] == pytest.approx(scalarised, abs=1e-6)
    assert figures["train_seconds"] > 0
    assert figures["certify_seconds"] > 0
    assert all(np.float32(value) == value for value in figures.values())


def test_objectives():
    assert hypermodel().objective_name == "val_taps_accuracy"
    assert hypermodel(stages=["ibp"]).objective_name == "val_certified_accuracy"
    natural = "val_natural_accuracy"
    assert hypermodel(stages=["ibp"], objective=natural).objective_name == natural
    assert hypermodel(weight=0.5).objective_name == "val_scalarised_accuracy"


def test_a_network_of_the_user(tmp_path):
    def network():
        layers = [IntervalFlatten(), IntervalDense(6), IntervalReLU()]
        layers += [IntervalDense(5), IntervalReLU(), IntervalDense(10)]
        return IntervalSequential(layers, input_shape=(8, 8, 1))

    search = {"classifier_relus": None, "w_taps": [1, 5]}
    model = hypermodel(search, network=network, kind=Untrained)
    assert model.space["classifier_relus"] == [0, 1, 2]
    tuner = make_tuner(model, tmp_path / "own", trials=2)
    tuner.search(verbose=0)
    (best,) = tuner.get_best_models()
    assert best.network.count_params() == network().count_params()


def test_every_method_has_a_hypermodel():
    classes = [value for value in vars(family).values() if isinstance(value, type)]
    by_method = {cls.method: cls for cls in classes if cls.method}
    assert set(by_method) == set(TUNED)
    with pytest.raises(ValueError, match=r"`methods` must be one of .*Received: methods='sortnet'"):
        CertifiedHyperModel(tiny("ibp"), methods=["sortnet"])
    small = data()
    for method, cls in by_method.items():
        name = METHODS[method].__name__.replace("Model", "HyperModel")
        assert cls.__name__ == name
        built = cls(tiny("ibp"), data=small).build(keras_tuner.HyperParameters())
        assert type(built) is METHODS[method]
    with pytest.raises(ValueError, match="searches 'taps' alone"):
        TAPSHyperModel(tiny(), methods=["ibp"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {"validation": 0.0}, "data": None}, "needs validation images"),
        ({"methods": ["trades"]}, "Received: methods='trades'"),
        ({"objective": "val_loss"}, "`objective` must be one of"),
        ({"objective": "val_certified_accuracy"}, "needs `stages`"),
        ({"objective": "val_scalarised_accuracy"}, "needs `weight`"),
        ({"weight": 2}, "`weight`"),
        ({"stages": ["crowns"]}, "`stages` must be one of"),
        ({"stages": ["ibp"], "certify_count": 0}, "`certify_count`"),
        ({"stages": ["ibp"], "certify_options": {"timeout": -1}}, "`timeout`"),
        ({"evaluation_relus": 7}, "`evaluation_relus`"),
        ({"seed": -1}, "`seed`"),
        # What would make trials fail is refused before the first.
        ({"search": {"w_taps": (-1, 5)}}, "`w_taps`"),
        ({"search": {"tau_ratio": [0.5, 1.5, 1]}, "methods": ["sabr"]}, "`tau_ratio`"),
        ({"search": {"anneal_share": (0.5, 1.2)}}, "final before the last epoch"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        hypermodel(**options)


def test_not_a_recipe():
    with pytest.raises(ValueError, match="`recipe` must be a Recipe"):
        CertifiedHyperModel("mnist-0.1-taps")


@pytest.mark.parametrize(
    "arguments", [{"epochs": 3}, {"batch_size": 4}, {"validation_data": (0, 0)}]
)
def test_search_takes_no_data(tmp_path, arguments):
    """Nor epochs: a trial that cannot train as its recipe says would be a silent change."""
    tuner = make_tuner(hypermodel(), tmp_path / "search", trials=1)
    with pytest.raises(ValueError, match="data belong to the hypermodel"):
        tuner.search(**arguments)
    with pytest.raises(ValueError, match="1 arrays"):
        tuner.search(np.zeros(3))


def test_a_diverged_trial_is_not_tried_again(monkeypatch):
    model = hypermodel()
    hp = at(classifier_relus=0)
    built = model.build(hp)
    history = SimpleNamespace(epoch=[0, 1], history={"loss": [1.0, float("nan")]})
    monkeypatch.setattr(built, "fit", lambda *args, **options: history)
    message = "Training diverged in epoch 2: the loss is nan"
    with pytest.raises(keras_tuner.errors.FailedTrialError, match=message):
        model.fit(hp, built)


def test_a_seed_fixes_a_trial():
    model = hypermodel()
    first, second, other = (
        m.build(at(classifier_relus=1, w_taps=5.0)).network.get_weights()
        for m in (model, model, hypermodel(seed=1))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    keras.utils.set_random_seed(0)
    plain = build_model(model.trial_recipe(at(classifier_relus=1, w_taps=5.0)), 1, 0)
    assert all(
        np.array_equal(a, b) for a, b in zip(first, plain.network.get_weights(), strict=True)
    )

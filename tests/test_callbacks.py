import csv
import math
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.callbacks import (
    BatchNormReestimation,
    BestModel,
    EpsAnneal,
    TAPSEarlyStopping,
    WeightAveraging,
)
from keras_taps.schedules import smooth_eps
from keras_taps.training import IBPModel
from tests.helpers import BACKEND, dense_network, images, numpy

X, Y = images(12, (6,))


def model(optimizer="sgd", **options):
    made = IBPModel(dense_network(), 0.05, 0.1, **options)
    made.compile(optimizer)
    return made


def test_eps_anneal_sets_steps():
    made, callback = model(), EpsAnneal(2, start_epoch=1)
    callback.set_model(made)
    callback.set_params({"steps": 5})
    callback.on_train_begin()
    assert (int(made.anneal_start), int(made.anneal_end)) == (5, 15)


def test_eps_anneal_takes_fractions_and_a_length():
    made, callback = model(), EpsAnneal(0.5, steps_per_epoch=7)
    callback.set_model(made)
    callback.on_train_begin()
    assert (int(made.anneal_start), int(made.anneal_end)) == (0, 4)


@pytest.mark.parametrize("shape", ["smooth", "linear"])
def test_eps_anneal_has_a_shape_that_is_saved(shape, tmp_path):
    made, callback = model(), EpsAnneal(2, start_epoch=1, steps_per_epoch=5, shape=shape)
    callback.set_model(made)
    callback.on_train_begin()
    made.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found = []
    for step in (0, 5, 10, 15, 20):
        loaded.step.assign(step)
        annealing, eps = loaded.scheduled_eps()
        assert bool(annealing) == (step < 15)
        found.append(float(numpy(eps)))
    middle = 0.05 if shape == "linear" else float(numpy(smooth_eps(10, 5, 15, 0.1)))
    assert found == pytest.approx([0, 0, middle, 0.1, 0.1])


def test_eps_anneal_refuses_another_shape():
    with pytest.raises(ValueError, match=r"`shape` must be one of 'smooth', 'linear'.*'cubic'"):
        EpsAnneal(2, shape="cubic")


def test_eps_anneal_needs_the_length_of_the_data():
    callback = EpsAnneal(2)
    callback.set_model(model())
    callback.set_params({"steps": None})
    with pytest.raises(ValueError, match="Give `steps_per_epoch` to EpsAnneal"):
        callback.on_train_begin()


@pytest.mark.parametrize(("epochs", "early"), [(1, True), (2, False)])
def test_eps_anneal_warns_of_a_training_that_ends_before_it(epochs, early):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model().fit(X, Y, batch_size=6, epochs=epochs, callbacks=[EpsAnneal(2)], verbose=0)
    assert any("2 of EpsAnneal" in str(each.message) for each in caught) == early


def test_eps_anneal_needs_a_certified_model():
    callback = EpsAnneal(2)
    callback.set_model(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match=r"certified training model.*Received: Sequential"):
        callback.on_train_begin()


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"epochs": -1}, {"epochs": 1, "start_epoch": -1}]
)
def test_eps_anneal_refuses(options):
    with pytest.raises(ValueError, match=r"must be a number in .*Received"):
        EpsAnneal(**options)


def test_best_model_counts_only_after_annealing(tmp_path):
    made, path = model(), tmp_path / "best.weights.h5"
    callback = BestModel(path)
    callback.set_model(made)
    made.set_annealing(0, 3)
    bias = made.network.layers[-1].bias
    for step, accuracy, value in [
        (2, 0.9, 1.0),
        (3, 0.5, 2.0),
        (4, 0.6, 2.5),
        (4, 0.6, 3.0),
        (5, 0.55, 4.0),
    ]:
        made.step.assign(step)
        bias.assign(np.full(3, value))
        callback.on_epoch_end(step, {"val_taps_accuracy": accuracy})
        assert path.exists() == (step >= 3)
    made.load_weights(path)
    assert numpy(bias).tolist() == [3.0] * 3


@pytest.mark.parametrize("old", [False, True])
def test_best_model_warns_when_no_epoch_counted(tmp_path, old):
    path = tmp_path / "best.keras"
    if old:
        path.write_text("of another training")
    made = model()
    made.compile("sgd")
    data = {"x": X, "y": Y, "batch_size": 6, "validation_data": (X, Y), "verbose": 0}
    end = "of another training. Train longer" if old else "`train_eps`. Train longer"
    with pytest.warns(UserWarning, match=end):
        made.fit(**data, callbacks=[EpsAnneal(epochs=3), BestModel(path)])
    assert path.exists() == old
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        made.fit(**data, callbacks=[BestModel(path, best=1.0)])  # of the run that is resumed


def test_best_model_needs_validation(tmp_path):
    callback = BestModel(tmp_path / "best.keras")
    callback.set_model(model())
    with pytest.raises(ValueError, match="give `validation_data` to fit"):
        callback.on_epoch_end(0, {"loss": 1.0})


def test_best_model_refuses_other_endings():
    with pytest.raises(ValueError, match=r"`filepath` must end in .*Received: 'best.h5'"):
        BestModel("best.h5")


def test_best_model_keeps_the_averaged_weights(tmp_path):
    """Those that SwapEMAWeights validates; training continues with its own."""
    made = model()
    made.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5))
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_test_begin=lambda logs: seen.append(numpy(made.network.layers[0].kernel).copy()),
        on_epoch_end=lambda epoch, logs: seen.append(numpy(made.network.layers[0].kernel).copy()),
    )
    best = BestModel(tmp_path / "best.keras", averaged=True)
    callbacks = [keras.callbacks.SwapEMAWeights(), best, look]
    made.fit(X, Y, batch_size=6, validation_data=(X, Y), callbacks=callbacks, verbose=0)
    validated, trained = seen[0], seen[-1]
    assert np.abs(validated - trained).max() > 1e-3
    kept = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_allclose(numpy(kept.network.layers[0].kernel), validated, atol=1e-6)


AVERAGING = {"batch_size": 6, "shuffle": False, "verbose": 0}


def test_weights_are_averaged_over_the_last_epochs(tmp_path):
    """By hand; what is validated is kept, and training goes on with its own weights."""
    made = model(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=1.0))
    kernel = made.trainable_variables[0]
    validated, trained = [], []
    look = keras.callbacks.LambdaCallback(
        on_test_begin=lambda logs: validated.append(numpy(kernel).copy()),
        on_epoch_end=lambda epoch, logs: trained.append(numpy(kernel).copy()),
    )
    best = BestModel(tmp_path / "best.keras", monitor="epoch", averaged=True)
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(epoch=epoch))
    callbacks = [WeightAveraging(1), look, keep, best]
    made.fit(X, Y, epochs=4, validation_data=(X, Y), callbacks=callbacks, **AVERAGING)
    means = [trained[0], *(np.mean(trained[1:end], axis=0) for end in (2, 3, 4))]
    np.testing.assert_allclose(validated, means, atol=1e-6)
    assert np.abs(validated[-1] - trained[-1]).max() > 1e-3
    kept = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_allclose(numpy(kept.trainable_variables[0]), means[-1], atol=1e-6)


@pytest.mark.once
def test_an_average_goes_on_where_it_is_resumed(tmp_path):
    """The optimizer brings it along; Keras leaves it in the model when training ends."""
    ends = []
    for stops in ((4,), (3, 4)):
        made, seen = model(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=1.0)), 0
        for stop in stops:
            save = keras.callbacks.ModelCheckpoint(str(tmp_path / "last.keras"))
            epochs = {"initial_epoch": seen, "epochs": stop}
            made.fit(X, Y, callbacks=[WeightAveraging(1), save], **epochs, **AVERAGING)
            ends.append(numpy(made.trainable_variables[0]))
            made, seen = keras.saving.load_model(tmp_path / "last.keras"), stop
    np.testing.assert_allclose(ends[2], ends[0], atol=1e-6)
    assert np.abs(ends[1] - ends[0]).max() > 1e-3


def test_averaging_needs_an_optimizer_with_an_average():
    made = model()
    made.compile(keras.optimizers.SGD(0.5, use_ema=True))
    with pytest.raises(ValueError, match=r"ema_momentum=1.0\), .*Received: .*ema_momentum=0.99"):
        made.fit(X, Y, callbacks=[WeightAveraging(1)], verbose=0)


def test_early_stopping_waits_for_the_final_radius():
    made = model()
    callback = TAPSEarlyStopping(patience=2)
    callback.set_model(made)
    made.set_annealing(0, 3)
    made.stop_training = False
    values = [(1, 0.9), (2, 0.8), (3, 0.5), (4, 0.6), (5, 0.6), (6, 0.55)]
    for step, accuracy in values:
        made.step.assign(step)
        assert not made.stop_training
        callback.on_epoch_end(step, {"val_taps_accuracy": accuracy})
    assert made.stop_training
    assert callback.finished
    resumed = TAPSEarlyStopping(patience=2, past=[0.5, 0.6, 0.6])
    assert (resumed.best, resumed.waited, resumed.finished) == (0.6, 1, False)


@pytest.mark.parametrize("patience", [0, -1, 1.5])
def test_early_stopping_refuses(patience):
    with pytest.raises(ValueError, match="`patience` must be a whole number >= 1"):
        TAPSEarlyStopping(patience)


@pytest.mark.parametrize("validate", [True, False])
def test_batch_norm_reestimation(validate):
    """The moments of one pass over everything, taken before the validation of the epoch."""
    network = dense_network(batch_norm=True)
    norm = network.batch_norms[0]
    made = IBPModel(network, 0.05)
    made.compile(keras.optimizers.SGD(0.1))
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_test_begin=lambda logs: seen.append(numpy(network.batch_norms[0].moving_mean).copy())
    )
    made.fit(
        X,
        Y,
        batch_size=6,
        validation_data=(X, Y) if validate else None,
        callbacks=[BatchNormReestimation([(X[:8], None), (X[8:], None)]), look],
        verbose=0,
    )
    first = network.layers[0](ops.convert_to_tensor(X))
    np.testing.assert_allclose(numpy(norm.moving_mean), numpy(first).mean(0), atol=1e-5)
    np.testing.assert_allclose(numpy(norm.moving_variance), numpy(first).var(0), atol=1e-5)
    if validate:
        np.testing.assert_array_equal(seen[0], numpy(norm.moving_mean))


def test_batch_norm_reestimation_needs_batches():
    made = IBPModel(dense_network(batch_norm=True), 0.05)
    made.compile("sgd")
    with pytest.raises(ValueError, match="`data` must yield batches"):
        made.fit(X, Y, callbacks=[BatchNormReestimation([])], verbose=0)


def test_keras_callbacks(tmp_path):
    """Checkpoint, backup, logs: all in one run."""
    made = model()
    callbacks = [
        EpsAnneal(1),
        BestModel(tmp_path / "best.keras"),
        keras.callbacks.ModelCheckpoint(tmp_path / "last.keras"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TerminateOnNaN(),
    ]
    if BACKEND == "tensorflow":
        callbacks.append(keras.callbacks.TensorBoard(tmp_path / "board"))
    history = made.fit(
        X, Y, batch_size=6, epochs=2, validation_data=(X, Y), callbacks=callbacks, verbose=0
    )
    assert len(history.history["loss"]) == 2
    last = keras.saving.load_model(tmp_path / "last.keras")
    assert int(last.step) == int(made.step) == 4
    assert (tmp_path / "best.keras").exists()
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [float(row["eps"]) for row in rows] == pytest.approx(history.history["eps"])
    # A second run with the same backup has nothing left to do.
    again = model()
    again.fit(X, Y, batch_size=6, epochs=2, callbacks=callbacks[3:4], verbose=0)
    assert int(again.step) == 4
    np.testing.assert_array_equal(
        numpy(again.network.layers[-1].bias), numpy(made.network.layers[-1].bias)
    )


def test_training_ends_on_nan():
    """Pixels out of range in a plain generator, which nobody can look at beforehand."""

    def batches():
        while True:
            yield 2 * X, Y

    history = model().fit(
        batches(),
        steps_per_epoch=3,
        epochs=2,
        callbacks=[keras.callbacks.TerminateOnNaN()],
        verbose=0,
    )
    assert len(history.history["loss"]) <= 1
    assert all(math.isnan(loss) for loss in history.history["loss"])


def test_schedule_survives_gradient_accumulation_and_grouped_steps():
    """Property 10: steps are batches, however the optimizer and the trainer group them."""
    made = IBPModel(dense_network(), 0.05, 0.1)
    grouped = {} if BACKEND == "torch" else {"steps_per_execution": 2}
    made.compile(keras.optimizers.Adam(1e-3, gradient_accumulation_steps=2), **grouped)
    history = made.fit(X, Y, batch_size=3, epochs=2, callbacks=[EpsAnneal(1)], verbose=0)
    assert int(made.step) == 8
    assert history.history["eps"][1] == pytest.approx(0.1)
    assert 0 < history.history["eps"][0] < 0.1

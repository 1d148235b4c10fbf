"""A run folder holds a whole run, and a run that was stopped ends like one that was not."""

import json
import shutil

import keras
import numpy as np
import pytest

from keras_taps.experiments.build import build_model
from keras_taps.experiments.recipes import recipe
from keras_taps.experiments.run import Run, TrainingDiverged, load_model

LIMIT = 96
FILES = ("best", "last")
RECIPE = recipe("digits-0.1-taps", width=2, epochs=4, anneal_epochs=1.5, decay_epochs=(2, 3),
                attack_steps=2)  # fmt: skip


class _StopAfter(keras.callbacks.Callback):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.now = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("runs") / "whole", RECIPE, seed=3, limit=LIMIT)
    run.train()
    run.evaluate()
    return run


def test_the_folder_holds_the_run(whole):
    names = {path.name for path in whole.folder.iterdir()}
    assert names == {
        "config.json",
        "history.csv",
        "last.keras",
        "best.keras",
        "metrics.json",
        "curves.png",
        ".lock",
    }
    config = json.loads(whole.path("config.json").read_text())
    assert config["seed"] == 3
    assert config["backend"] == keras.config.backend()
    assert config["versions"]["keras"] == keras.__version__
    assert Run.open(whole.folder) == whole
    history = whole.history()
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert "taps_accuracy" not in history[0] or np.isnan(history[0]["taps_accuracy"])
    assert history[-1]["eps"] == pytest.approx(0.1)
    metrics = json.loads(whole.path("metrics.json").read_text())
    assert metrics["count"] == LIMIT
    assert metrics["ibp_certified_accuracy"] <= metrics["pgd_accuracy"]
    assert metrics["pgd_accuracy"] <= metrics["natural_accuracy"]


def test_a_stopped_run_resumes_to_the_same_numbers(whole, tmp_path):
    """Property 10 of SPEC section 8, through the run folder: bit for bit."""
    run = Run.create(tmp_path / "stopped", RECIPE, seed=3, limit=LIMIT)
    with pytest.raises(KeyboardInterrupt):
        run.train([_StopAfter(2)])
    assert len(run.history()) == 2
    Run.open(run.folder).train()
    assert _equal_with_nan(_figures(run), _figures(whole))
    for name in ("last.keras", "best.keras"):
        ours, theirs = (load_model(r.path(name)).get_weights() for r in (run, whole))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.once
def test_averaged_and_smoothed_runs_resume(tmp_path):
    """Bit for bit; the epoch that is kept has the averaged weights, and the recipe is saved."""
    noise = {"smoothing_std": 0.01, "smoothing_samples": 2, "robust_weight": 0.9}
    changed = RECIPE.changed(method="ibp", swa_start=2, **noise)
    assert changed.scaled(8).swa_start == 4
    whole, run = (Run.create(tmp_path / name, changed, limit=LIMIT) for name in ("whole", "run"))
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        run.train([_StopAfter(3)])
    Run.open(run.folder).train()
    assert _equal_with_nan(_figures(run), _figures(whole))
    models = [load_model(each.path(f"{name}.keras")) for each in (run, whole) for name in FILES]
    best, last, *theirs = models
    for ours, other in zip((best, last), theirs, strict=True):
        assert (ours.robust_weight, ours.smoothing_std) == (0.9, 0.01)
        for a, b in zip(ours.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    shares = best.evaluate(*whole.data.validation, verbose=0, return_dict=True)
    rows = [row["val_taps_accuracy"] for row in whole.history()[1:]]
    assert shares["taps_accuracy"] == pytest.approx(max(rows))


@pytest.mark.once
def test_stages_in_one_folder_resume_from_wherever_they_stop(tmp_path):
    """Stopped where a stage has begun and in its middle, the run still ends as another does."""
    changed = recipe("digits-0.1-colt", width=1, attack_steps=1, anneal_epochs=1, validation=0.3)
    changed = changed.scaled(2).changed(anneal_epochs=1, decay_epochs=(1,))
    whole, run = (Run.create(tmp_path / name, changed, limit=LIMIT) for name in ("whole", "run"))
    whole.train()
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            Run.open(run.folder).train([_StopAfter(epoch)])
        assert load_model(run.path("last.keras")).stage == epoch - 2
    Run.open(run.folder).train()
    assert _equal_with_nan(_figures(run), _figures(whole))
    assert [row["epoch"] for row in run.history()] == [1, 2, 3, 4]
    assert [row["eps"] for row in run.history()] == pytest.approx([0.126, 0.126, 0.105, 0.105])
    model, other = (load_model(each.path("last.keras")) for each in (run, whole))
    assert (model.stage, int(model.step)) == (1, 4 * -(-LIMIT // 64))
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert run.load_best().stage == 1  # epochs of earlier stages cannot be the best


def _figures(run):
    """The history without what a clock says."""
    history = run.history()
    assert all(row.pop("seconds") > 0 for row in history)
    return history


def _equal_with_nan(a, b):
    return all(
        row.keys() == other.keys()
        and np.array_equal(list(row.values()), list(other.values()), equal_nan=True)
        for row, other in zip(a, b, strict=True)
    )


def test_a_finished_run_trains_no_more(whole):
    before = whole.path("last.keras").stat().st_mtime_ns
    whole.train()
    assert whole.path("last.keras").stat().st_mtime_ns == before


def test_an_existing_folder_is_refused(whole):
    with pytest.raises(FileExistsError, match="--resume"):
        Run.create(whole.folder, RECIPE)


def test_no_run_and_damaged_files_are_named(whole, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        Run.open(tmp_path)
    damaged = tmp_path / "damaged"
    shutil.copytree(whole.folder, damaged)
    (damaged / "last.keras").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="damaged"):
        Run.open(damaged)._checkpoint(1)
    (damaged / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not the config"):
        Run.open(damaged)


@pytest.mark.once
def test_early_stopping_averages_and_statistics_resume(tmp_path):
    """With everything on, a stopped run still ends like one that was not."""
    changed = RECIPE.changed(
        network="resnet",
        classifier_relus=1,
        method="sabr",
        pgd_steps=1,
        ema_momentum=0.9,
        early_stopping=1,
        bn_reestimation=True,
        epochs=6,
    )
    whole = Run.create(tmp_path / "whole", changed, limit=64)
    whole.train()
    assert len(whole.history()) < 6  # stopped early
    stopped = Run.create(tmp_path / "stopped", changed, limit=64)
    with pytest.raises(KeyboardInterrupt):
        stopped.train([_StopAfter(len(whole.history()) - 1)])
    stopped = Run.open(stopped.folder)
    stopped.train()
    for row, other in zip(_figures(stopped), _figures(whole), strict=True):
        assert row == pytest.approx(other, rel=1e-3, nan_ok=True)
    # What the networks compute, for a bias before a batch normalisation has no gradient but the
    # rounding of sums whose order threads choose, and Adam makes steps of any gradient.
    images, _ = whole.data.test
    ours, theirs = (load_model(run.best_path()).predict(images) for run in (stopped, whole))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    stopped.train()  # finished: nothing more happens
    assert len(stopped.history()) == len(whole.history())


@pytest.mark.once
def test_a_diverged_run_keeps_what_was_good(tmp_path):
    """No NaN in a checkpoint, no figures of it; resumed, it continues from the epoch before."""
    run = Run.create(tmp_path / "run", RECIPE.changed(method="ibp", epochs=2), limit=64)
    run.train()
    good = load_model(run.path("last.keras")).get_weights()
    diverging = json.loads(run.path("config.json").read_text())
    diverging["recipe"]["epochs"] = 3
    run.path("config.json").write_text(json.dumps(diverging))

    class Poison(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            bias = self.model.network.layers[-1].bias
            bias.assign(np.full(bias.shape, np.inf))

    with pytest.raises(TrainingDiverged, match=r"epoch 3.*those of the epoch before"):
        Run.open(run.folder).train([Poison()])
    assert len(run.history()) == 2
    for a, b in zip(load_model(run.path("last.keras")).get_weights(), good, strict=True):
        np.testing.assert_array_equal(a, b)


def test_resume_stays_on_its_backend(whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "backend": "other"}))
    with pytest.raises(ValueError, match="begun on other and resumes only there"):
        Run.open(folder).train()


def test_the_best_epoch_of_uncertified_training(tmp_path):
    """Its TAPS accuracy is 0 for ever, so natural accuracy chooses."""
    chosen = recipe("digits-0.1-standard", width=2, epochs=3, anneal_epochs=0, decay_epochs=())
    run = Run.create(tmp_path / "run", chosen, limit=64)
    run.train()
    best = max(row["val_natural_accuracy"] for row in run.history())
    images, labels = run.data.validation
    found = load_model(run.best_path()).evaluate(images, labels, verbose=0, return_dict=True)
    assert found["natural_accuracy"] == pytest.approx(best)


def test_a_recipe_that_cannot_be_built_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="`tau_ratio` must be"):
        Run.create(tmp_path / "run", recipe("digits-0.1-sabr", tau_ratio=2))
    with pytest.raises(ValueError, match="`network_options` does not fit cnn3"):
        Run.create(tmp_path / "run", recipe("digits-0.1-sabr", network_options={"depth": 2}))
    assert not (tmp_path / "run").exists()


@pytest.mark.once
def test_a_run_with_a_teacher(tmp_path, monkeypatch):
    """Its file is found from any folder as long as the run has not begun, then it is in the run."""
    changed = recipe("digits-0.1-mtl-ibp", width=1, epochs=1, anneal_epochs=0, decay_epochs=())
    build_model(changed, 1, 0).save(tmp_path / "teacher.keras")
    monkeypatch.chdir(tmp_path)
    run = Run.create(tmp_path / "run", changed.changed(teacher="teacher.keras"), limit=64)
    monkeypatch.chdir("/")
    Run.open(run.folder).train()
    (tmp_path / "teacher.keras").unlink()
    assert load_model(run.path("last.keras")).teacher.num_classes == 10


@pytest.mark.once
def test_a_run_on_images_of_the_user(tmp_path, monkeypatch):
    """The file is found from any folder, and the history has one format after a resume."""
    random = np.random.default_rng(0)
    x, y = random.random((24, 8, 8, 1), "float32"), np.arange(24) % 3
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x[:6], y_test=y[:6])
    monkeypatch.chdir(tmp_path)
    chosen = recipe("digits-0.1-ibp", dataset="own.npz", width=1, epochs=2, anneal_epochs=1)
    run = Run.create(tmp_path / "run", chosen, seed=0)
    with pytest.raises(KeyboardInterrupt):
        run.train([_StopAfter(1)])
    monkeypatch.chdir("/")
    run = Run.open(run.folder)
    run.train()
    assert run.evaluate()["count"] == 6
    lines = run.path("history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2"]

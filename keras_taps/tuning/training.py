"""The training of one trial, as its recipe says, and its figures on validation images."""

import time

import keras
import numpy as np

from keras_taps.datasets import Batches
from keras_taps.experiments.build import training_callbacks
from keras_taps.experiments.diverged import TrainingDiverged
from keras_taps.files import write_csv
from keras_taps.training import IBPModel
from keras_taps.tuning.front import ESTIMATED, NATURAL

MEASURED = (NATURAL, "val_ibp_certified_accuracy", ESTIMATED)  # of every trial


def train(model, recipe, data, seed, initial_epoch, callbacks, folder=None):
    """Train a compiled model and return the seconds that it took.

    Args:
        model: `CertifiedModel`.
        recipe: `Recipe` of the trial.
        data: `Dataset` with validation images.
        seed: Whole number that decides the order of the images.
        initial_epoch: Epoch to begin with.
        callbacks: List of Keras callbacks, beside those of the recipe.
        folder: Path for `history.csv`, or `None`.

    Raises:
        TrainingDiverged: If the loss is no longer a number.
    """
    began = time.perf_counter()
    history = model.fit(
        data.train_batches(recipe.batch_size, seed, initial_epoch, recipe.augment),
        epochs=recipe.epochs,
        initial_epoch=initial_epoch,
        validation_data=Batches(*data.validation, recipe.batch_size, shuffle=False),
        callbacks=[
            *training_callbacks(recipe, data),
            *callbacks,
            keras.callbacks.TerminateOnNaN(),
        ],
        verbose=0,
    )
    seconds = time.perf_counter() - began
    rows = [
        {"epoch": epoch + 1, **{name: float(v[i]) for name, v in history.history.items()}}
        for i, epoch in enumerate(history.epoch)
    ]
    if folder:
        write_csv(folder / "history.csv", rows)
    if not np.isfinite(rows[-1]["loss"]):
        raise TrainingDiverged(
            f"Training diverged in epoch {rows[-1]['epoch']}: the loss is {rows[-1]['loss']}."
        )
    return seconds


def measure(model, recipe, data, relus):
    """Dictionary of `MEASURED`, at the same split `relus` for all trials."""
    if model.classifier_relus != relus:
        model = IBPModel(model.network, recipe.eps, classifier_relus=relus, domain=recipe.domain)
        model.compile()
    x, y = data.validation
    shares = model.evaluate(x, y, batch_size=recipe.batch_size, verbose=0, return_dict=True)
    return {name: shares[name.removeprefix("val_")] for name in MEASURED}

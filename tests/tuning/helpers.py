"""Searches that take a second: a tiny network on a few digits, or no training at all."""

import math

from keras_taps import datasets
from keras_taps.experiments.recipes import recipe
from keras_taps.tuning import CertifiedHyperModel

LIMIT = 64
TINY = {
    "width": 1,
    "epochs": 2,
    "anneal_epochs": 0.5,
    "decay_epochs": (1.5,),
    "batch_size": 32,
    "learning_rate": 1e-2,
}
SEARCH = {"classifier_relus": [0, 1], "w_taps": (1, 10)}


def tiny(method="taps", **changes):
    """A recipe that trains in a second."""
    latent = {"attack_steps": 1} if method in ("taps", "staps") else {}
    return recipe(f"digits-0.1-{method}", **{**TINY, **latent, **changes})


def data(seed=0):
    return datasets.load("digits", seed=seed).limited(LIMIT)


def hypermodel(search=SEARCH, method="taps", changes=None, kind=CertifiedHyperModel, **options):
    """A hypermodel of `tiny`."""
    options.setdefault("data", data())
    return kind(tiny(method, **(changes or {})), search, **options)


class Untrained(CertifiedHyperModel):
    """Its trials end at once, with figures made of their values: for what tuners do with them.

    Its `callbacks` are functions of the model.
    """

    def _train_and_measure(self, recipe, model, folder, callbacks, initial_epoch):
        for callback in self.callbacks:
            callback(model)
        (saver,) = (c for c in callbacks if type(c).__name__ == "SaveBestEpoch")
        model.save_weights(saver.filepath)
        robust = 0.9 - 0.1 * abs(math.log(recipe.options.get("w_taps", 5.0) / 4))
        robust -= 0.1 * (recipe.classifier_relus == 0)
        figures = {"val_natural_accuracy": 1 - robust / 2, "val_taps_accuracy": robust}
        figures |= {"val_certified_accuracy": robust - 0.1} if self.stages else {}
        return {**figures, "train_seconds": 1.0, "certify_seconds": 0.0}

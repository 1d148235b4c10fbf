"""Certified training of Keras image classifiers by TAPS and its family, on any Keras backend.

Names are imported when they are first asked for: `import keras_taps` does not wait for Keras.
"""

# ruff: noqa: F401 - type checkers read the imports, `__all__` is made of the tables

from importlib import import_module
from typing import TYPE_CHECKING

from keras_taps.saved import CLASSES, announce
from keras_taps.version import __version__

if TYPE_CHECKING:  # for editors and type checkers alone
    from keras_taps import (
        attacks,
        bounds,
        datasets,
        layers,
        networks,
        objectives,
        plots,
        reproduction,
        training,
        tuning,
        verification,
    )
    from keras_taps.attacks import adversarial_accuracy, pgd_attack
    from keras_taps.bounds import crown_ibp_margins, ibp_margins
    from keras_taps.callbacks import (
        BatchNormReestimation,
        BestModel,
        EpsAnneal,
        TAPSEarlyStopping,
        WeightAveraging,
    )
    from keras_taps.experiments import recipes
    from keras_taps.interval import Interval, input_box
    from keras_taps.layers import Pass
    from keras_taps.networks import IBPInitializer, IntervalSequential
    from keras_taps.networks.convert import convert
    from keras_taps.training import (
        AdversarialModel,
        CCIBPModel,
        CertifiedModel,
        COLTModel,
        ConvexModel,
        CrownIBPModel,
        DiffAIModel,
        DistanceNetModel,
        ExpIBPModel,
        IBPModel,
        IBPRModel,
        MTLIBPModel,
        SABRModel,
        StandardModel,
        STAPSModel,
        TAPSModel,
    )
    from keras_taps.verification import Certifier, certify
    from keras_taps.verification.bridges.own import register_layer

_MODULES = {
    "attacks": "keras_taps.attacks",
    "bounds": "keras_taps.bounds",
    "datasets": "keras_taps.datasets",
    "layers": "keras_taps.layers",
    "networks": "keras_taps.networks",
    "objectives": "keras_taps.objectives",
    "plots": "keras_taps.plots",
    "recipes": "keras_taps.experiments.recipes",
    "reproduction": "keras_taps.reproduction",
    "training": "keras_taps.training",
    "tuning": "keras_taps.tuning",
    "verification": "keras_taps.verification",
}
_NAMES = {
    "keras_taps.attacks": ("adversarial_accuracy", "pgd_attack"),
    "keras_taps.bounds": ("crown_ibp_margins", "ibp_margins"),
    "keras_taps.callbacks": (
        "BatchNormReestimation",
        "BestModel",
        "EpsAnneal",
        "TAPSEarlyStopping",
        "WeightAveraging",
    ),
    "keras_taps.interval": ("Interval", "input_box"),
    "keras_taps.layers": ("Pass",),
    "keras_taps.networks": ("IBPInitializer", "IntervalSequential"),
    "keras_taps.networks.convert": ("convert",),
    "keras_taps.training": ("CertifiedModel", *CLASSES["keras_taps.training"]),
    "keras_taps.verification": ("Certifier", "certify"),
    "keras_taps.verification.bridges.own": ("register_layer",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(["__version__", *_MODULES, *_HOMES])

if not TYPE_CHECKING:  # for a type checker this function would mean that every name exists

    def __getattr__(name):
        if name in _MODULES:
            value = import_module(_MODULES[name])
        elif name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value  # so that the next access does not come here
        return value


def __dir__():
    return sorted({*globals(), *__all__})


announce()

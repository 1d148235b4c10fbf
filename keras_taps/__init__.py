"""Certified training of Keras image classifiers by TAPS and its family, on any Keras backend."""

from keras_taps import (
    attacks,
    bounds,
    datasets,
    layers,
    networks,
    objectives,
    plots,
    training,
    verification,
)
from keras_taps.attacks import adversarial_accuracy, pgd_attack
from keras_taps.bounds import crown_ibp_margins, ibp_margins
from keras_taps.callbacks import BatchNormReestimation, BestModel, EpsAnneal, TAPSEarlyStopping
from keras_taps.experiments import recipes
from keras_taps.interval import Interval, input_box
from keras_taps.layers import BatchStatistics
from keras_taps.networks import IBPInitializer, IntervalSequential, convert
from keras_taps.training import (
    AdversarialModel,
    CCIBPModel,
    CertifiedModel,
    CrownIBPModel,
    ExpIBPModel,
    IBPModel,
    MTLIBPModel,
    SABRModel,
    StandardModel,
    STAPSModel,
    TAPSModel,
)
from keras_taps.verification import certify
from keras_taps.version import __version__

__all__ = [
    "AdversarialModel",
    "BatchNormReestimation",
    "BatchStatistics",
    "BestModel",
    "CCIBPModel",
    "CertifiedModel",
    "CrownIBPModel",
    "EpsAnneal",
    "ExpIBPModel",
    "IBPInitializer",
    "IBPModel",
    "Interval",
    "IntervalSequential",
    "MTLIBPModel",
    "SABRModel",
    "STAPSModel",
    "StandardModel",
    "TAPSEarlyStopping",
    "TAPSModel",
    "__version__",
    "adversarial_accuracy",
    "attacks",
    "bounds",
    "certify",
    "convert",
    "crown_ibp_margins",
    "datasets",
    "ibp_margins",
    "input_box",
    "layers",
    "networks",
    "objectives",
    "pgd_attack",
    "plots",
    "recipes",
    "training",
    "verification",
]

"""KerasTuner hypermodels of certified training, and the front of natural and certified accuracy."""

from keras_taps.tuning.family import (
    AdversarialHyperModel,
    CCIBPHyperModel,
    ConvexHyperModel,
    CrownIBPHyperModel,
    DiffAIHyperModel,
    ExpIBPHyperModel,
    IBPHyperModel,
    IBPRHyperModel,
    MTLIBPHyperModel,
    SABRHyperModel,
    StandardHyperModel,
    STAPSHyperModel,
    TAPSHyperModel,
)
from keras_taps.tuning.front import ParetoFront, dominated, hypervolume, scalarise
from keras_taps.tuning.hypermodel import CertifiedHyperModel
from keras_taps.tuning.space import Range
from keras_taps.tuning.study import Study
from keras_taps.tuning.trials import read_trials
from keras_taps.tuning.tuners import GridOracle, make_tuner
from keras_taps.tuning.workers import search_with_workers

__all__ = [
    "AdversarialHyperModel",
    "CCIBPHyperModel",
    "CertifiedHyperModel",
    "ConvexHyperModel",
    "CrownIBPHyperModel",
    "DiffAIHyperModel",
    "ExpIBPHyperModel",
    "GridOracle",
    "IBPHyperModel",
    "IBPRHyperModel",
    "MTLIBPHyperModel",
    "ParetoFront",
    "Range",
    "SABRHyperModel",
    "STAPSHyperModel",
    "StandardHyperModel",
    "Study",
    "TAPSHyperModel",
    "dominated",
    "hypervolume",
    "make_tuner",
    "read_trials",
    "scalarise",
    "search_with_workers",
]

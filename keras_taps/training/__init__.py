"""Certified training: a base class and one file a method."""

from keras_taps.training.certified_model import CertifiedModel, Outcome
from keras_taps.training.ibp import IBPModel
from keras_taps.training.taps import TAPSModel

__all__ = ["CertifiedModel", "IBPModel", "Outcome", "TAPSModel"]

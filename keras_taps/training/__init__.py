"""Certified training: a base class, three regions, and one file a method."""

from keras_taps.training.adversarial import AdversarialModel
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.cc_ibp import CCIBPModel
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.training.colt import COLTModel
from keras_taps.training.convex import ConvexModel
from keras_taps.training.crown_ibp import CrownIBPModel
from keras_taps.training.diffai import DiffAIModel
from keras_taps.training.distance import DistanceNetModel
from keras_taps.training.exp_ibp import ExpIBPModel
from keras_taps.training.ibp import IBPModel
from keras_taps.training.ibp_r import IBPRModel
from keras_taps.training.mtl_ibp import MTLIBPModel
from keras_taps.training.sabr import SABRModel
from keras_taps.training.standard import StandardModel
from keras_taps.training.staps import STAPSModel
from keras_taps.training.taps import TAPSModel

METHODS: dict[str, type[CertifiedModel]] = {
    "standard": StandardModel,
    "pgd": AdversarialModel,
    "ibp": IBPModel,
    "crown-ibp": CrownIBPModel,
    "convex": ConvexModel,
    "diffai": DiffAIModel,
    "sabr": SABRModel,
    "taps": TAPSModel,
    "staps": STAPSModel,
    "cc-ibp": CCIBPModel,
    "mtl-ibp": MTLIBPModel,
    "exp-ibp": ExpIBPModel,
    "ibp-r": IBPRModel,
    "colt": COLTModel,
    "sortnet": DistanceNetModel,
}

__all__ = [
    "METHODS",
    "AdversarialModel",
    "Batch",
    "CCIBPModel",
    "COLTModel",
    "CertifiedModel",
    "ConvexModel",
    "CrownIBPModel",
    "DiffAIModel",
    "DistanceNetModel",
    "ExpIBPModel",
    "IBPModel",
    "IBPRModel",
    "MTLIBPModel",
    "Outcome",
    "SABRModel",
    "STAPSModel",
    "StandardModel",
    "TAPSModel",
]

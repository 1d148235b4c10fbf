"""Bounds on margins: elision of the last layer, interval bound propagation, linear relaxation."""

from keras_taps.bounds.crown import LinearRelaxation, crown_ibp_margins
from keras_taps.bounds.fixed_slopes import fixed_slope_margins
from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import certified, cross_entropy, margin_rows, wrong_classes

__all__ = [
    "LinearRelaxation",
    "certified",
    "cross_entropy",
    "crown_ibp_margins",
    "fixed_slope_margins",
    "ibp_margins",
    "margin_rows",
    "wrong_classes",
]

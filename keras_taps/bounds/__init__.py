"""Bounds on margins: elision of the last layer, interval bound propagation, linear relaxation."""

from keras_taps.bounds.crown import LinearRelaxation, crown_ibp_margins
from keras_taps.bounds.fixed_slopes import fixed_slope_margins
from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import certified, cross_entropy, margin_rows, wrong_classes
from keras_taps.bounds.zonotope import zonotope_margins

__all__ = [
    "LinearRelaxation",
    "certified",
    "cross_entropy",
    "crown_ibp_margins",
    "fixed_slope_margins",
    "ibp_margins",
    "margin_rows",
    "wrong_classes",
    "zonotope_margins",
]

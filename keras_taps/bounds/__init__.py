"""Bounds on margins: elision of the last layer and interval bound propagation."""

from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import certified, margin_rows, wrong_classes

__all__ = ["certified", "ibp_margins", "margin_rows", "wrong_classes"]

"""Tables and figures of the paper: what each trains and measures, beside the paper's numbers."""

from keras_taps.reproduction.records import reproduce
from keras_taps.reproduction.scale import SCALES, Scale
from keras_taps.reproduction.targets import TARGETS, Row, Target
from keras_taps.reproduction.workshop import Workshop

__all__ = ["SCALES", "TARGETS", "Row", "Scale", "Target", "Workshop", "reproduce"]

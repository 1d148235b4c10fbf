"""What is minimised: regions, the connector, the product of losses, the regularisers."""

from keras_taps.objectives.connector import connect, connector_weights
from keras_taps.objectives.l1 import l1_penalty
from keras_taps.objectives.product import product_loss
from keras_taps.objectives.regions import inclusion_box, small_box
from keras_taps.objectives.stability import instability
from keras_taps.objectives.warmup import warmup_regulariser

__all__ = [
    "connect",
    "connector_weights",
    "inclusion_box",
    "instability",
    "l1_penalty",
    "product_loss",
    "small_box",
    "warmup_regulariser",
]

"""Networks: the sequence of interval layers, the paper's architectures, conversion from Keras."""

from keras_taps.networks.cnn import cnn3, cnn5, cnn7
from keras_taps.networks.conv_med import conv_med, conv_med_big
from keras_taps.networks.convert import convert
from keras_taps.networks.distance import distance_net, sortnet_mlp
from keras_taps.networks.initializer import FanInUniform, IBPInitializer, PassOnInitializer
from keras_taps.networks.mlp import mlp
from keras_taps.networks.resnet import resnet
from keras_taps.networks.segment import CleanPass, Segment
from keras_taps.networks.sequential import IntervalSequential

__all__ = [
    "CleanPass",
    "FanInUniform",
    "IBPInitializer",
    "IntervalSequential",
    "PassOnInitializer",
    "Segment",
    "cnn3",
    "cnn5",
    "cnn7",
    "conv_med",
    "conv_med_big",
    "convert",
    "distance_net",
    "mlp",
    "resnet",
    "sortnet_mlp",
]

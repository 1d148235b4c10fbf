"""Interval layers, one for each stock layer that certified training knows how to bound."""

from keras_taps.layers.activations import (
    IntervalActivation,
    IntervalELU,
    IntervalLeakyReLU,
    IntervalReLU,
)
from keras_taps.layers.batch_normalization import IntervalBatchNormalization
from keras_taps.layers.conv2d import IntervalConv2D, IntervalDepthwiseConv2D
from keras_taps.layers.dense import IntervalDense, IntervalEqualizedDense
from keras_taps.layers.distance import IntervalDistance, Relaxation
from keras_taps.layers.normalization import IntervalNormalization, IntervalRescaling
from keras_taps.layers.own import IntervalOwn
from keras_taps.layers.passes import Pass
from keras_taps.layers.pooling import (
    IntervalAveragePooling2D,
    IntervalGlobalAveragePooling2D,
    IntervalGlobalMaxPooling2D,
    IntervalMaxPooling2D,
)
from keras_taps.layers.residual import IntervalAdd, IntervalResidual
from keras_taps.layers.scale import IntervalScale
from keras_taps.layers.shaping import (
    IntervalCropping2D,
    IntervalDropout,
    IntervalFlatten,
    IntervalPermute,
    IntervalRepeatVector,
    IntervalReshape,
    IntervalTrainingOnly,
    IntervalUpSampling2D,
    IntervalZeroPadding2D,
)

__all__ = [
    "IntervalActivation",
    "IntervalAdd",
    "IntervalAveragePooling2D",
    "IntervalBatchNormalization",
    "IntervalConv2D",
    "IntervalCropping2D",
    "IntervalDense",
    "IntervalDepthwiseConv2D",
    "IntervalDistance",
    "IntervalDropout",
    "IntervalELU",
    "IntervalEqualizedDense",
    "IntervalFlatten",
    "IntervalGlobalAveragePooling2D",
    "IntervalGlobalMaxPooling2D",
    "IntervalLeakyReLU",
    "IntervalMaxPooling2D",
    "IntervalNormalization",
    "IntervalOwn",
    "IntervalPermute",
    "IntervalReLU",
    "IntervalRepeatVector",
    "IntervalRescaling",
    "IntervalReshape",
    "IntervalResidual",
    "IntervalScale",
    "IntervalTrainingOnly",
    "IntervalUpSampling2D",
    "IntervalZeroPadding2D",
    "Pass",
    "Relaxation",
]

"""L1 penalty on the kernels of affine layers."""

import keras
from keras import ops

_AFFINE = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def affine_layers(network):
    """Dense and convolution layers of a network, those inside residual blocks included."""
    return [layer for layer in network._flatten_layers() if isinstance(layer, _AFFINE)]


def l1_penalty(network):
    """Sum of the absolute kernel entries of every Dense and convolution layer; biases are free.

    Args:
        network: `IntervalSequential`.

    Returns:
        Scalar tensor >= 0. The published coefficients multiply this sum divided by the number of
        such layers.

    References:
        Mao et al. 2023, appendix B.4, and the authors' code.
    """
    return sum(ops.sum(ops.abs(layer.kernel)) for layer in affine_layers(network))

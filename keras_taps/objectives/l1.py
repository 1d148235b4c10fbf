"""L1 penalty on the kernels of affine layers."""

from keras import ops

from keras_taps.networks.sequential import IntervalSequential
from keras_taps.typing import Tensor


def l1_penalty(network: IntervalSequential) -> Tensor:
    """Sum of the absolute kernel entries of every Dense and convolution layer that is trained.

    Biases are free, and so are the centres of distance layers.

    Args:
        network: `IntervalSequential`.

    Returns:
        Scalar tensor >= 0. The published coefficients multiply this sum divided by the number of
        such layers, `len(network.affine_layers)`.

    References:
        Mao et al. 2023, appendix B.4, and the authors' code.
    """
    kernels = [layer.kernel for layer in network.affine_layers if layer.trainable]
    return sum((ops.sum(ops.abs(kernel)) for kernel in kernels), ops.zeros(()))

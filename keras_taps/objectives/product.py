"""The product of two losses, with the weight of each in the gradient."""

import math

from keras import ops

from keras_taps import backend
from keras_taps.checks import check_real
from keras_taps.typing import Tensor


def product_loss(
    taps_loss: Tensor, ibp_loss: Tensor, w_taps: float = 5.0, gradient_scale: float = 1.0
) -> Tensor:
    """Value `L_TAPS * L_IBP`; gradient `2 a L_IBP dL_TAPS + (2 - 2 a) L_TAPS dL_IBP`.

    Args:
        taps_loss: Scalar tensor, mean TAPS loss of the batch (of this replica).
        ibp_loss: Scalar tensor, mean IBP loss of the batch (of this replica).
        w_taps: `a / (1 - a)` in [0, inf]: 1 gives the derivative of the product, 0 only the IBP
            gradient, inf only the TAPS gradient.
        gradient_scale: Factor > 0 of the gradient alone. The authors' code weighs the two
            gradients `w_taps : 1`, which is the formula above times `(w_taps + 1) / 2`; see
            `TAPSModel`.

    Returns:
        Scalar tensor. Under `tf.distribute` both losses are averaged over the global batch before
        they are multiplied.

    Raises:
        ValueError: If `w_taps` is negative or NaN, or `gradient_scale` not positive.

    Example:

    >>> float(product_loss(ops.array(2.0), ops.array(3.0)))
    6.0

    References:
        Mao et al. 2023, section 3.4.
    """
    w_taps = check_real("w_taps", w_taps, 0, math.inf)
    scale = 2 * check_real("gradient_scale", gradient_scale, 0, math.inf, low_open=True)
    alpha = 1.0 if math.isinf(w_taps) else w_taps / (1 + w_taps)
    taps_value, ibp_value = (
        backend.global_mean(ops.stop_gradient(loss)) for loss in (taps_loss, ibp_loss)
    )
    # Differences with a stopped copy are 0 forward and carry the gradient backward.
    taps_change = taps_loss - ops.stop_gradient(taps_loss)
    ibp_change = ibp_loss - ops.stop_gradient(ibp_loss)
    return (
        taps_value * ibp_value
        + scale * alpha * ibp_value * taps_change
        + scale * (1 - alpha) * taps_value * ibp_change
    )

"""The regions of certified training: the whole box, a small one at an attacked image or anywhere.

Region x bound is the family: IBP = (whole, IBP), SABR = (small, IBP), TAPS = (whole, latent attack
x IBP), STAPS = (small, latent attack x IBP).
"""

from keras import ops

from keras_taps.checks import check_real
from keras_taps.interval import Interval
from keras_taps.typing import Tensor


def small_box(box: Interval, points: Tensor, ratio: float) -> Interval:
    """A box of `ratio` times the width, as near to `points` as it fits into `box`.

    Args:
        box: `Interval` of tensors `(batch, ...)`.
        points: Tensor `(batch, ...)`, usually adversarial images in the box.
        ratio: Share in [0, 1] of the width in every coordinate: `lambda` of SABR, `tau / eps` of
            STAPS. 1 gives the whole box, 0 the points.

    Returns:
        `Interval` inside `box`.

    Raises:
        ValueError: If `ratio` is outside [0, 1].

    Example:

    >>> box = Interval(ops.zeros((1, 1)), ops.ones((1, 1)))
    >>> [round(float(bound[0, 0]), 2) for bound in small_box(box, ops.ones((1, 1)), 0.4)]
    [0.6, 1.0]

    References:
        Müller et al., "Certified Training: Small Boxes are All You Need", 2023, section 3;
        Mao et al. 2023, section 3.5.
    """
    ratio = check_real("ratio", ratio, 0, 1)
    if ratio == 1:
        return box
    reach = ratio * box.radius
    lowest, highest = box.lower + reach, box.upper - reach
    centre = ops.minimum(ops.maximum(points, lowest), highest)
    # Clipped once more, because rounding may push a bound out of the box.
    return Interval(ops.maximum(centre - reach, box.lower), ops.minimum(centre + reach, box.upper))


def inclusion_box(box: Interval, places: Tensor, share: Tensor) -> Interval:
    """A box of `share` times the width, at a place in `box`.

    Args:
        box: `Interval` of tensors `(batch, ...)`.
        places: Tensor `(batch, ...)` in [0, 1], from the lowest to the highest place.
        share: Scalar tensor or number in [0, 1]. 1 gives the whole box.

    Returns:
        `Interval` inside `box`.

    Example:

    >>> box = Interval(ops.zeros((1, 1)), ops.ones((1, 1)))
    >>> [round(float(bound[0, 0]), 2) for bound in inclusion_box(box, 0.5 * ops.ones((1, 1)), 0.4)]
    [0.3, 0.7]

    References:
        Mirman, Singh, Vechev, "A Provable Defense for Deep Residual Networks", 2019 (inclusion
        sampling).
    """
    share = ops.cast(share, box.lower.dtype)
    lower = box.lower + (1 - share) * places * box.width
    return Interval(lower, ops.minimum(lower + share * box.width, box.upper))

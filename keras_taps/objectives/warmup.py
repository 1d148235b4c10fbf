"""The warm-up regulariser of fast certified training."""

from collections.abc import Sequence

from keras import ops

from keras_taps.interval import Interval
from keras_taps.typing import Tensor

TOLERANCE = 0.5


def warmup_regulariser(input_box: Interval, relu_boxes: Sequence[Interval]) -> Tensor:
    """Penalty on boxes that widen with depth and on ReLUs that are mostly on or mostly off.

    Args:
        input_box: `Interval` at the entrance of the network, after input normalisation.
        relu_boxes: Non-empty list of `Interval`s, the boxes that enter each ReLU.

    Returns:
        Scalar tensor >= 0: the mean over ReLUs of tightness plus balance. Terms without a value
        (no neuron is always on or always off) are skipped.

    Example:

    >>> box = Interval(ops.array([[-1.0, 1.0]]), ops.array([[-0.5, 1.5]]))
    >>> float(warmup_regulariser(box, [box]))
    0.0

    References:
        Shi et al. 2021, section 4.3; Mao et al. 2023, appendix B.1.
    """
    entry = ops.mean(input_box.radius)
    terms = [_tightness(entry, box) + _balance(box) for box in relu_boxes]
    return sum(terms) / len(terms)


def _tightness(entry, box):
    radius = ops.maximum(ops.mean(box.radius), 1e-12)
    # The images may be in another precision than the layers.
    return ops.relu(TOLERANCE - ops.cast(entry, radius.dtype) / radius) / TOLERANCE


def _balance(box):
    """How unequal always-active and always-inactive neurons are, in mean and in variance."""
    centre = box.centre
    active = ops.cast(box.lower > 0, centre.dtype)
    inactive = ops.cast(box.upper < 0, centre.dtype)
    deviation = ops.square(centre - ops.mean(centre))
    means = (ops.mean(centre * active), -ops.mean(centre * inactive))
    variances = (ops.sum(deviation * active), ops.sum(deviation * inactive))
    return sum(_imbalance(*pair) for pair in (means, variances))


def _imbalance(a, b):
    """`relu(tau - min(a/b, b/a)) / tau` for a, b >= 0; 0 where both vanish (0/0 is skipped)."""
    larger = ops.maximum(a, b)
    defined = larger > 0
    ratio = ops.minimum(a, b) / ops.where(defined, larger, 1.0)
    return ops.where(defined, ops.relu(TOLERANCE - ratio) / TOLERANCE, 0.0)

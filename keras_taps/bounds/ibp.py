"""Interval bound propagation to the margins."""

from keras_taps.bounds.margins import margin_rows, upper_margins
from keras_taps.interval import Interval
from keras_taps.networks.segment import Segment
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.typing import Tensor


def ibp_margins(network: IntervalSequential | Segment, box: Interval, labels: Tensor) -> Tensor:
    """Upper bounds of the margins of the wrong classes over a box, by IBP with elision.

    Args:
        network: `IntervalSequential`, or the `Segment` after a split, that ends in a Dense layer.
        box: `Interval` of inputs to it, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.

    Returns:
        Tensor `(batch, num_classes - 1)`; a sample is certified when all of its row is below 0.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> ops.shape(ibp_margins(network, input_box(ops.zeros((2, 8, 8, 1)), 0.1), ops.array([3, 4])))
    (2, 9)

    References:
        Gowal et al. 2018; Mao et al. 2023, section 2.
    """
    segment = network.segment
    return upper_margins(margin_rows(segment.last, labels), segment.body(box))

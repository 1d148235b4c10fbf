"""CROWN: linear bounds on the margins, substituted backward to the input box."""

from keras import ops

from keras_taps.bounds.margins import MarginRows, lower_margins, margin_rows, upper_margins
from keras_taps.bounds.nodes import concretise, propagate, substitute, unfold
from keras_taps.interval import Interval
from keras_taps.networks.segment import Segment
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.typing import Tensor


class LinearRelaxation:
    """A network and the boxes of its neurons, ready to bound linear forms of its outputs.

    Args:
        network: `IntervalSequential`, or a `Segment`, that ends in a Dense layer.
        box: `Interval` of inputs to it, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> box = input_box(ops.zeros((2, 8, 8, 1)), 0.1)
    >>> ops.shape(LinearRelaxation(network, box, ops.array([3, 4])).crown_margins())
    (2, 9)

    References:
        Zhang et al. 2018 (CROWN); Zhang et al., "Towards Stable and Efficient Training of
        Verifiably Robust Neural Networks" (CROWN-IBP), 2020.
    """

    def __init__(self, network: IntervalSequential | Segment, box: Interval, labels: Tensor):
        segment = network.segment
        self.box = box
        self.nodes = unfold(segment.body.layers, segment.given)
        self.features, self.traces = propagate(self.nodes, box)
        self.rows = margin_rows(segment.last, labels)

    def ibp_margins(self) -> Tensor:
        """Upper bounds `(batch, classes - 1)` of the margins by interval arithmetic alone."""
        return upper_margins(self.rows, self.features)

    def crown_margins(self) -> Tensor:
        """Upper bounds `(batch, classes - 1)` by one backward pass between the boxes of IBP."""
        return self.upper_bound(self.rows)

    def fused_loss(self) -> Tensor:
        """Upper bound `(batch,)` of the cross-entropy by one backward row a sample.

        The exponential of each margin lies below its chord on the IBP interval, so the sum of
        exponentials is below one linear form of the features: one row to send back, where the
        margins need one a class.

        References:
            Xu et al., "Automatic Perturbation Analysis for Scalable Certified Robustness and
            Beyond" (loss fusion), 2020.
        """
        upper, lower = self.ibp_margins(), lower_margins(self.rows, self.features)
        # Shifted by the largest margin, or the exponentials overflow.
        shift = ops.relu(ops.max(upper, axis=-1, keepdims=True))
        top, bottom = ops.exp(upper - shift), ops.exp(lower - shift)
        width = upper - lower
        narrow = width <= 1e-5
        slope = ops.where(narrow, 0.0, (top - bottom) / ops.where(narrow, 1.0, width))
        fused = MarginRows(
            ops.sum(slope[..., None] * self.rows.weights, axis=1, keepdims=True),
            ops.sum(slope * self.rows.bias + top - slope * upper, axis=1, keepdims=True),
        )
        total = self.upper_bound(fused)
        # One more bound on the sum: without the lines, each exponential at its own top.
        total = ops.minimum(total, ops.sum(top, axis=-1, keepdims=True))
        return (shift + ops.log(ops.exp(-shift) + ops.maximum(total, 0.0)))[:, 0]

    def upper_bound(self, rows: MarginRows) -> Tensor:
        """Upper bounds of linear forms of the features.

        Args:
            rows: `MarginRows` with n forms a sample.

        Returns:
            Tensor `(batch, n)`.
        """
        return concretise(self.box, *substitute(self.nodes, self.traces, *rows))


def crown_ibp_margins(
    network: IntervalSequential | Segment, box: Interval, labels: Tensor
) -> Tensor:
    """Upper bounds of the margins: boxes of IBP inside, one CROWN pass back from the margins.

    Args:
        network: `IntervalSequential`.
        box: `Interval` of images, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.

    Returns:
        Tensor `(batch, classes - 1)`; neither always below nor always above the IBP bounds.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> box = input_box(ops.zeros((2, 8, 8, 1)), 0.1)
    >>> ops.shape(crown_ibp_margins(network, box, ops.array([3, 4])))
    (2, 9)

    References:
        Zhang et al. 2020.
    """
    return LinearRelaxation(network, box, labels).crown_margins()

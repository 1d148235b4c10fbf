"""How far the boxes that enter ReLUs cross zero: what IBP-R and COLT press down."""

from collections.abc import Sequence

from keras import ops

from keras_taps.interval import Interval
from keras_taps.typing import Tensor


def instability(relu_boxes: Sequence[Interval]) -> Tensor:
    """Sum of `relu(-lower) relu(upper)` over all neurons, twice the areas of their triangles.

    A neuron whose sign is fixed on its box adds 0, and no gradient.

    Args:
        relu_boxes: Non-empty list of `Interval`s `(batch, ...)` that enter ReLUs.

    Returns:
        Tensor `(batch,)` >= 0.

    Example:

    >>> box = Interval(ops.array([[-2.0, 1.0]]), ops.array([[3.0, 2.0]]))
    >>> float(instability([box])[0])
    6.0

    References:
        Balunovic and Vechev 2020, section 4; De Palma et al., "IBP Regularization for Verified
        Adversarial Robustness via Branch-and-Bound", 2022.
    """
    areas = [ops.relu(-box.lower) * ops.relu(box.upper) for box in relu_boxes]
    return sum(ops.sum(area, axis=tuple(range(1, len(area.shape)))) for area in areas)

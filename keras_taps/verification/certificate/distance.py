"""How a box goes through distance nodes, rounded outward, and what linear forms find there.

In a box each difference `|x - w|` has an interval of its own, and neither a maximum nor a sorted
sum with weights >= 0 falls where a difference grows. A subtraction and a sum of n products of
numbers >= 0 are all that rounds.
"""

from dataclasses import dataclass

import numpy as np

from keras_taps.verification.certificate.rounding import ROUND, TINY, Form, gamma, largest, unit


@dataclass(frozen=True)
class HeldBox:
    """The box of the outputs: what is known of them, and so the largest value of every form."""

    box: tuple
    in_shape: tuple

    def back(self, form):
        """A form on the inputs that does not depend on them."""
        bounds = largest(form, self.box)
        rows = np.zeros((len(bounds), *self.in_shape))
        return Form(rows, bounds, np.zeros_like(bounds))


def distance_box(node, box):
    """Box after a `Distance`, and its record for the way back.

    Args:
        node: `Distance`.
        box: Pair of arrays `(inputs,)`.
    """
    lower, upper = box
    parts = []
    for rows in node.rows():
        above, below = lower - rows, upper - rows
        near = np.maximum(np.maximum(above, -below) * (1 - 4 * ROUND), 0.0)
        far = np.maximum(np.abs(above), np.abs(below)) * (1 + 4 * ROUND)
        parts.append([node.sorted_sums(near), node.sorted_sums(far)])
    low, high = np.concatenate(parts, axis=1)
    share = gamma(len(node.coefficients))
    low, high = (low * (1 - share) - TINY) + node.bias, (high * (1 + share) + TINY) + node.bias
    out = low - unit(low) - TINY, high + unit(high) + TINY
    return out, HeldBox(out, node.in_shape)

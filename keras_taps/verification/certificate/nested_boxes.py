"""Rigorous bounds over boxes of inputs one at a time, each from what is known of a larger one.

For networks whose rows are worth keeping as crops, or whose nodes `ManyBoxes` does not take. What
bounds a neuron in a box bounds it in every part of that box: parts ask only for the neurons that
are still unstable, and boxes never get looser.
"""

from dataclasses import dataclass

import numpy as np

from keras_taps.verification.certificate.deadline import NEVER
from keras_taps.verification.certificate.many_boxes import LinearBounds
from keras_taps.verification.certificate.rounding import TINY, Form, largest, unit
from keras_taps.verification.certificate.walk import Walk


@dataclass(frozen=True)
class _Known:
    """A box of inputs, and the boxes of the neurons that hold in it."""

    lower: np.ndarray
    upper: np.ndarray
    boxes: list

    def holds(self, lower, upper):
        return bool(np.all(self.lower <= lower) and np.all(upper <= self.upper))


class NestedBoxes:
    """The bounds of `ManyBoxes` by the walk of the checker, box by box.

    It remembers the boxes around the last one, so that a search should go depth first.

    Args:
        graph: `Graph`.

    Attributes:
        batch: How many boxes are best bounded together.

    Example:

    >>> from keras_taps.verification.graph.nodes import Dense
    >>> boxes = NestedBoxes(Graph((Dense(np.array([[1.0, -1.0]]), np.zeros(2)),)))
    >>> lower, upper = np.array([[0.25], [0.5]]), np.array([[0.5], [1.0]])
    >>> found = boxes.bounds(lower, upper, np.array([[-1.0, 1.0]]), np.zeros(1))
    >>> found.values.round(6).tolist()
    [[-0.5], [-1.0]]
    """

    batch = 1

    def __init__(self, graph):
        self.graph = graph
        self._absolutes, self._around = {}, []

    def bounds(self, lower, upper, forms, offset, deadline=NEVER):
        """Upper bounds of `forms @ outputs + offset` over each box; as those of `ManyBoxes`."""
        pairs = zip(lower, upper, strict=True)
        found = [self._bounds(low, high, forms, offset, deadline) for low, high in pairs]
        return LinearBounds(*map(np.stack, zip(*found, strict=True)))

    def _bounds(self, lower, upper, forms, offset, deadline):
        while self._around and not self._around[-1].holds(lower, upper):
            self._around.pop()
        walk = Walk(self._absolutes, deadline=deadline)
        walk.known = self._around[-1].boxes if self._around else None
        with np.errstate(all="ignore"):  # what is not finite ends as an infinite bound
            records = walk.enter(self.graph.nodes, (lower, upper))
            form = Form(forms, offset, np.zeros(len(offset)))
            form = walk.backward(walk.tail, walk.tail_records, form)
            values = largest(form, walk.inner)
            form = walk.backward(walk.head, records, form)
            values = np.fmin(values, walk.concretise(form))
            constant = form.constant + form.error * (1 + 1e-9)
            constant = constant + unit(constant) + TINY
        self._around.append(_Known(lower, upper, walk.boxes))
        rows = form.rows.reshape(len(offset), -1)
        finite = np.isfinite(constant) & np.all(np.isfinite(rows), axis=1)
        rows = np.where(finite[:, None], rows, 0.0)
        values = np.where(np.isnan(values), np.inf, values)
        return values, rows, np.where(finite, constant, np.inf)

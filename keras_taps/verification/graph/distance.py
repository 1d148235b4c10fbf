"""The node of distance layers: sorted sums of how far an input is from centres."""

from dataclasses import dataclass

import numpy as np

from keras_taps.verification.graph.nodes import Sum

_MOST = 2**22  # numbers of `batch x outputs x inputs` at a time


@dataclass(frozen=True)
class Distance:
    """`sum_k coefficients[k] |x - kernel[:, j]|_(k) + bias`, with `|.|_(0)` the largest difference.

    Args:
        kernel: Array `(inputs, outputs)`, a centre for each output.
        bias: Array `(outputs,)`.
        coefficients: Array `(n,)` of numbers >= 0, n in [1, inputs].
    """

    kernel: np.ndarray
    bias: np.ndarray
    coefficients: np.ndarray

    def __post_init__(self):
        for name in ("kernel", "bias", "coefficients"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), "float64"))

    @property
    def in_shape(self):
        return self.kernel.shape[:1]

    @property
    def out_shape(self):
        return self.kernel.shape[1:]

    def __call__(self, x):
        """Outputs `(batch, outputs)` for inputs `(batch, inputs)`."""
        parts = [self.sorted_sums(np.abs(x[:, None] - rows)) for rows in self.rows(len(x))]
        return np.concatenate(parts, axis=1) + self.bias

    def rows(self, batch=1):
        """The centres `(n, inputs)`, a few outputs at a time."""
        inputs, outputs = self.kernel.shape
        size = max(1, _MOST // (inputs * max(batch, 1)))
        for start in range(0, outputs, size):
            yield self.kernel.T[start : start + size]

    def sorted_sums(self, differences):
        """Sums `(...)` of the largest of the differences `(..., inputs)`."""
        count = len(self.coefficients)
        if count == 1:
            return self.coefficients[0] * differences.max(-1)
        first = differences.shape[-1] - count
        largest = np.partition(differences, first, axis=-1)[..., first:]
        return np.sort(largest, axis=-1)[..., ::-1] @ self.coefficients

    def back(self, x, forms):
        """Forms `(batch, outputs)` as forms on the inputs, by the slopes at points `x`."""
        found, start, count = np.zeros_like(x), 0, len(self.coefficients)
        for rows in self.rows(len(x)):
            away = x[:, None] - rows
            order = np.argsort(-np.abs(away), axis=-1)[..., :count]
            slopes = np.sign(np.take_along_axis(away, order, -1)) * self.coefficients
            slopes = slopes * forms[:, start : start + len(rows), None]
            np.add.at(found, (np.arange(len(x))[:, None, None], order), slopes)
            start += len(rows)
        return found


def has_distances(nodes):
    """Whether a chain has distance nodes, inside sums too."""
    return any(
        isinstance(node, Distance)
        or (isinstance(node, Sum) and any(has_distances(branch) for branch in node.branches))
        for node in nodes
    )

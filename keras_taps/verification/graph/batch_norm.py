"""Batch normalisation at inference, with the numbers that the layer has."""

from dataclasses import dataclass

import numpy as np

from keras_taps.verification.graph.nodes import Linear, Scale


@dataclass(frozen=True)
class BatchNorm(Linear):
    """`gamma (x - mean) / sqrt(variance + epsilon) + beta`, channel by channel.

    It stands in the source of a graph alone: what is verified has it folded.

    Args:
        gamma: Array `(channels,)`.
        beta: Array `(channels,)`.
        mean: Array `(channels,)`.
        variance: Array `(channels,)`, with `variance + epsilon > 0`.
        epsilon: Number >= 0.
        in_shape: Shape of one input, channels last.

    Example:

    >>> one = np.ones(1)
    >>> node = BatchNorm(6 * one, one, 3 * one, 4 * one, 0.0, (1,))
    >>> float(node(np.array([[4.0]]))[0, 0])
    4.0
    """

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float
    in_shape: tuple
    terms = 1

    def __post_init__(self):
        for name in ("gamma", "beta", "mean", "variance"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), "float64"))

    @property
    def out_shape(self):
        return self.in_shape

    @property
    def inverse(self):
        """Array `(channels,)`: `1 / sqrt(variance + epsilon)`."""
        return 1 / np.sqrt(self.variance + self.epsilon)

    @property
    def scale(self):
        return self.gamma / np.sqrt(self.variance + self.epsilon)

    @property
    def bias(self):
        return self.beta - self.mean * self.scale

    @property
    def magnitude(self):
        return np.abs(self.beta) + np.abs(self.mean * self.scale)

    @property
    def normal(self):
        """Whether nothing overflows or underflows on the way to `scale` and `bias`.

        Else they would differ from what is meant by more than a few roundings.
        """
        spread, size = self.variance + self.epsilon, np.abs(self.scale)
        kept = (self.gamma == 0) | (size >= np.finfo("float64").tiny)
        return bool(np.all(np.isfinite(spread) & np.isfinite(size) & np.isfinite(self.bias) & kept))

    @property
    def largest(self):
        """No number that a backend can meet between inputs and outputs is larger, but those."""
        parts = (self.gamma, self.mean, self.inverse, self.variance, self.scale, self.magnitude)
        return np.max([np.abs(part) for part in parts], axis=0).max() + self.epsilon

    def apply(self, x):
        return x * self.scale

    transpose = apply

    def absolute(self):
        return self.folded().absolute()

    def folded(self):
        """The `Scale` that does the same."""
        return Scale(self.scale, self.bias, self.in_shape, self.magnitude)

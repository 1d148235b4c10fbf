"""What must not happen: a set of inputs and linear conditions on the outputs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.verification.graph.graph import Graph


@dataclass(frozen=True)
class Unsafe:
    """Inputs in a box at which every form `weights @ outputs + offset` is at least 0.

    A property is a list of such sets; it holds if all of them are empty. Classification is one
    set a wrong class, each with the one form `o_i - o_y`, so that a tie is unsafe.

    Args:
        lower: Array of the shape of one input of the graph, in float64.
        upper: Array of the same shape.
        weights: Array `(forms, outputs)`.
        offset: Array `(forms,)`.
        strict: Boolean array `(forms,)`: forms that must be above 0, not 0; by default none.
            Proofs do not use it: what holds with 0 holds without.
        inner: `(lower, upper, offset)` for counterexamples, so that what meets them surely lies in
            the set that is meant. They differ from those above, which proofs use, where the set is
            open or float64 cannot hold its numbers. By default they are the same.
    """

    lower: np.ndarray
    upper: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    strict: np.ndarray | None = None
    inner: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __post_init__(self):
        if self.strict is None:
            object.__setattr__(self, "strict", np.zeros(len(self.offset), bool))

    @property
    def meant(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(lower, upper, offset)` that a counterexample has to meet."""
        return (self.lower, self.upper, self.offset) if self.inner is None else self.inner

    def contains(self, graph: Graph, points: ArrayLike) -> np.ndarray:
        """Boolean array `(batch,)`: which points lie in the set, evaluated in float64.

        Args:
            graph: `Graph`.
            points: Array `(batch, ...)` of inputs.
        """
        points = np.asarray(points, "float64")
        axes = tuple(range(1, points.ndim))
        lower, upper, offset = self.meant
        low, high = ordered(lower, upper)
        inside = np.all((points >= low) & (points <= high), axis=axes)
        forms = graph(points) @ self.weights.T + offset
        return inside & np.all((forms > 0) | ((forms == 0) & ~self.strict), axis=-1)


def margin_forms(label, classes):
    """Weights `(classes - 1, classes)` of the margins `o_i - o_y` of the wrong classes, ascending.

    Example:

    >>> margin_forms(1, 3).tolist()
    [[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]]
    """
    weights = np.delete(np.eye(classes), label, axis=0)
    weights[:, label] = -1
    return weights


def worst_of(groups, values):
    """Smallest value of each group `0 .. groups.max()`: a conjunction is as strong as that."""
    found = np.full(groups.max() + 1, np.inf)
    np.minimum.at(found, groups, np.where(np.isnan(values), np.inf, values))
    return found


def safe(groups, bounds):
    """Whether upper bounds rule every group out: each has a finite one below 0."""
    bounds = np.where(np.isfinite(bounds), bounds, np.inf)
    return bool(np.all(worst_of(groups, bounds) < 0))


def ordered(lower, upper):
    """The bounds `meant` for a counterexample in their order: some may cross.

    Between two that cross lies one number that float64 does not hold, so both sides serve.
    """
    return np.minimum(lower, upper), np.maximum(lower, upper)

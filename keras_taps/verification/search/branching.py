"""Which neuron to split, by scores of what a split may win; and where to split a curve."""

import numpy as np

from keras_taps.verification.certificate.curves import slope_range
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.nodes import Linear, Relu, walk
from keras_taps.verification.graph.traverse import nonlinear

_SHARES = np.arange(1, 8) / 8  # of an interval, where its split is tried
_NARROW = 1e-5  # intervals that are not split: float32 and rounding decide nothing there

_LITTLE = 1e-4  # of a bound


def local_biases(graph):
    """The affine parts of the pre-activations: what they are where activations before them give 0.

    Args:
        graph: `Graph` whose only nonlinear nodes are ReLUs, curves and sums.

    Returns:
        Array `(N,)`, one number a neuron in depth-first order.
    """
    found = []

    def through(nodes, value):
        for node in nodes:
            if isinstance(node, (Curve, Relu)):
                found.append(value.ravel())
                value = np.zeros_like(value)
            elif isinstance(node, Linear):
                value = walk((node,), value[None])[0]
            else:
                value = sum(through(branch, value) for branch in node.branches)
        return value

    through(graph.nodes, np.zeros(graph.in_shape))
    return np.concatenate([np.zeros(0), *found])


class Sites:
    """The activations of a graph without pooling, in depth-first order.

    Args:
        graph: `Graph`.

    Attributes:
        kinks: Array `(N,)`, the slope of each neuron's ReLU for negative inputs; NaN for curves.
        curves: List of pairs of a slice of neurons and their `Curve`.
    """

    def __init__(self, graph):
        kinks, self.curves, start = [np.zeros(0)], [], 0
        for node in nonlinear(graph.nodes):
            size, curved = int(np.prod(node.in_shape)), isinstance(node, Curve)
            kinks.append(np.full(size, np.nan if curved else node.slope))
            if curved:
                self.curves.append((slice(start, start + size), node))
            start += size
        self.kinks = np.concatenate(kinks)

    def values(self, inner):
        """Activations of pre-activations `(batch, N)`."""
        found = np.maximum(inner, self.kinks * inner)
        for part, node in self.curves:
            found[:, part] = node(inner[:, part])
        return found

    def splits(self, low, high):
        """Boolean array `(batch, N)`: which pre-activations between these bounds can be split."""
        wide = high - low > _NARROW * (1 + np.abs(low) + np.abs(high))
        return np.where(np.isnan(self.kinks), wide, (low < 0) & (high > 0))

    def bends(self, low, high):
        """Array `(batch, N)`: how far apart parallel lines are at most; infinite for ReLUs."""
        found = np.full(low.shape, np.inf)
        for part, node in self.curves:
            found[:, part] = _bend(node, low[:, part], high[:, part])
        return found

    def point(self, neuron, low, high):
        """Where to split a neuron: 0, or where the parts of a curve's relaxation are smallest.

        Args:
            neuron: Its number.
            low: Lower bound of its pre-activation.
            high: Upper bound.

        Returns:
            A number that float32 holds.
        """
        node = next((n for part, n in self.curves if part.start <= neuron < part.stop), None)
        if node is None:
            return 0.0
        knots = [knot for knot in node.known.knots if low < knot < high]
        tried = np.float32([*(low + _SHARES * (high - low)), *knots]).astype("float64")
        tried = tried[(tried > low) & (tried < high)]
        areas = sum(
            _bend(node, *np.broadcast_arrays(*part)) * (part[1] - part[0])
            for part in ((low, tried), (tried, high))
        )
        return float(tried[areas.argmin()])

    def split(self, domains, neurons):
        """Split a neuron of each of the `Domains`, in turn below and above its point."""
        for row, neuron in enumerate(neurons):
            low = max(domains.low[row, neuron], domains.floor[row, neuron])
            high = min(domains.high[row, neuron], domains.ceiling[row, neuron])
            side = domains.floor if row % 2 else domains.ceiling
            side[row, neuron] = self.point(neuron, low, high)


def _bend(node, low, high):
    """At least the distance of parallel lines that hold a curve."""
    least, most = slope_range(node, (low, high))
    return (high - low) * (most - least) / 4


def babsr_scores(rows, low, high, kinks, biases):
    """Estimates of how much the bound falls if a neuron is split, from its lines alone.

    Args:
        rows: Array `(batch, N)`: how much the bound depends on each activation.
        low: Array `(batch, N)`, bounds of the pre-activations.
        high: Array `(batch, N)`.
        kinks: Array `(N,)`, the slope of each ReLU for negative inputs.
        biases: Array `(N,)` from `local_biases`.

    Returns:
        Array `(batch, N)`, 0 for neurons that do not cross 0, and for curves.

    References:
        Bunel et al., "Branch and Bound for Piecewise Linear Neural Network Verification", 2020.
    """
    crossing = (low < 0) & (high > 0)
    chord = (high - kinks * low) / np.where(crossing, high - low, 1.0)
    intercept = np.maximum(rows, 0) * high * (1 - chord)
    moved = rows * biases
    found = np.abs(np.maximum(moved * (chord - 1), moved * (chord - kinks)) + intercept)
    return np.where(crossing & ~np.isnan(kinks), found, 0.0)


def upb_scores(rows, low, high, kinks):
    """What the upper line of a neuron adds to the bound by its intercept.

    Args:
        rows: As in `babsr_scores`, like the rest.
        low: Array.
        high: Array.
        kinks: Array.

    Returns:
        Array `(batch, N)`, 0 for neurons that do not cross 0.

    References:
        De Palma et al., "IBP Regularization for Verified Adversarial Robustness via
        Branch-and-Bound", 2022.
    """
    crossing = (low < 0) & (high > 0) & ~np.isnan(kinks)
    chord = (high - kinks * low) / np.where(crossing, high - low, 1.0)
    return np.where(crossing, np.maximum(rows, 0) * high * (1 - chord), 0.0)


def line_scores(branching, rows, low, high, kinks, biases):
    """Scores from lines alone: those of UPB where it is asked for and they say something."""
    found = babsr_scores(rows, low, high, kinks, biases)
    if branching != "upb":
        return found
    added = upb_scores(rows, low, high, kinks)
    return np.where(np.max(added, axis=1, keepdims=True, initial=0.0) > _LITTLE, added, found)


def gap_scores(rows, outer, values, splits, most=np.inf):
    """What each neuron's relaxation adds to the bound at the point where it is largest.

    There the bound is the form at a point of the relaxation whose neuron j has the activation
    `outer_j`; were all of them those of the pre-activations there, it would be a counterexample.

    Args:
        rows: As in `babsr_scores`.
        outer: Array `(batch, N)`.
        values: Array `(batch, N)`: activations of the pre-activations there.
        splits: Boolean array `(batch, N)`: which neurons can be split.
        most: Array `(batch, N)`: how far apart the lines are at most. A point of the relaxation may
            lie where they do not hold.

    Returns:
        Array `(batch, N)`, 0 for neurons that cannot be split.
    """
    found = np.abs(rows) * np.minimum(np.abs(outer - values), most)
    return np.where(splits & np.isfinite(found), found, 0.0)


def best_places(scores, count):
    """Places of the largest positive entries of each score, -1 where there are fewer."""
    found = []
    for score in scores:
        order = np.argsort(-score, kind="stable")[:count]
        order = np.where(score[order] > 0, order, -1)
        found.append(np.pad(order, (0, count - len(order)), constant_values=-1))
    return np.concatenate(found)


def known_places(places):
    """Those that are not -1."""
    return places[places >= 0]

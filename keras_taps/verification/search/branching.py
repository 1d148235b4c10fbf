"""Which neuron to split: scores of what a split may win."""

import numpy as np

from keras_taps.verification.graph.nodes import Linear, Relu, walk

_LITTLE = 1e-4  # of a bound


def local_biases(graph):
    """The affine parts of the pre-activations: what they are where the ReLUs before them give 0.

    Args:
        graph: `Graph` whose only nonlinear nodes are ReLUs and sums.

    Returns:
        Array `(N,)`, one number a neuron in depth-first order of the ReLUs.
    """
    found = []

    def through(nodes, value):
        for node in nodes:
            if isinstance(node, Relu):
                found.append(value.ravel())
                value = np.zeros_like(value)
            elif isinstance(node, Linear):
                value = walk((node,), value[None])[0]
            else:
                value = sum(through(branch, value) for branch in node.branches)
        return value

    through(graph.nodes, np.zeros(graph.in_shape))
    return np.concatenate([np.zeros(0), *found])


def babsr_scores(rows, low, high, kinks, biases):
    """Estimates of how much the bound falls if a neuron is split, from its lines alone.

    Args:
        rows: Array `(batch, N)`: how much the bound depends on each activation.
        low: Array `(batch, N)`, bounds of the pre-activations.
        high: Array `(batch, N)`.
        kinks: Array `(N,)`, the slope of each ReLU for negative inputs.
        biases: Array `(N,)` from `local_biases`.

    Returns:
        Array `(batch, N)`, 0 for neurons that do not cross 0.

    References:
        Bunel et al., "Branch and Bound for Piecewise Linear Neural Network Verification", 2020.
    """
    crossing = (low < 0) & (high > 0)
    chord = (high - kinks * low) / np.where(crossing, high - low, 1.0)
    intercept = np.maximum(rows, 0) * high * (1 - chord)
    moved = rows * biases
    found = np.abs(np.maximum(moved * (chord - 1), moved * (chord - kinks)) + intercept)
    return np.where(crossing, found, 0.0)


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
    crossing = (low < 0) & (high > 0)
    chord = (high - kinks * low) / np.where(crossing, high - low, 1.0)
    return np.where(crossing, np.maximum(rows, 0) * high * (1 - chord), 0.0)


def line_scores(branching, rows, low, high, kinks, biases):
    """Scores from lines alone: those of UPB where it is asked for and they say something."""
    found = babsr_scores(rows, low, high, kinks, biases)
    if branching != "upb":
        return found
    added = upb_scores(rows, low, high, kinks)
    return np.where(np.max(added, axis=1, keepdims=True, initial=0.0) > _LITTLE, added, found)


def gap_scores(rows, inner, outer, low, high, kinks):
    """What each neuron's relaxation adds to the bound at the point where it is largest.

    There the bound is the form at a point of the relaxation whose neuron j has the pre-activation
    `inner_j` and the activation `outer_j`; were all of these activations those of the ReLU, it
    would be a counterexample.

    Args:
        rows: As in `babsr_scores`.
        inner: Array `(batch, N)`.
        outer: Array `(batch, N)`.
        low: As in `babsr_scores`, like the rest.
        high: Array.
        kinks: Array.

    Returns:
        Array `(batch, N)`, 0 for neurons that do not cross 0.
    """
    crossing = (low < 0) & (high > 0)
    found = np.abs(rows) * np.abs(outer - np.maximum(inner, kinks * inner))
    return np.where(crossing & np.isfinite(found), found, 0.0)


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

"""Rigorous bounds on the leaves of proof trees: what a tree proves, whoever grew it."""

import numpy as np

from keras_taps.verification.certificate.levels import dequantise
from keras_taps.verification.certificate.lines import multipliers
from keras_taps.verification.graph.unsafe import worst_of

_BATCH = 2**27  # bytes that the multipliers of leaves may take at a time
_UP = 1 + 1e-9  # above the rounding of a sum of weights and of the division by it


def leaf_bounds(root, forms, offset, groups, trees):
    """Rigorous upper bounds on the leaves of trees, from their multipliers.

    Args:
        root: `RootBox` of the box of inputs.
        forms: Array `(n, outputs)`, the forms of a task.
        offset: Array `(n,)`.
        groups: Integer array `(n,)`, the group of each form.
        trees: List of `Tree`.

    Returns:
        For each tree an array with the bound of each of its `leaves`, infinite where the leaf is
        open. What is below 0 bounds the smallest form of the group there.

    Raises:
        ValueError: If a tree is about other neurons, forms or groups than these.
    """
    groups = np.asarray(groups)
    bounds, todo = [], []
    for tree in trees:
        if not np.any(groups == tree.group):
            raise ValueError(f"There is no group {tree.group}.")
        if np.any(tree.neurons >= root.neurons):
            raise ValueError(f"The tree names neurons beyond the {root.neurons} of the network.")
        leaves = tree.leaves
        bounds.append(np.full(len(leaves), np.inf))
        closed = ((at, leaf) for at, leaf in enumerate(leaves) if tree.proof(leaf) is not None)
        todo += [(tree, leaf, bounds[-1], at) for at, leaf in closed]
    size = max(1, _BATCH // (64 * max(root.neurons, 1)))
    for start in range(0, len(todo), size):
        part = todo[start : start + size]
        found = bound_leaves(root, forms, offset, groups, [item[:2] for item in part])
        for (_, _, values, at), bound in zip(part, found, strict=True):
            values[at] = bound
    return bounds


def check_trees(root, forms, offset, groups, trees):
    """Rigorous upper bounds on groups of forms: the largest bound of the leaves of their trees.

    Args:
        root: As in `leaf_bounds`, like the rest.
        forms: Array.
        offset: Array.
        groups: Array.
        trees: List of `Tree`.

    Returns:
        Array `(groups.max() + 1,)`, infinite for a group without a complete tree. If it is below 0,
        at no input of the box are all forms of the group >= 0.

    Raises:
        ValueError: If a tree is about other neurons, forms or groups than these.
    """
    groups = np.asarray(groups)
    found = np.full(groups.max() + 1, np.inf)
    for tree, bounds in zip(trees, leaf_bounds(root, forms, offset, groups, trees), strict=True):
        found[tree.group] = np.fmin(found[tree.group], bounds.max())
    return found


def proved_bounds(root, forms, offset, groups, trees, slopes=None):
    """Upper bounds on groups of forms, rigorous below 0: the less of whole box's and trees'.

    Args:
        root: As in `leaf_bounds`, like the rest.
        forms: Array.
        offset: Array.
        groups: Array.
        trees: List of `Tree`.
        slopes: Array `(n, N)` for the bounds of the whole box, or `None`.

    Returns:
        Array `(groups.max() + 1,)`, as in `check_trees`.
    """
    whole = worst_of(groups, root.upper_bounds(forms, offset, slopes=slopes))
    return np.fmin(whole, check_trees(root, forms, offset, groups, trees))


def bound_leaves(root, forms, offset, groups, leaves):
    """Rigorous upper bounds `(L,)` on some leaves, all at a time, as in `leaf_bounds`.

    Args:
        root: As in `leaf_bounds`, like the rest.
        forms: Array.
        offset: Array.
        groups: Array.
        leaves: List of pairs of a `Tree` and the number of a closed node of it.
    """
    count = len(leaves)
    limits = [tree.limits_of_all(node, root.neurons) for tree, node in leaves]
    limits = [np.stack(side) for side in zip(*limits, strict=True)]
    slopes = np.full((count, root.neurons), np.nan)
    betas = np.zeros((count, root.neurons))
    weights = np.zeros((count, len(groups)))
    for i, (tree, node) in enumerate(leaves):
        levels, own_betas, mix = tree.proof(node)
        mine = np.flatnonzero(groups == tree.group)
        if mix.shape != mine.shape:
            raise ValueError(f"Group {tree.group} has {len(mine)} forms, not {mix.size}.")
        ranges = (side[tree.neurons] for side in root.slope_ranges)
        slopes[i, tree.neurons] = dequantise(levels, *ranges)
        betas[i, tree.neurons] = own_betas
        weights[i, mine] = mix
    mixed, shift, error = root.mixed(weights, forms, offset)
    bounds = root.upper_bounds(mixed, shift, limits, slopes, betas, error)
    # Weights larger than 1 in all would make any bound as far below 0 as one likes.
    total = np.maximum(multipliers(weights).sum(1) * _UP, 1.0)
    return np.where(bounds < 0, bounds / total, bounds)

"""Rigorous bounds on the leaves of proof trees: what a tree proves, whoever grew it."""

import numpy as np

from keras_taps.verification.certificate.leaves import Cuts
from keras_taps.verification.certificate.levels import dequantise
from keras_taps.verification.certificate.lines import multipliers
from keras_taps.verification.graph.unsafe import worst_of

_BATCH = 2**27  # bytes that the multipliers of leaves may take at a time
_UP = 1 + 1e-9  # above the rounding of a sum of weights and of the division by it


def _used(cuts, total):
    """Sorted numbers of the cuts that some leaves use; one beyond `total` is refused."""
    used = np.unique(np.concatenate([np.zeros(0, int), *cuts]))
    if used.size and not 0 <= used[0] <= used[-1] < total:
        raise ValueError(f"A leaf names a cut that is none of the {total}.")
    return used


def leaf_bounds(root, forms, offset, groups, trees, cuts=None):
    """Rigorous upper bounds on the leaves of trees, from their multipliers.

    Args:
        root: `RootBox` of the box of inputs.
        forms: Array `(n, outputs)`, the forms of a task.
        offset: Array `(n,)`.
        groups: Integer array `(n,)`, the group of each form.
        trees: List of `Tree`.
        cuts: `Cuts` of the task, or `None`.

    Returns:
        For each tree an array with the bound of each of its `leaves`, infinite where the leaf is
        open. What is below 0 bounds the smallest form of the group there.

    Raises:
        ValueError: If a tree is about other neurons, forms, groups or cuts than these.
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
        todo += [(tree, leaf, bounds[-1], at) for at, leaf in enumerate(leaves)]
    todo = [(*item, proof[3]) for item in todo if (proof := item[0].proof(item[1])) is not None]
    kept = _used([item[-1] for item in todo], 0 if cuts is None else len(cuts.members))
    size = max(1, _BATCH // (64 * max(root.neurons, 1) + 8 * kept.size))
    for start in range(0, len(todo), size):
        part = todo[start : start + size]
        found = bound_leaves(root, forms, offset, groups, [item[:2] for item in part], cuts)
        for (_, _, values, at, _), bound in zip(part, found, strict=True):
            values[at] = bound
    return bounds


def check_trees(root, forms, offset, groups, trees, cuts=None):
    """Rigorous upper bounds on groups of forms: the largest bound of the leaves of their trees.

    Args:
        root: As in `leaf_bounds`, like the rest.
        forms: Array.
        offset: Array.
        groups: Array.
        trees: List of `Tree`.
        cuts: `Cuts` or `None`.

    Returns:
        Array `(groups.max() + 1,)`, infinite for a group without a complete tree. If it is below 0,
        at no input of the box are all forms of the group >= 0.

    Raises:
        ValueError: If a tree is about other neurons, forms, groups or cuts than these.
    """
    groups = np.asarray(groups)
    found = np.full(groups.max() + 1, np.inf)
    for tree, bounds in zip(
        trees, leaf_bounds(root, forms, offset, groups, trees, cuts), strict=True
    ):
        found[tree.group] = np.fmin(found[tree.group], bounds.max())
    return found


def proved_bounds(root, forms, offset, groups, trees, cuts=None, slopes=None):
    """Upper bounds on groups of forms, rigorous below 0: the less of whole box's and trees'.

    Args:
        root: As in `leaf_bounds`, like the rest.
        forms: Array.
        offset: Array.
        groups: Array.
        trees: List of `Tree`.
        cuts: `Cuts` or `None`.
        slopes: Array `(n, N)` for the bounds of the whole box, or `None`.

    Returns:
        Array `(groups.max() + 1,)`, as in `check_trees`.
    """
    whole = worst_of(groups, root.upper_bounds(forms, offset, slopes=slopes))
    return np.fmin(whole, check_trees(root, forms, offset, groups, trees, cuts))


def bound_leaves(root, forms, offset, groups, leaves, cuts):
    """Rigorous upper bounds `(L,)` on some leaves, all at a time, as in `leaf_bounds`.

    Args:
        root: As in `leaf_bounds`, like the rest.
        forms: Array.
        offset: Array.
        groups: Array.
        leaves: List of pairs of a `Tree` and the number of a closed node of it.
        cuts: `Cuts` or `None`.
    """
    proofs = [tree.proof(node) for tree, node in leaves]
    kept = _used([proof[3] for proof in proofs], 0 if cuts is None else len(cuts.members))
    cuts = Cuts(*(part[kept] for part in cuts)) if kept.size else None
    count = len(leaves)
    limits = [tree.limits_of_all(node, root.neurons) for tree, node in leaves]
    limits = [np.stack(side) for side in zip(*limits, strict=True)]
    slopes = np.full((count, root.neurons), np.nan)
    betas = np.zeros((count, root.neurons))
    weights = np.zeros((count, len(groups)))
    gammas = np.zeros((count, kept.size))
    for i, ((tree, _), proof) in enumerate(zip(leaves, proofs, strict=True)):
        levels, own_betas, mix, used, values = proof
        mine = np.flatnonzero(groups == tree.group)
        if mix.shape != mine.shape:
            raise ValueError(f"Group {tree.group} has {len(mine)} forms, not {mix.size}.")
        ranges = (side[tree.neurons] for side in root.slope_ranges)
        slopes[i, tree.neurons] = dequantise(levels, *ranges)
        betas[i, tree.neurons] = own_betas
        weights[i, mine] = mix
        gammas[i, np.searchsorted(kept, used)] = values
    mixed = root.mixed(weights, forms, offset)
    bounds = np.zeros(count)
    for fixed, rows in _by_base(root, leaves):
        part = root.within(fixed) if np.isfinite(fixed).any() else root
        own = [side[rows] for side in limits]
        given = mixed[0][rows], mixed[1][rows], own, slopes[rows], betas[rows]
        bounds[rows] = part.upper_bounds(*given, cuts, gammas[rows], mixed[2][rows])
    # Weights larger than 1 in all would make any bound as far below 0 as one likes.
    total = np.maximum(multipliers(weights).sum(1) * _UP, 1.0)
    return np.where(bounds < 0, bounds / total, bounds)


def _by_base(root, leaves):
    """Pairs of the limits at a base of some leaves and the rows of these leaves."""
    bases = {}
    for row, (tree, node) in enumerate(leaves):
        fixed = tree.limits_of_all(tree.base(node), root.neurons)
        key = b"".join(side.tobytes() for side in fixed)
        bases.setdefault(key, (fixed, []))[1].append(row)
    return bases.values()

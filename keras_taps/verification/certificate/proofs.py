"""The trees and cuts that prove a task, as arrays of a certificate."""

import numpy as np

from keras_taps.verification.certificate.leaves import Cuts
from keras_taps.verification.certificate.tree import Tree


def pack_proof(trees, cuts=None):
    """Trees and cuts as one flat dictionary of arrays, for a certificate.

    Args:
        trees: List of complete `Tree`.
        cuts: `Cuts` or `None`.

    Returns:
        Dictionary with names such as 'tree0_preorder' and 'cut_members'.
    """
    packed = {
        f"tree{number}_{name}": array
        for number, tree in enumerate(trees)
        for name, array in tree.pack().items()
    }
    if cuts is not None:
        packed.update({f"cut_{name}": np.asarray(array) for name, array in cuts._asdict().items()})
    return packed


def unpack_proof(proof):
    """The trees and the cuts of a certificate.

    Args:
        proof: Dictionary of arrays; names that `pack_proof` does not write are left alone.

    Returns:
        `(trees, cuts)`; `cuts` is `None` if there are none.

    Raises:
        ValueError: If a tree is none, or a part of the cuts is missing.
    """
    trees = []
    while f"tree{len(trees)}_preorder" in proof:
        prefix = f"tree{len(trees)}_"
        own = {name.removeprefix(prefix): proof[name] for name in proof if name.startswith(prefix)}
        trees.append(Tree.unpack(own))
    given = [name for name in Cuts._fields if f"cut_{name}" in proof]
    if given and len(given) < len(Cuts._fields):
        raise ValueError("The cuts lack members, outer or inner coefficients.")
    return trees, Cuts(*(proof[f"cut_{name}"] for name in given)) if given else None

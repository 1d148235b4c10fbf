"""What proves a task, as arrays of a certificate: slopes of its boxes, trees and cuts."""

import re

import numpy as np

from keras_taps.verification.certificate.leaves import Cuts
from keras_taps.verification.certificate.tightening import Tightening
from keras_taps.verification.certificate.tree import Tree
from keras_taps.verification.graph.arrays import Expected

_LIST, _ROWS = (None,), (None, None)
_TREE = {
    "group": Expected(("<i8",), ()),
    "neurons": Expected(("<i4",), _LIST),
    "preorder": Expected(("<i4",), _LIST),
    "points": Expected(("<f8",), _LIST),
    "rebased": Expected(("|b1",), _LIST),
    "slopes": Expected(("|u1",), _ROWS),
    "betas": Expected(("<f4",), _LIST),
    "mix": Expected(("<f4",), _ROWS),
    "gamma_counts": Expected(("<i4",), _LIST),
    "gamma_cuts": Expected(("<i4",), _LIST),
    "gamma_values": Expected(("<f4",), _LIST),
}
_CUTS = {
    "members": Expected(("<i8",), _ROWS),
    "outer": Expected(("<f8",), _ROWS),
    "inner": Expected(("<f8",), _ROWS),
}
_TIGHTENING = {
    "asked": Expected(("<i4",), _LIST, low=0),
    "columns": Expected(("<i4",), _LIST, low=0),
    "slopes": Expected(("|u1",), (None, 2, None)),
}
_SLOPES = Expected(("<f4",), _ROWS, nan=True)
_TREE_NAME = re.compile(r"tree(?:0|[1-9][0-9]{0,5})_([a-z_]+)")


def pattern(name):
    """What the array of a proof with this name must be, or `None` if a proof has none.

    Args:
        name: Name such as 'slopes', 'box_slopes', 'tree0_preorder' or 'cut_members'.

    Returns:
        `Expected` or `None`.
    """
    if name == "slopes":
        return _SLOPES
    if name.startswith("cut_"):
        return _CUTS.get(name.removeprefix("cut_"))
    if name.startswith("box_"):
        return _TIGHTENING.get(name.removeprefix("box_"))
    found = _TREE_NAME.fullmatch(name)
    return _TREE.get(found[1]) if found else None


def pack_tightening(tightening):
    """A `Tightening` as a flat dictionary of arrays, for a certificate; of `None` an empty one."""
    if tightening is None:
        return {}
    return {
        f"box_{name}": np.asarray(array, _TIGHTENING[name].types[0])
        for name, array in tightening._asdict().items()
    }


def unpack_tightening(proof):
    """The `Tightening` of a certificate, or `None` if it has none.

    Raises:
        ValueError: If a part of it is missing.
    """
    given = [name for name in Tightening._fields if f"box_{name}" in proof]
    if given and len(given) < len(Tightening._fields):
        raise ValueError("The boxes lack asked neurons, columns or slopes.")
    return Tightening(*(proof[f"box_{name}"] for name in given)) if given else None


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
        types = {name: rule.types[0] for name, rule in _CUTS.items()}
        packed.update(
            {f"cut_{name}": np.asarray(cut, types[name]) for name, cut in cuts._asdict().items()}
        )
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
    own = {}
    for name, array in proof.items():
        if name.startswith("tree"):
            tree, _, part = name.partition("_")
            own.setdefault(tree, {})[part] = array
    if set(own) != {f"tree{number}" for number in range(len(own))}:
        raise ValueError("The trees are not numbered 0, 1, ...")
    trees = [Tree.unpack(own[f"tree{number}"]) for number in range(len(own))]
    given = [name for name in Cuts._fields if f"cut_{name}" in proof]
    if given and len(given) < len(Cuts._fields):
        raise ValueError("The cuts lack members, outer or inner coefficients.")
    return trees, Cuts(*(proof[f"cut_{name}"] for name in given)) if given else None

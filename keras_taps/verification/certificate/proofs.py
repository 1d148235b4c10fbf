"""What proves a task, as arrays of a certificate: slopes of its boxes, and trees."""

import re

import numpy as np

from keras_taps.verification.certificate.tightening import Cases, Tightening
from keras_taps.verification.certificate.tree import Tree
from keras_taps.verification.graph.arrays import Expected

_LIST, _ROWS = (None,), (None, None)
_TREE = {
    "group": Expected(("<i8",), ()),
    "neurons": Expected(("<i4",), _LIST),
    "preorder": Expected(("<i4",), _LIST),
    "points": Expected(("<f8",), _LIST),
    "slopes": Expected(("|u1",), _ROWS),
    "betas": Expected(("<f4",), _LIST),
    "mix": Expected(("<f4",), _ROWS),
    # In version 3, of what only that version checks: without it they say nothing.
    "rebased": Expected(("|b1",), _LIST),
    "gamma_counts": Expected(("<i4",), _LIST),
    "gamma_cuts": Expected(("<i4",), _LIST),
    "gamma_values": Expected(("<f4",), _LIST),
}
_TIGHTENING = {
    "asked": Expected(("<i4",), _LIST, low=0),
    "columns": Expected(("<i4",), _LIST, low=0),
    "slopes": Expected(("|u1",), (None, 2, None)),
}
_CASES = {
    "asked": Expected(("<i4",), _LIST, low=0),
    "sides": Expected(("|u1",), _LIST),
    "splits": Expected(("<i4",), _ROWS, low=-1),
    "slopes": Expected(("|u1",), _ROWS),
    "betas": Expected(("<f4",), _ROWS),
}
_SLOPES = Expected(("<f4",), _ROWS, nan=True)
_TREE_NAME = re.compile(r"tree(?:0|[1-9][0-9]{0,5})_([a-z_]+)")
_UNCHECKED = "it was made with {}, which this version does not check: certify again"


def pattern(name):
    """What the array of a proof with this name must be, or `None` if a proof has none.

    Args:
        name: Name such as 'slopes', 'box_slopes' or 'tree0_preorder'.

    Returns:
        `Expected` or `None`.

    Raises:
        ValueError: If only an older version can check such a proof.
    """
    if name == "slopes":
        return _SLOPES
    if name.startswith("cut_"):
        raise ValueError(_UNCHECKED.format("multi-neuron constraints"))
    if name.startswith("box_"):
        return _TIGHTENING.get(name.removeprefix("box_"))
    if name.startswith("case_"):
        return _CASES.get(name.removeprefix("case_"))
    found = _TREE_NAME.fullmatch(name)
    return _TREE.get(found[1]) if found else None


def pack_tightening(tightening):
    """A `Tightening` as a flat dictionary of arrays, for a certificate; of `None` an empty one."""
    if tightening is None:
        return {}
    packed = _packed("box", _TIGHTENING, tightening)
    if tightening.cases is not None:
        packed |= _packed("case", _CASES, tightening.cases)
    return packed


def _packed(prefix, rules, values):
    return {
        f"{prefix}_{name}": np.asarray(getattr(values, name), rule.types[0])
        for name, rule in rules.items()
    }


def unpack_tightening(proof):
    """The `Tightening` of a certificate, or `None` if it has none.

    Raises:
        ValueError: If a part of it is missing.
    """
    boxes, cases = _given("box", _TIGHTENING, proof), _given("case", _CASES, proof)
    if boxes is None:
        if cases is not None:
            raise ValueError("The cases lack the boxes' columns.")
        return None
    return Tightening(*boxes, None if cases is None else Cases(*cases))


def _given(prefix, rules, proof):
    """The arrays with a prefix, or `None` if there is none."""
    names = [f"{prefix}_{name}" for name in rules]
    given = [proof[name] for name in names if name in proof]
    if given and len(given) < len(names):
        raise ValueError(f"The proof must have all of {', '.join(names)}, or none.")
    return given or None


def pack_trees(trees):
    """Trees as one flat dictionary of arrays, for a certificate.

    Args:
        trees: List of complete `Tree`.

    Returns:
        Dictionary with names such as 'tree0_preorder'.
    """
    return {
        f"tree{number}_{name}": array
        for number, tree in enumerate(trees)
        for name, array in tree.pack().items()
    }


def unpack_trees(proof):
    """The trees of a certificate.

    Args:
        proof: Dictionary of arrays; names that `pack_trees` does not write are left alone.

    Returns:
        List of `Tree`.

    Raises:
        ValueError: If a tree is none, or only an older version can check it.
    """
    own = {}
    for name, array in proof.items():
        if name.startswith("tree"):
            tree, _, part = name.partition("_")
            own.setdefault(tree, {})[part] = array
    if set(own) != {f"tree{number}" for number in range(len(own))}:
        raise ValueError("The trees are not numbered 0, 1, ...")
    if any(np.any(parts.get("rebased", False)) for parts in own.values()):
        raise ValueError(_UNCHECKED.format("boxes derived again in parts"))
    return [Tree.unpack(own[f"tree{number}"]) for number in range(len(own))]

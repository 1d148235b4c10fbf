"""Proof trees: they cover the box by construction, and a file of them is believed in nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.levels import dequantise, quantise
from keras_taps.verification.certificate.proofs import pack_trees, unpack_trees
from keras_taps.verification.certificate.tree import Tree
from keras_taps.verification.certificate.tree_checker import check_trees, leaf_bounds
from keras_taps.verification.exact.milp import exact_bound
from tests.verification.helpers import (
    KINDS,
    limits_of,
    random_box,
    random_graph,
    sample,
)

pytestmark = pytest.mark.once

SEEDS = st.integers(0, 10**6)
FORMS = np.array([[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, -1.0, 1.0]])


def random_tree(rng, neurons, leaves, forms=1, group=0, reach=1.0):
    """A complete tree with random splits and multipliers."""
    tree, size = Tree(group, neurons), len(neurons)
    while len(tree.open_nodes) < leaves:
        node = rng.choice(tree.open_nodes)
        left = np.setdiff1d(neurons, tree.neurons[tree.path(node)[0]])
        if not len(left):
            break
        tree.split(int(node), rng.choice(left))
    for node in tree.open_nodes:
        betas, mix = rng.normal(size=size) * reach, rng.random(forms)
        tree.close(node, rng.integers(0, 256, size).astype("uint8"), betas, mix)
    return tree


def full_tree(root, group=0, forms=1, limit=99):
    """Every neuron whose box crosses 0 is split, with no multipliers."""
    crossing = np.flatnonzero((root.lower < 0) & (root.upper > 0))[:limit]
    tree = Tree(group, crossing)
    for neuron in crossing:
        for node in tree.open_nodes:
            tree.split(node, neuron)
    size = len(crossing)
    for node in tree.open_nodes:
        tree.close(node, np.zeros(size, "uint8"), np.zeros(size), np.full(forms, 1 / forms))
    return tree


@given(seed=SEEDS, kink=st.sampled_from([0.0, 0.1, 1.0]))
def test_bytes_of_slopes(seed, kink):
    """Within half a step; bytes come back; garbage is moved to [kink, 1]."""
    rng = np.random.default_rng(seed)
    kinks, slopes = np.full(50, kink), rng.uniform(kink, 1, 50)
    again = dequantise(quantise(slopes, kinks), kinks)
    assert np.all(np.abs(again - slopes) <= (1 - kink) / 510 + 1e-12)
    levels = np.arange(256, dtype="uint8")
    back = quantise(dequantise(levels, np.full(256, kink)), np.full(256, kink))
    np.testing.assert_array_equal(back, levels if kink < 1 else 0 * levels)
    assert quantise(np.array([-9.0, np.inf]), np.full(2, 0.5)).tolist() == [0, 255]


def signs_of(tree, node):
    """1 where z >= 0, -1 where z <= 0 is fixed, in a tree whose splits are all at 0."""
    floor, ceiling = tree.limits(node)
    assert set(floor) <= {0, -np.inf}
    assert set(ceiling) <= {0, np.inf}
    return (1 * np.isfinite(floor) - np.isfinite(ceiling)).tolist()


def test_a_tree_grows():
    tree = Tree(3, np.array([5, 9, 2]))
    assert tree.open_nodes == [tree.root]
    first, second = tree.split(tree.root, 9)
    third, fourth = tree.split(second, 5)
    assert tree.open_nodes == [first, third, fourth]
    assert signs_of(tree, tree.root) == [0, 0, 0]
    assert signs_of(tree, first) == [0, -1, 0]
    assert signs_of(tree, third) == [-1, 1, 0]
    assert signs_of(tree, fourth) == [1, 1, 0]
    assert tree.path(fourth) == ([1, 0], [1, 1], [0.0, 0.0])
    slopes = np.array([1, 2, 3], "uint8")
    tree.close(third, slopes, [-0.5, 2.0, 7.0], [1.0])
    assert tree.open_nodes == [first, fourth]
    assert not tree.complete
    own, betas, mix = tree.proof(third)
    assert own.tolist() == [1, 2, 3]
    assert betas.tolist() == [-0.5, 2.0, 0.0]  # the third neuron is not split above
    assert mix.tolist() == [1.0]
    slopes[:] = 0
    assert tree.proof(third)[0].tolist() == [1, 2, 3]
    tree.reopen(third)
    assert tree.open_nodes == [first, fourth, third]
    assert tree.proof(third) is None
    assert tree.leaves == [first, third, fourth]


def test_what_a_tree_refuses():
    for neurons in ([1, 1], [-1, 2], [0.5], [[1, 2]]):
        with pytest.raises(ValueError, match="neurons"):
            Tree(0, neurons)
    tree = Tree(0, [4, 6])
    with pytest.raises(ValueError, match="Neuron 5 is none"):
        tree.split(0, 5)
    first, _ = tree.split(0, 4)
    with pytest.raises(ValueError, match=r"strictly between -inf and 0\.0"):
        tree.split(first, 4)
    with pytest.raises(ValueError, match="not open"):
        tree.split(0, 6)
    with pytest.raises(ValueError, match="not open"):
        tree.close(0, np.zeros(2, "uint8"), np.zeros(2), [1.0])
    with pytest.raises(ValueError, match="bytes"):
        tree.close(first, np.zeros(2), np.zeros(2), [1.0])
    with pytest.raises(ValueError, match="bytes"):
        tree.close(first, np.zeros(3, "uint8"), np.zeros(2), [1.0])
    with pytest.raises(ValueError, match="not closed"):
        tree.reopen(first)
    with pytest.raises(ValueError, match="2 leaves of the tree are not proved"):
        tree.pack()


@given(seed=SEEDS, leaves=st.integers(1, 20))
def test_packed_and_back(seed, leaves):
    rng = np.random.default_rng(seed)
    neurons = rng.permutation(30)[:6]
    tree = random_tree(rng, neurons, leaves, forms=2, group=4)
    again = Tree.unpack(tree.pack())
    assert again.group == 4
    assert again.complete
    np.testing.assert_array_equal(again.neurons, neurons)
    assert len(again.leaves) == len(tree.leaves)
    for one, other in zip(tree.leaves, again.leaves, strict=True):
        assert tree.path(one) == again.path(other)
        for left, right in zip(tree.proof(one), again.proof(other), strict=True):
            np.testing.assert_array_equal(left, right)
    for name, array in tree.pack().items():
        np.testing.assert_array_equal(array, again.pack()[name])


def test_points_are_kept_where_some_are_zero():
    tree = Tree(0, [2])
    below, above = tree.split(tree.root, 2, 0.0)
    for node in (below, *tree.split(above, 2, 0.5)):
        tree.close(node, np.zeros(1, "uint8"), np.zeros(1), np.ones(1))
    assert Tree.unpack(tree.pack()).pack()["points"].tolist() == [0.0, 0.5]


def test_a_proof_in_a_file(tmp_path):
    rng = np.random.default_rng(0)
    trees = [random_tree(rng, np.arange(5), n, group=n) for n in (1, 4, 7)]
    np.savez_compressed(tmp_path / "a.npz", x=np.ones(3), **pack_trees(trees))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        proof = {name: content[name] for name in content.files}
    found = unpack_trees(proof)
    assert [tree.group for tree in found] == [1, 4, 7]
    assert [len(tree.leaves) for tree in found] == [1, 4, 7]
    assert unpack_trees({}) == []
    del proof["tree1_betas"]
    with pytest.raises(ValueError, match="lacks betas"):
        unpack_trees(proof)


PACKED = {
    "group": np.array(0),
    "neurons": np.array([3, 5]),
    "preorder": np.array([5, -1, 3, -1, -1]),
    "slopes": np.zeros((3, 2), "uint8"),
    "betas": np.zeros(5, "float32"),
    "mix": np.ones((3, 1), "float32"),
}


def test_what_unpacks():
    assert len(Tree.unpack(PACKED).leaves) == 3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"preorder": [5, -1, 3, -1]}, "ends before"),
        ({"preorder": [5, -1]}, "ends before"),
        ({"preorder": []}, "ends before"),
        ({"preorder": [5, -1, 3, -1, -1, -1]}, "goes on after"),
        ({"preorder": [-1, -1, -1]}, "goes on after"),
        ({"preorder": [5, -1, 4, -1, -1]}, "Neuron 4 is none"),
        ({"preorder": [5, -1, -2, -1, -1]}, "Neuron -2 is none"),
        ({"preorder": [5, -1, 10**9, -1, -1]}, "is none"),
        ({"preorder": [5, -1, 5, -1, -1]}, "Neuron 5 is split at 0.0, .* between 0.0 and inf"),
        ({"points": np.array([0.0, np.nan])}, "Neuron 3 is split at nan"),
        ({"points": np.array([np.inf, 0.0])}, "Neuron 5 is split at inf"),
        ({"points": np.array([1.0, 0.5]), "preorder": [5, -1, 5, -1, -1]}, "split at 0.5"),
        ({"points": np.zeros(3)}, "`points` must hold a number for each split"),
        ({"points": np.zeros((1, 2))}, "`points` must hold"),
        ({"points": np.zeros(2, "float32")}, "`points` must hold"),
        ({"preorder": [5.0, -1, 3, -1, -1]}, "whole numbers"),
        ({"preorder": [[5, -1, 3, -1, -1]]}, "whole numbers"),
        ({"neurons": [3, 3]}, "different"),
        ({"neurons": [3, 5, -1]}, "different"),
        ({"group": np.zeros(0)}, "`group`"),
        ({"group": 0.5}, "`group`"),
        ({"group": [0, 1]}, "`group`"),
        ({"slopes": np.zeros((2, 2), "uint8")}, "byte for each leaf"),
        ({"slopes": np.zeros((3, 1), "uint8")}, "byte for each leaf"),
        ({"slopes": np.zeros((3, 2))}, "byte for each leaf"),
        ({"betas": np.zeros(4)}, "`betas` must have 5 entries"),
        ({"betas": np.zeros(6)}, "`betas` must have 5 entries. Received: 6"),
        ({"betas": np.zeros((5, 1))}, "`betas` must be a list"),
        ({"mix": np.ones((2, 1))}, "a row for each leaf"),
        ({"mix": np.ones(3)}, "a row for each leaf"),
    ],
)
def test_what_does_not_unpack(changed, reason):
    with pytest.raises(ValueError, match=reason):
        Tree.unpack({**PACKED, **{name: np.asarray(value) for name, value in changed.items()}})


@given(kind=st.sampled_from(KINDS), seed=SEEDS)
def test_bounds_hold_whatever_the_tree(kind, seed):
    """Any tree with any multipliers bounds its group over the whole box."""
    rng = np.random.default_rng(seed)
    graph = random_graph(kind, seed % 1000)
    box = random_box(graph, seed, 0.4)
    root = Checker(graph).root(*box)
    neurons = rng.permutation(root.neurons)[:6]
    groups, offset = np.array([0, 1, 1]), rng.normal(size=3)
    trees = [random_tree(rng, neurons, 8, g + 1, g, reach=0.1) for g in (0, 1)]
    found = leaf_bounds(root, FORMS, offset, groups, trees)
    values = graph(sample(*box, 1000)) @ FORMS.T + offset
    bounds = check_trees(root, FORMS, offset, groups, trees)
    np.testing.assert_array_equal(bounds, [part.max() for part in found])
    for group, tree in enumerate(trees):
        mine = np.flatnonzero(groups == group)
        least = np.min([values[:, mine] @ tree.proof(leaf)[2] for leaf in tree.leaves], 0)
        assert bounds[group] >= least.max() - 1e-9
        if bounds[group] < 0:
            assert np.all(values[:, mine].min(1) < 0)


def improved(root, tree, form, rng):
    """The tree closed again with the best of many random multipliers."""
    width, count = len(tree.neurons), 500
    for leaf in tree.leaves:
        signs = np.zeros((count, root.neurons), "int8")
        signs[:, tree.neurons] = signs_of(tree, leaf)
        betas, slopes = np.zeros((count, root.neurons)), np.full((count, root.neurons), np.nan)
        betas[:, tree.neurons] = rng.exponential(size=(count, width))
        betas *= signs * (rng.random(betas.shape) < 0.5)
        slopes[:, tree.neurons] = levels = rng.integers(0, 2, (count, width))
        forms = np.repeat(form[None], count, 0)
        best = root.upper_bounds(forms, np.zeros(count), limits_of(signs), slopes, betas).argmin()
        tree.reopen(leaf)
        tree.close(
            leaf, (255 * levels[best]).astype("uint8"), betas[best, tree.neurons], np.ones(1)
        )
    return tree


@pytest.mark.parametrize("kind", ["dense", "leaky"])
def test_trees_prove_more_than_their_root(kind):
    """Above the maximum from mixed-integer programming; often well below what the root says."""
    closer, rng = 0, np.random.default_rng(0)
    for seed in range(6):
        graph = random_graph(kind, seed)
        box = random_box(graph, seed + 50, 0.4)
        root = Checker(graph).root(*box)
        (plain,) = root.upper_bounds(FORMS[:1], np.zeros(1))
        exact = exact_bound(graph, *box, FORMS[0], 0.0, root.boxes).value
        tree = improved(root, full_tree(root, limit=4), FORMS[0], rng)
        (found,) = check_trees(root, FORMS[:1], np.zeros(1), np.zeros(1, int), [tree])
        assert found >= exact - 1e-6
        closer += plain - exact > 1e-3 and found < plain - 0.1 * (plain - exact)
    assert closer >= 2


def test_conjunctions_need_their_mixture():
    """Of two opposite forms one always fails; neither form alone is below 0 everywhere."""
    root = Checker(random_graph("dense", 1)).root(*random_box(random_graph("dense", 1), 2, 1.0))
    forms = np.stack([FORMS[1], -FORMS[1]])
    middle = root.upper_bounds(forms, np.zeros(2)) @ [0.5, -0.5]
    offset = np.array([-middle - 0.1, middle - 0.1])
    assert np.all(root.upper_bounds(forms, offset) > 0)
    tree = full_tree(root, forms=2, limit=2)
    (bound,) = check_trees(root, forms, offset, np.zeros(2, int), [tree])
    assert bound == pytest.approx(-0.1)


def test_open_and_missing_trees():
    graph = random_graph("dense", 0)
    root = Checker(graph).root(*random_box(graph, 1))
    tree = full_tree(root, 1, limit=2)
    args = root, FORMS, np.zeros(3), np.arange(3)
    bounds = check_trees(*args, [tree])
    assert np.isinf(bounds[[0, 2]]).all()
    assert np.isfinite(bounds[1])
    tree.reopen(tree.leaves[2])
    (leaves,) = leaf_bounds(*args, [tree])
    assert np.isinf(leaves).tolist() == [False, False, True, False]
    assert np.all(check_trees(*args, [tree]) == np.inf)
    assert np.all(check_trees(*args, []) == np.inf)


def test_batches(monkeypatch):
    graph = random_graph("residual", 0)
    root = Checker(graph).root(*random_box(graph, 1))
    args = root, FORMS, np.zeros(3), np.arange(3), [full_tree(root, g, limit=3) for g in (2, 0)]
    whole = leaf_bounds(*args)
    monkeypatch.setattr("keras_taps.verification.certificate.tree_checker._BATCH", 1)
    np.testing.assert_allclose(leaf_bounds(*args), whole, rtol=1e-9)


def test_trees_of_something_else():
    graph = random_graph("dense", 0)
    root = Checker(graph).root(*random_box(graph, 1))
    rng, args = np.random.default_rng(0), (root, FORMS, np.zeros(3), np.arange(3))
    for tree, reason in (
        (random_tree(rng, np.arange(3), 2, group=3), "no group 3"),
        (random_tree(rng, np.arange(3), 2, group=-1), "no group -1"),
        (random_tree(rng, np.array([1, 9]), 2), "beyond the 9"),
        (random_tree(rng, np.arange(3), 2, forms=2), "has 1 forms, not 2"),
    ):
        with pytest.raises(ValueError, match=reason):
            check_trees(*args, [tree])


def test_every_sign_pattern_has_one_leaf():
    """Coverage: however a tree is grown, each vector of signs agrees with exactly one leaf."""
    rng = np.random.default_rng(1)
    for leaves in (1, 2, 5, 16):
        tree = Tree.unpack(random_tree(rng, np.arange(4), leaves).pack())
        signs = np.array([signs_of(tree, leaf) for leaf in tree.leaves])
        for pattern in itertools.product((-1, 1), repeat=4):
            assert np.sum(np.all((signs == 0) | (signs == pattern), 1)) == 1

"""Proof trees of branch and bound: which neurons were split, and the multipliers of each leaf.

The children of a node cut one pre-activation z_j at a point p: z_j <= p in the first, z_j >= p in
the second. Every input lies in one of them, so the leaves of a binary tree cover the box whatever
its nodes split; that is all that a tree has to be. A ReLU is split at 0, a curve at any point and
again in its parts. What a leaf claims is not believed: the checker bounds it again from its slopes
and multipliers, and any of those are sound.

Growing, storing and reading are in one long file, because they agree on one order of nodes.
"""

from dataclasses import dataclass

import numpy as np

from keras_taps.verification.certificate.lines import multipliers

_ARRAYS = ("group", "neurons", "preorder", "slopes", "betas", "mix")


@dataclass(slots=True)
class _Node:
    """The edge from the parent: a `side` of `point` at `place`; `split`: the place split here."""

    parent: int
    place: int
    side: int
    point: float
    split: int = -1
    children: tuple = None
    proof: tuple = None  # slopes, betas along the path, mix


class Tree:
    """The proof that one group of forms is impossible in a box.

    A leaf is proved by a convex combination of the forms of the group whose bound is below 0: at
    no input of the leaf are all of them >= 0.

    Args:
        group: Number of the group in its task.
        neurons: Integer array `(U,)`, different numbers: the neurons that may be split and that
            have slopes of their own, those that are unstable at the root.

    Attributes:
        group: Number of the group.
        neurons: Integer array `(U,)`.
        root: Number of the root, 0.

    Raises:
        ValueError: If `neurons` are no different numbers >= 0.

    Example:

    >>> tree = Tree(0, [3, 7])
    >>> below, above = tree.split(tree.root, 7, 0.5)
    >>> [limit.tolist() for limit in tree.limits(below)]
    [[-inf, -inf], [inf, 0.5]]
    >>> for node in (below, above):
    ...     tree.close(node, np.zeros(2, "uint8"), np.zeros(2), np.ones(1))
    >>> tree.complete, Tree.unpack(tree.pack()).pack()["preorder"].tolist()
    (True, [7, -1, -1])

    References:
        Bunel et al. 2020, branch and bound; Wang et al. 2021, beta-CROWN; Shi et al., "Neural
        Network Verification with Branch-and-Bound for General Nonlinearities" (GenBaB), 2024.
    """

    root = 0

    def __init__(self, group, neurons):
        self.group = int(group)
        self.neurons = _integers("neurons", neurons).astype("int64")
        self._places = {int(neuron): place for place, neuron in enumerate(self.neurons)}
        if len(self._places) < len(self.neurons) or np.any(self.neurons < 0):
            raise ValueError("`neurons` must be different numbers >= 0.")
        self._nodes = [_Node(-1, -1, 0, 0.0)]
        self._open = {self.root: None}  # an ordered set

    def split(self, node, neuron, point=0.0):
        """Split an open node.

        Args:
            node: Number of an open node.
            neuron: Number of a neuron, one of `neurons`.
            point: Where it is split: a number strictly between the points at which nodes above
                split the same neuron.

        Returns:
            `(below, above)`: numbers of the children, z <= point and z >= point.

        Raises:
            ValueError: If the node is not open, or may not be split so.
        """
        self._check_open(node)
        place, point = self._places.get(int(neuron)), float(point)
        if place is None:
            raise ValueError(f"Neuron {int(neuron)} is none of the neurons of the tree.")
        floor, ceiling = (limit[place] for limit in self.limits(node))
        if not floor < point < ceiling or not np.isfinite(point):
            raise ValueError(
                f"Neuron {int(neuron)} is split at {point}, which must be a number strictly "
                f"between {floor} and {ceiling}, where it is split above."
            )
        first = len(self._nodes)
        self._nodes += [_Node(node, place, side, point) for side in (-1, 1)]
        self._nodes[node].split, self._nodes[node].children = place, (first, first + 1)
        del self._open[node]
        self._open.update({first: None, first + 1: None})
        return first, first + 1

    def close(self, node, slopes, betas, mix):
        """Mark an open node as proved by these multipliers.

        Args:
            node: Number of an open node.
            slopes: uint8 array `(U,)` from `quantise`.
            betas: Array `(U,)`, the multipliers of the splits: positive where they are of z >= the
                nearest point, negative of z <= it; others do not count.
            mix: Array `(m,)` >= 0, the weights of the forms of the group, in the order in which
                the task has them.

        Raises:
            ValueError: If the node is not open or the slopes are no bytes of the neurons.
        """
        places, sides, _ = self.path(node)
        along = np.zeros(len(places))
        # Of several splits of a neuron to one side the last is the nearest.
        nearest = {pair: at for at, pair in enumerate(zip(places, sides, strict=True))}
        for (place, side), at in nearest.items():
            along[at] = max(side * betas[place], 0.0)
        self._put(node, slopes, along, mix)

    def reopen(self, node):
        """Take back that a node was proved, when its bound did not stand a check."""
        if self._nodes[node].proof is None:
            raise ValueError(f"Node {node} is not closed.")
        self._nodes[node].proof = None
        self._open[node] = None

    @property
    def open_nodes(self):
        """List of the nodes that are neither split nor proved."""
        return list(self._open)

    @property
    def complete(self):
        """Whether every leaf is proved."""
        return not self._open

    @property
    def leaves(self):
        """List of the nodes that are not split, in preorder: below a point before above it."""
        return [node for node in self._preorder() if self._nodes[node].children is None]

    def path(self, node):
        """Places in `neurons`, sides (-1 below, 1 above) and points of the splits from the root."""
        found = []
        while node != self.root:
            own = self._nodes[node]
            found.append((own.place, own.side, own.point))
            node = own.parent
        return tuple([split[part] for split in reversed(found)] for part in range(3))

    def limits_of_all(self, node, count):
        """`limits` among those of all `count` neurons of a network: two arrays `(count,)`."""
        found = np.full(count, -np.inf), np.full(count, np.inf)
        for side, own in zip(found, self.limits(node), strict=True):
            side[self.neurons] = own
        return found

    def limits(self, node):
        """Between which points the splits above a node fix each neuron.

        Returns:
            `(floor, ceiling)`: float64 arrays `(U,)`, infinite where nothing is fixed.
        """
        found = np.full(len(self.neurons), -np.inf), np.full(len(self.neurons), np.inf)
        while node != self.root:
            own = self._nodes[node]
            side = found[own.side < 0]
            if np.isinf(side[own.place]):  # on the way up the nearest comes first
                side[own.place] = own.point
            node = own.parent
        return found

    def proof(self, node):
        """What a closed node was closed with.

        Returns:
            `(slopes, betas, mix)`: uint8 `(U,)`, float64 `(U,)` with the signs that `close` takes,
            float32 `(m,)`; `None` if it is open.
        """
        if self._nodes[node].proof is None:
            return None
        slopes, along, mix = self._nodes[node].proof
        places, sides, _ = self.path(node)
        betas = np.zeros(len(self.neurons))
        np.add.at(betas, np.array(places, int), np.array(sides) * multipliers(along))
        return slopes, betas, mix

    def pack(self):
        """The tree as a dictionary of arrays; betas hold what is not 0 by structure.

        Returns:
            `group`; `neurons` `(U,)`; `preorder`, for each node the neuron that it splits or -1 for
            a leaf, a child below before the one above; `points`, for each split where it is, unless
            all are 0; for the leaves in this order `slopes` `(leaves, U)`, `betas`, those along
            each path from the root one after the other, and `mix` `(leaves, m)`.

        Raises:
            ValueError: If a leaf is open.
        """
        if not self.complete:
            raise ValueError(f"{len(self._open)} leaves of the tree are not proved.")
        order = self._preorder()
        split = [self._nodes[node].split for node in order]
        inner = (self._nodes[node].children for node in order)
        points = np.array([self._nodes[pair[0]].point for pair in inner if pair])
        proofs = [node.proof for node in (self._nodes[i] for i in order) if node.children is None]
        slopes, betas, mix = zip(*proofs, strict=True)
        return {
            "group": np.array(self.group),
            "neurons": self.neurons.astype("int32"),
            "preorder": np.array([-1 if s < 0 else self.neurons[s] for s in split], "int32"),
            **({"points": points} if points.any() else {}),
            "slopes": np.stack(slopes),
            "betas": np.concatenate(betas),
            "mix": np.stack(mix),
        }

    @classmethod
    def unpack(cls, packed):
        """The tree that `pack` took apart.

        Args:
            packed: Dictionary of arrays, from whatever source; without `points` all are 0.

        Returns:
            `Tree`, complete.

        Raises:
            ValueError: If this is no binary tree on its neurons with a proof a leaf.
        """
        missing = [name for name in _ARRAYS if name not in packed]
        if missing:
            raise ValueError(f"The tree lacks {', '.join(missing)}.")
        tree = cls(_whole("group", packed["group"]), packed["neurons"])
        preorder = _integers("preorder", packed["preorder"])
        points = np.asarray(packed.get("points", np.zeros(np.sum(preorder != -1))))
        if points.dtype != np.float64 or points.shape != (np.sum(preorder != -1),):
            raise ValueError("`points` must hold a number for each split.")
        betas = np.asarray(packed["betas"])
        if betas.ndim != 1:
            raise ValueError(f"`betas` must be a list. Received: shape {betas.shape}")
        leaves, depths = tree._grow(preorder, iter(points.tolist()), len(betas))
        slopes = np.asarray(packed["slopes"])
        if slopes.dtype != np.uint8 or slopes.shape != (len(leaves), len(tree.neurons)):
            raise ValueError("`slopes` must hold a byte for each leaf and neuron.")
        mix = np.asarray(packed["mix"])
        if mix.ndim != 2 or len(mix) != len(leaves):
            raise ValueError("`mix` must have a row for each leaf.")
        parts = np.split(betas, np.cumsum(depths)[:-1])
        for leaf, *proof in zip(leaves, slopes, parts, mix, strict=True):
            tree._put(leaf, *proof)
        return tree

    def _grow(self, preorder, points, betas):
        """Split as `preorder` says, at these points; the leaves, in its order, and their depths.

        What the file has `betas` for bounds the tree, before a larger one has taken the memory.
        """
        waiting, leaves, depths, needed = [(self.root, 0)], [], [], 0
        for neuron in map(int, preorder):
            if not waiting:
                raise ValueError("`preorder` goes on after the end of the tree.")
            node, depth = waiting.pop()
            if neuron == -1:
                leaves.append(node)
                depths.append(depth)
                continue
            needed += depth + 2  # two paths of depth + 1 in place of one of depth
            if needed > betas:
                raise ValueError(f"`betas` must have {needed} entries at least. Received: {betas}")
            below, above = self.split(node, neuron, next(points))
            waiting += [(above, depth + 1), (below, depth + 1)]
        if waiting:
            raise ValueError("`preorder` ends before the tree does.")
        if needed < betas:
            raise ValueError(f"`betas` must have {needed} entries. Received: {betas}")
        return leaves, depths

    def _put(self, node, slopes, betas, mix):
        self._check_open(node)
        slopes = np.asarray(slopes)
        if slopes.dtype != np.uint8 or slopes.shape != self.neurons.shape:
            raise ValueError(
                f"`slopes` must be {len(self.neurons)} bytes. "
                f"Received: {slopes.dtype} of shape {slopes.shape}"
            )
        betas, mix = np.array(betas, "float32"), np.array(mix, "float32")
        self._nodes[node].proof = slopes.copy(), betas, mix
        del self._open[node]

    def _check_open(self, node):
        if node not in self._open:
            raise ValueError(f"Node {node} is not open.")

    def _preorder(self):
        waiting, found = [self.root], []
        while waiting:
            node = waiting.pop()
            found.append(node)
            waiting += reversed(self._nodes[node].children or ())
        return found


def _integers(name, values):
    values = np.asarray(values)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise ValueError(f"`{name}` must be a list of whole numbers.")
    return values.astype("int64")


def _whole(name, value):
    value = np.asarray(value)
    if value.ndim or value.dtype.kind not in "iu":
        raise ValueError(f"`{name}` must be a whole number.")
    return int(value)

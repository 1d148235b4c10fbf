"""One input in branch and bound: its rigorous root, the trees that grow, and what they proved."""

import numpy as np

from keras_taps.verification.certificate.deadline import NEVER, OutOfTime
from keras_taps.verification.certificate.levels import dequantise, quantise
from keras_taps.verification.certificate.schema import CERTIFIED
from keras_taps.verification.certificate.tree import Tree
from keras_taps.verification.certificate.tree_checker import bound_leaves, leaf_bounds
from keras_taps.verification.graph.unsafe import worst_of
from keras_taps.verification.search.boxes import covering
from keras_taps.verification.search.branching import Sites
from keras_taps.verification.search.domain_engine import Domains


class Instance:
    """A task with everything that its domains share.

    Args:
        task: Open `Task`.
        checker: `Checker` of the graph.
        check: Whether leaves must be confirmed by the checker.
        deadline: `Deadline` for the root; where it passes, `OutOfTime` is raised.
        boxes: Rigorous boxes of the neurons, if the checker has derived them before.
        sloped: Function from a task and these boxes to slopes of its forms, for networks with
            curves if the task has none.

    If the task has trees, the search goes on from them: they prove less than it asks.

    Attributes:
        task: The task.
        root: `RootBox`: rigorous boxes of all N neurons.
        known: Pair of arrays `(N,)`, the boxes of all neurons that domains start from.
        neurons: Integer array `(U,)`, those that can be split in the whole box.
        sites: `Sites` of the graph.
        forms: Dictionary from each group that is left to the indices of its forms.
        trees: Dictionary from each group that is left to its `Tree`.
        domains: Domains bounded so far.
        stuck: Whether the boxes are not finite, or a domain without a free neuron could not be
            decided: then the task can only be falsified.
    """

    def __init__(self, task, checker, check=True, deadline=NEVER, boxes=None, sloped=None):
        self.task, self.check = task, check
        self.root = checker.root(*task.query.box, deadline, boxes)
        self.sites = Sites(checker.graph)
        self.known = covering(self.root.lower, self.root.upper)
        self.box = covering(*task.query.box)
        self.stuck = not np.isfinite([self.root.lower, self.root.upper]).all()
        self.neurons = np.flatnonzero(self.sites.splits(*self.known))
        if self.sites.curves and task.slopes is None and not self.stuck:
            task.slopes = sloped(task, self.root.boxes)
        bounds = self.root.upper_bounds(task.query.forms, task.query.offset, slopes=task.slopes)
        worst = worst_of(task.query.groups, bounds)
        self.proved = list(worst[worst < 0])
        left = np.flatnonzero(~(worst < 0))
        self.forms = {int(g): np.flatnonzero(task.query.groups == g) for g in left}
        self.trees = {group: Tree(group, self.neurons) for group in self.forms}
        self._ranges = [side[self.neurons] for side in self.root.slope_ranges]
        self.domains, self._closed_with = 0, {}
        self._reopen(task.trees or ())

    def _reopen(self, trees):
        """Go on from trees: open their leaves that are not proved, and know their multipliers."""
        query, known = self.task.query, self.neurons
        trees = [t for t in trees if t.group in self.forms and np.array_equal(t.neurons, known)]
        found = leaf_bounds(self.root, query.forms, query.offset, query.groups, trees)
        for tree, bounds in zip(trees, found, strict=True):
            self.trees[tree.group] = tree
            self.proved += bounds[bounds < 0].tolist()
            for leaf in np.array(tree.leaves)[~(bounds < 0)].tolist():
                self._closed_with[tree.group, leaf] = tree.proof(leaf)[:2]
                tree.reopen(leaf)

    def starts(self):
        """Of each open node `(group, node, slopes, betas)` to begin with, `(U,)` each."""
        for group, tree in self.trees.items():
            for node in tree.open_nodes:
                usual = self.start_slopes(group), np.zeros(len(self.neurons))
                yield group, node, *self._closed_with.get((group, node), usual)

    def start_slopes(self, group):
        """Slopes to begin with, as bytes: those of alpha-CROWN, or of CROWN."""
        usual = self.root.usual_slopes()
        if self.task.slopes is not None:
            given = self.task.slopes[self.forms[group][0]]
            usual = np.where(np.isnan(given), usual, given)
        return self.packed(usual)

    def packed(self, slopes):
        """Slopes `(N,)` as bytes `(U,)`."""
        return quantise(slopes[self.neurons], *self._ranges)

    def unpacked(self, levels):
        """The slopes of bytes `(U,)`."""
        return dequantise(levels, *self._ranges)

    def limits(self, group, node):
        """Limits `(N,)` of all neurons at a node of the tree of a group."""
        return self.trees[group].limits_of_all(node, self.root.neurons)

    def within(self, group, node):
        """Bounds `(N,)` of all pre-activations at a node."""
        (low, high), (floor, ceiling) = self.known, self.limits(group, node)
        return np.maximum(low, floor), np.minimum(high, ceiling)

    def free(self, group, node):
        """Whether a neuron is left to split."""
        return bool(np.any(self.sites.splits(*self.within(group, node))[self.neurons]))

    def pattern(self, group, node):
        """Signs of all ReLUs of a domain without a free one, and which are constraints."""
        floor, ceiling = self.limits(group, node)
        fixed = np.isfinite(floor) * 1 - np.isfinite(ceiling)
        known = np.where(self.known[0] >= 0, 1, -1)
        return np.where(fixed, fixed, known).astype("int8"), fixed != 0

    def padded_forms(self, group, count):
        """Forms `(count, outputs)` and offsets of a group, the first repeated to fill."""
        chosen = self.forms[group]
        chosen = np.pad(chosen, (0, count - len(chosen)), constant_values=chosen[0])
        return self.task.query.forms[chosen], self.task.query.offset[chosen]

    def own_mix(self, group, mix):
        """Weights of forms and of those that fill up, with the latter added to the first form's."""
        mix, count = np.where(np.isfinite(mix), mix, 0.0), len(self.forms[group])
        mix[0] += mix[count:].sum()
        mix[count:] = 0.0
        return mix

    # Proofs

    def close(self, groups, nodes, slopes, betas, mix, bounds):
        """Close nodes of trees that the checker confirms; the bounds it found, else as given."""
        size, task = len(self.neurons), self.task
        leaves = [(self.trees[g], int(node)) for g, node in zip(groups, nodes, strict=True)]
        for row, (tree, node) in enumerate(leaves):
            own = mix[row, : len(self.forms[tree.group])]
            tree.close(node, slopes[row, :size], betas[row, :size], own)
        if self.check:  # what is in the trees, as whoever reads them later
            given = task.query.forms, task.query.offset, task.query.groups
            try:
                bounds = bound_leaves(self.root, *given, leaves)
            except OutOfTime:
                bounds = np.full(len(leaves), np.inf)
        for row in np.flatnonzero(~(bounds < 0)):
            tree, node = leaves[row]
            tree.reopen(node)
        self.proved += [float(bound) for bound in bounds[bounds < 0]]
        return bounds

    def finish(self, stage):
        """Certify the task if every tree is complete; whether it has a verdict."""
        if self.task.verdict is None and all(tree.complete for tree in self.trees.values()):
            self.task.trees = list(self.trees.values())
            self.task.bound = float(max(self.proved, default=-np.inf))
            self.task.method, self.task.checked = "bab", self.check
            self.task.decide(CERTIFIED, stage)
        return self.task.verdict is not None


def gather(instances, part):
    """The domains of a batch in the layout of the engine.

    Args:
        instances: Dictionary from a number to its `Instance`.
        part: Fields of the batch, as the pool has them.

    Returns:
        `Domains`.
    """
    owners, groups = [instances[number] for number in part["instance"]], part["group"]
    shape = len(owners), owners[0].root.neurons
    low, high = (np.stack(side) for side in zip(*(own.known for own in owners), strict=True))
    limits = [own.limits(*at) for own, *at in zip(owners, groups, part["node"], strict=True)]
    floor, ceiling = (np.stack(side) for side in zip(*limits, strict=True))
    slopes, betas = np.full(shape, np.nan, "float32"), np.zeros(shape, "float32")
    for row, instance in enumerate(owners):
        mine, size = instance.neurons, len(instance.neurons)
        slopes[row, mine] = instance.unpacked(part["slopes"][row, :size])
        betas[row, mine] = part["betas"][row, :size]
    most = part["mix"].shape[1]
    forms = [instance.padded_forms(g, most) for instance, g in zip(owners, groups, strict=True)]
    return Domains(
        lower=np.stack([instance.box[0] for instance in owners]),
        upper=np.stack([instance.box[1] for instance in owners]),
        forms=np.stack([rows for rows, _ in forms]),
        offset=np.stack([offset for _, offset in forms]),
        low=low,
        high=high,
        floor=floor,
        ceiling=ceiling,
        slopes=slopes,
        betas=betas,
        mix=part["mix"],
    )

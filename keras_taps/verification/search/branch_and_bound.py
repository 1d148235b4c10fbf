"""Complete verification by branch and bound: domains of many inputs and classes share a batch.

A domain has some pre-activations between limits. Its bound is a Lagrangian with multipliers for
those limits; where it is not below 0, one more neuron is split: a ReLU at 0, a curve at a point,
and again in its parts. A domain whose ReLUs are all split is a linear program. Proofs are trees,
each of whose leaves the float64 checker bounds again before it counts; they alone know the limits.
Boxes of neurons are those of the whole input. One loop owns pool, clock and memory: a long class.
"""

import time

import numpy as np

from keras_taps.checks import check_choice
from keras_taps.choices import BRANCHINGS, MEMORY
from keras_taps.verification.certificate.deadline import Deadline, OutOfTime
from keras_taps.verification.search.branching import (
    Sites,
    best_places,
    gap_scores,
    known_places,
    line_scores,
    local_biases,
)
from keras_taps.verification.search.domain_engine import DomainEngine
from keras_taps.verification.search.instance import Instance, gather
from keras_taps.verification.search.pool import Pool
from keras_taps.verification.search.split_lp import split_lp

SIZES = (16, 128)  # domains at a time: one compilation each
CANDIDATES = 3  # best neurons of each score that are tried
LEVELS = 3  # most splits at once while there are few domains


class BranchAndBound:
    """Branch and bound on the ReLUs and curves of one network.

    Args:
        graph: `Graph` without pooling by maxima.
        checker: `Checker` of the graph.
        attempt: Called as `attempt(task, points)` with float inputs `(count, ...)` at which a form
            seems to reach 0; it decides the task if one is a counterexample.
        check: Whether a leaf must be confirmed by the float64 checker.
        iterations: Steps of the optimiser for each domain.
        branching: 'babsr' or 'upb'; 'gap', by what each neuron adds to the bound at its maximiser;
            'kfsb', which bounds the children of the best few by babsr and gap and takes the best.
        sizes: Domains at a time, ascending.
        memory: Bytes for open domains; then the input with most is given up.
        charge_compilation: Whether the seconds of a task include compilation.
        clock: Function that returns the seconds now.

    Attributes:
        nodes: Domains bounded so far.

    References:
        Bunel et al., "Branch and Bound for Piecewise Linear Neural Network Verification", 2020;
        Wang et al., "Beta-CROWN", 2021; De Palma et al., "Improved Branch and Bound for Neural
        Network Verification via Lagrangian Decomposition" (filtered smart branching), 2021; Shi et
        al., "Neural Network Verification with Branch-and-Bound for General Nonlinearities"
        (GenBaB), 2024.
    """

    def __init__(
        self,
        graph,
        checker,
        attempt,
        check=True,
        iterations=10,
        branching="kfsb",
        sizes=SIZES,
        memory=MEMORY,
        charge_compilation=False,
        clock=time.perf_counter,
    ):
        self.checker, self.attempt, self.check = checker, attempt, check
        self.engine = DomainEngine(graph, sizes[0])
        self.iterations = iterations
        self.branching = check_choice("branching", branching, BRANCHINGS)
        self.charge_compilation, self.clock = charge_compilation, clock
        self.sizes, self.memory = sizes, memory
        self.nodes = 0
        self.look_at(graph)

    def look_at(self, graph):
        """Take a graph whose weights are those of the engine."""
        self.graph, self.sites, self._biases = graph, Sites(graph), local_biases(graph)

    def solve(self, tasks, timeout=np.inf, budget=None, account="bab", most=np.inf):
        """Decide tasks, or leave them open when their time is up.

        Args:
            tasks: List of open `Task`; from trees that one has, the search goes on.
            timeout: Seconds a task, everything spent on it before included.
            budget: Seconds a task in branch and bound, earlier calls included.
            account: Name under which its seconds are booked.
            most: Domains of a task after which it is left open, when their batch is bounded.
        """
        limits = account, timeout, np.inf if budget is None else budget
        instances = {}
        for number, task in enumerate(tasks):
            left = _left(task, *limits)
            if left <= 0:
                continue
            began, deadline = self.clock(), Deadline.after(left, self._clock)
            try:
                given = self.check, deadline, task.proved, self.engine.sloped
                instance = Instance(task, self.checker, *given)
            except OutOfTime:
                task.spend(account, self.clock() - began)
                continue
            task.spend(account, self.clock() - began)
            if not instance.finish(account) and not instance.stuck:
                instances[number] = instance
        if not instances:
            return
        widest = max(max(len(instance.neurons) for instance in instances.values()), 1)
        members = max(len(forms) for each in instances.values() for forms in each.forms.values())
        pool = Pool.of_domains(widest, members, 2 * CANDIDATES)
        begun = False
        while instances:
            began, compiled = self.clock(), self.engine.compile_s
            for instance in instances.values():
                instance.root.deadline = Deadline.after(_left(instance.task, *limits), self._clock)
            fresh = self._children(instances, pool) if begun else self._roots(instances, pool)
            begun = True
            self._expand(instances, pool, fresh)
            spent = self.clock() - began
            if not self.charge_compilation:
                spent -= self.engine.compile_s - compiled
            shares = np.bincount(fresh["instance"], minlength=len(tasks)) / len(fresh["instance"])
            for number in np.flatnonzero(shares):
                tasks[number].spend(account, float(spent * shares[number]))
            self._leave(instances, pool, limits, most)

    def _clock(self):
        """Seconds now, without those that are not charged."""
        return self.clock() - (0.0 if self.charge_compilation else self.engine.compile_s)

    # One step

    def _roots(self, instances, pool):
        """The domains to begin with: what is open of each class that is left."""
        starts = [(number, *start) for number, own in instances.items() for start in own.starts()]
        fields = {name: _blank(array, len(starts)) for name, array in pool.arrays.items()}
        fields["bound"][:] = np.inf
        fields["mix"][:] = 1.0
        for row, (number, group, node, *own) in enumerate(starts):
            fields["instance"][row], fields["group"][row], fields["node"][row] = number, group, node
            for name, values in zip(("slopes", "betas"), own, strict=True):
                fields[name][row, : len(values)] = values
        return fields

    def _expand(self, instances, pool, fresh):
        """Bound new domains; prove, refute or keep each."""
        for start in range(0, len(fresh["bound"]), self.sizes[-1]):
            part = {name: values[start : start + self.sizes[-1]] for name, values in fresh.items()}
            alive = np.array([instances[n].task.verdict is None for n in part["instance"]], bool)
            part = {name: values[alive] for name, values in part.items()}
            if not len(part["bound"]):
                continue
            if all(instances[n].root.deadline.left <= 0 for n in part["instance"]):
                part["choices"][:] = -1  # they are to be bounded before they are split
                pool.add(**part)
                continue
            linear = self._bound(instances, part)
            self._close(instances, part)
            self._keep(instances, pool, part, linear)

    def _bound(self, instances, part):
        """Bound a batch, write what was found into its fields; which domains cannot be split."""
        domains = zip(*(part[n] for n in ("instance", "group", "node")), strict=True)
        free = np.array([instances[number].free(*domain) for number, *domain in domains], bool)
        # With curves no domain is linear: it is bounded and cannot be split.
        bounded = free | bool(self.sites.curves)
        chosen = np.flatnonzero(bounded)
        if len(chosen):
            self.nodes += len(chosen)
            for number in part["instance"][chosen]:
                instances[number].domains += 1
            some = {name: values[chosen] for name, values in part.items()}
            domains = gather(instances, some)
            steps = self.iterations * (2 if self.sites.curves else 1)  # lines of curves take more
            found = self.engine.domains(domains, self._size(len(chosen)), steps)
            self._try(instances, some, found)
            self._write(instances, some, domains, found)
            for name, values in some.items():
                part[name][chosen] = values
        for row in np.flatnonzero(~bounded):
            self._linear(instances, part, row)
        return ~free

    def _size(self, count):
        """The smallest batch that holds so many domains."""
        return next(size for size in self.sizes if size >= count)

    def _try(self, instances, part, found):
        """Show the attack's points to the tasks they may falsify."""
        reached = np.flatnonzero(found.values >= -1e-6)
        for number in np.unique(part["instance"][reached]):
            mine, task = reached[part["instance"][reached] == number], instances[number].task
            if task.verdict is None:
                self.attempt(task, found.points[mine])

    def _write(self, instances, part, domains, found):
        low = np.maximum(domains.low, domains.floor)
        high = np.minimum(domains.high, domains.ceiling)
        splits = self.sites.splits(low, high)
        own = self.sites.kinks, self._biases
        estimates = line_scores(self.branching, found.rows, low, high, *own)
        bends, values = self.sites.bends(low, high), self.sites.values(found.inner)
        estimates += np.abs(found.rows) * np.where(np.isinf(bends), 0.0, bends)
        scores = estimates, gap_scores(found.rows, found.outer, values, splits, bends)
        ranked = [np.where(splits, np.fmax(score, 1e-30), 0.0) for score in scores]
        bounds = np.where(np.isfinite(found.bounds), found.bounds, np.inf)
        # A child is part of its parent, whatever rounding and unfinished descent say.
        part["bound"] = np.minimum(part["bound"], bounds)
        for row, number in enumerate(part["instance"]):
            instance = instances[number]
            count = len(instance.neurons)
            betas = found.betas[row, instance.neurons]
            part["slopes"][row, :count] = instance.packed(found.slopes[row])
            part["betas"][row, :count] = np.where(np.isfinite(betas), betas, 0.0)
            part["mix"][row] = instance.own_mix(int(part["group"][row]), found.mix[row])
            part["choices"][row] = best_places(
                [score[row, instance.neurons] for score in ranked], CANDIDATES
            )

    def _linear(self, instances, part, row):
        """A domain without a free neuron: its linear program has the last word."""
        instance, group = instances[part["instance"][row]], part["group"][row]
        pattern, constrained = instance.pattern(group, part["node"][row])
        forms = instance.forms[group]
        found = split_lp(
            self.graph,
            instance.task.query.lower,
            instance.task.query.upper,
            instance.task.query.forms[forms],
            instance.task.query.offset[forms],
            pattern,
            constrained,
        )
        if found.point is not None and instance.task.verdict is None:
            self.attempt(instance.task, found.point[None])
        part["bound"][row] = found.bound
        part["mix"][row, : len(forms)] = found.mix
        part["betas"][row, : len(instance.neurons)] = (pattern * found.betas)[instance.neurons]

    def _close(self, instances, part):
        """Prove the domains whose bound is below 0; those the checker does not confirm stay."""
        for number in np.unique(part["instance"]):
            instance = instances[number]
            mine = np.flatnonzero((part["instance"] == number) & (part["bound"] < 0))
            if not len(mine) or instance.task.verdict is not None:
                continue
            part["bound"][mine] = instance.close(
                part["group"][mine],
                part["node"][mine],
                part["slopes"][mine],
                part["betas"][mine],
                part["mix"][mine],
                part["bound"][mine],
            )

    def _keep(self, instances, pool, part, linear):
        rows = np.flatnonzero(~(part["bound"] < 0))
        for row in rows[linear[rows]]:
            instances[part["instance"][row]].stuck = True  # a tie, or rounding: no split is left
        rows = rows[~linear[rows]]
        if len(rows):
            pool.add(**{name: part[name][rows] for name in pool.arrays})

    def _leave(self, instances, pool, limits, most):
        """Take out what is decided or has no time left, and the largest if memory is short."""
        counts = pool.counts()
        for number, instance in list(instances.items()):
            over = _left(instance.task, *limits) <= 0 or instance.domains >= most
            if instance.finish(limits[0]) or number not in counts or over:
                if instance.task.verdict is None and number not in counts and not instance.stuck:
                    raise RuntimeError("Branch and bound lost a domain.")
                del instances[number]
                pool.drop(number)
        while len(pool) * pool.bytes > self.memory:
            counts = pool.counts()
            largest = max(counts, key=counts.get)
            del instances[largest]
            pool.drop(largest)

    # Splits

    def _children(self, instances, pool):
        """Split the worst domains of every instance; several levels at once while there are few."""
        slots = self.sizes[-1]
        levels = 1
        while levels < LEVELS and len(pool) * 2 ** (levels + 1) <= slots:
            levels += 1
        parents = pool.take(pool.best(max(slots // 2**levels, 1)))
        rows, nodes = [], []
        for row, choices in enumerate(self._ordered(instances, parents)):
            instance, group = instances[parents["instance"][row]], parents["group"][row]
            grown = [int(parents["node"][row])]
            low, high = instance.within(group, grown[0])
            for neuron in instance.neurons[choices[:levels]]:
                point = self.sites.point(neuron, low[neuron], high[neuron])
                grown = [
                    child
                    for node in grown
                    for child in instance.trees[group].split(node, neuron, point)
                ]
            rows += [row] * len(grown)
            nodes += grown
        children = {name: values[rows] for name, values in parents.items()}
        children["node"] = np.array(nodes, "int32")
        return children

    def _ordered(self, instances, parents):
        """For each domain the neurons to split, best first, by their places in the instance."""
        choices = parents["choices"]
        if self.branching in ("babsr", "upb"):
            return [known_places(row[:CANDIDATES]) for row in choices]
        if self.branching == "gap":
            return [known_places(row[CANDIDATES:]) for row in choices]
        unique = [list(dict.fromkeys(known_places(row).tolist())) for row in choices]
        unique = [np.array(places, int) for places in unique]
        rows = np.repeat(np.arange(len(unique)), [2 * len(places) for places in unique])
        at = np.concatenate(
            [
                np.repeat(instances[number].neurons[places], 2)
                for number, places in zip(parents["instance"], unique, strict=True)
            ]
        )
        bounds = np.full(len(rows), np.inf)
        for start in range(0, len(rows), self.sizes[-1]):
            chosen = slice(start, start + self.sizes[-1])
            domains = gather(instances, {n: values[rows[chosen]] for n, values in parents.items()})
            self.sites.split(domains, at[chosen])
            found = self.engine.quick(domains, self._size(len(domains.low)))
            bounds[start : start + len(found)] = np.where(np.isfinite(found), found, np.inf)
        # A child that is proved already is worth as much as one at 0.
        pairs, start, ordered = np.maximum(bounds.reshape(-1, 2), 0.0), 0, []
        for places in unique:
            mine = pairs[start : start + len(places)]
            start += len(places)
            ordered.append(places[np.lexsort((mine.sum(1), mine.max(1)))])
        return ordered


def _left(task, account, timeout, budget):
    """Seconds that a task has left."""
    return min(timeout - task.total_seconds, budget - task.seconds.get(account, 0.0))


def _blank(array, count):
    return np.zeros_like(array, shape=(count, *array.shape[1:]))

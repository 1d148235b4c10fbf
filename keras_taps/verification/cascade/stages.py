"""The stages of verification, cheapest first; each works on many open tasks at a time.

All are in one file, long as it is, so that their order and what they share can be read at once.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.cascade.attacks import Attacks, gathered
from keras_taps.verification.cascade.deployer import Deployer
from keras_taps.verification.cascade.judge import Judge
from keras_taps.verification.cascade.options import Options
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.cascade.tightener import Tightener, tightens
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.deadline import NEVER, Deadline, OutOfTime
from keras_taps.verification.certificate.schema import CERTIFIED, FALSIFIED
from keras_taps.verification.exact.milp import exact_verdict
from keras_taps.verification.graph.distance import has_distances
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.unpool import without_pooling
from keras_taps.verification.graph.unsafe import Unsafe, safe, worst_of
from keras_taps.verification.search.boxes import covering, within
from keras_taps.verification.search.branch_and_bound import BranchAndBound
from keras_taps.verification.search.tighten import TighteningEngine

QUICK = {"steps": 20, "restarts": 1}
TOGETHER = 64  # inputs in one branch and bound
STRONG = {"steps": 100, "restarts": 20}  # for each class left twice the paper's 5 x 200 steps
FIRST = 0.3  # of the time that is left: branch and bound, before boxes are tightened by cases
STRONG_SHARE = 0.25  # of the timeout, so that the complete stages have the rest


class Verifier:
    """Everything that is compiled or read once for a network.

    Args:
        graph: `Graph`.
        own_outputs: Function from inputs `(batch, ...)` to the outputs of the model in its own
            precision, which a counterexample must break too; by default the float32 network that
            is built from the graph.
        strong: Arguments `steps` and `restarts` of the strong attack.
        deployed: Whether what a stage proves of the network of the reals is worth a search, by
            branch and bound, for a proof of the float32 network too.
        charge_compilation: Whether the seconds of a task include compilation.
        clock: Function that returns the seconds now.
        **options: Fields of `Options`.
    """

    def __init__(
        self,
        graph: Graph,
        own_outputs: Callable[[np.ndarray], np.ndarray] | None = None,
        *,
        strong: Mapping[str, int] = STRONG,
        deployed: bool = False,
        charge_compilation: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ):
        self.options = Options.of(options)
        self.graph = graph
        self.network = build_network(graph)
        self.engine = TighteningEngine(self.network, self.options.batch_size)
        self.checker = Checker(graph)
        self.strong, self.deployed = strong, deployed
        self.charge_compilation, self.clock = charge_compilation, clock
        checker = self.checker if self.options.check else None
        self._tightener = Tightener(self.engine, checker, self._charged_clock)
        self._branch_and_bound: BranchAndBound | None = None
        self._deployer = Deployer(self.checker, self.branch_and_bound, clock)
        self._attacks = Attacks(self.network, self.engine, self.options.seed)
        self._judge = Judge(graph, self.checker, own_outputs or self._attacks.outputs)

    @property
    def batch_size(self) -> int:
        """Boxes at a time."""
        return self.engine.batch_size

    def run(
        self,
        stage: str,
        tasks: Sequence[Task],
        timeout: float | None = None,
        after: Callable[[Sequence[Task]], object] | None = None,
        budget: float | None = None,
    ) -> None:
        """Send open tasks through one stage, in batches.

        Args:
            stage: One of `STAGES`.
            tasks: List of `Task`; those with a verdict are left alone.
            timeout: Seconds a task; one that has used them up is left alone.
            after: Called with the tasks of each batch after it.
            budget: Seconds a task in branch and bound, all its calls together; in 'alpha-crown'
                seconds for tighter boxes.
        """
        work: Any = {
            "ibp": self._ibp,
            "attack": self._attack,
            "crown-ibp": self._crown_ibp,
            "crown": self._crown,
            "alpha-crown": partial(self._alpha_crown, budget=budget),
            "strong-attack": self._strong_attack,
            "bab": partial(self._bab, budget=budget),
            "milp": self._milp,
        }[stage]
        waiting = [
            task
            for task in tasks
            if task.verdict is None and (timeout is None or task.total_seconds < timeout)
        ]
        if stage != "ibp" and "attack" not in stage and has_distances(self.graph.nodes):
            for task in waiting:
                task.error = f"{stage}: no linear bounds of distance layers are known"
            return
        # Tasks with equally many open forms share a batch, so that few rows are padding.
        waiting.sort(key=lambda task: len(task.open_forms))
        size = {"milp": 1, "bab": TOGETHER}.get(stage, self.batch_size)
        for start in range(0, len(waiting), size):
            batch = waiting[start : start + size]
            began, self._booked = self._charged_clock(), 0.0
            with np.errstate(all="ignore"):  # what is not finite decides nothing
                work(batch, timeout)
            spent = self._charged_clock() - began - self._booked
            # The complete stages book their seconds themselves.
            for task in batch if stage not in ("bab", "milp") else ():
                task.spend(stage, spent / len(batch))
            if self.deployed:
                with np.errstate(all="ignore"):
                    self._deployer.deepen(batch, np.inf if timeout is None else timeout, stage)
            if after:
                after(batch)

    # Bounds

    def _ibp(self, tasks, timeout):
        chosen = [np.arange(len(task.query.offset)) for task in tasks]
        found = self.engine.ibp(*_box(tasks), *gathered(tasks, chosen))
        self._take(tasks, chosen, found, "ibp")

    def _crown_ibp(self, tasks, timeout):
        chosen = [task.open_forms for task in tasks]
        found = self.engine.crown(*_box(tasks), *gathered(tasks, chosen))
        self._take(tasks, chosen, found, "crown-ibp")

    def _crown(self, tasks, timeout):
        if not self.options.check:
            chosen = [task.open_forms for task in tasks]
            found = self.engine.crown(*_box(tasks), *gathered(tasks, chosen), self._boxes(tasks))
            self._take(tasks, chosen, found, "crown")
            return
        for task in self._proved(tasks, timeout, "crown"):
            self._certify(task, "crown")

    def _proved(self, tasks, timeout, stage):
        """The tasks whose boxes the checker could derive, which serve all later stages."""
        for task in tasks:
            if task.proved is None:
                began, deadline = self.clock(), self._deadline(task, timeout)
                try:
                    bounds, task.proved = self.checker.bounds_and_boxes(
                        *task.query.asked, deadline=deadline
                    )
                except OutOfTime:
                    task.error = f"{stage}: the time was over"
                seconds = self.clock() - began
                task.spend(stage, seconds)  # what others take is not its own
                self._booked += seconds
                if task.proved is None:
                    continue
                task.improve(np.arange(len(bounds)), bounds)
            yield task

    def _deadline(self, task, timeout):
        """When the time of a task is over."""
        if timeout is None:
            return NEVER
        return Deadline.after(timeout - task.total_seconds, self.clock)

    def _alpha_crown(self, tasks, timeout, budget):
        if self.options.check:
            tasks = [
                task
                for task in self._proved(tasks, timeout, "alpha-crown")
                if not self._certify(task, "alpha-crown")
            ]
        before = {task.query: task.bound for task in tasks}
        self._sloped(tasks)
        tasks = [task for task in tasks if task.verdict is None]
        if tasks and tightens(self.graph):
            bounds = [before[task.query] for task in tasks]
            deadlines = [self._deadline(task, timeout) for task in tasks]
            given = tasks, bounds, _box(tasks), self._boxes(tasks), deadlines
            self._sloped(self._tightener.tightened(*given, math.inf if budget is None else budget))

    def _sloped(self, tasks):
        """Bounds with slopes optimised for each open form."""
        if not tasks:
            return
        chosen = [task.open_forms for task in tasks]
        found, slopes = self.engine.alpha_crown(
            *_box(tasks),
            *gathered(tasks, chosen),
            self._boxes(tasks),
            iterations=self.options.iterations,
        )
        for i, task in enumerate(tasks):
            if task.slopes is None:  # forms that a first pass closed keep theirs
                shape = len(task.query.offset), slopes.shape[-1]
                task.slopes = np.full(shape, np.nan, "float32")
            task.slopes[chosen[i]] = slopes[i, : len(chosen[i])]
        self._take(tasks, chosen, found, "alpha-crown")

    def _boxes(self, tasks):
        """Boxes of the neurons of a batch in float32; each task keeps its own for later stages."""
        missing = [task for task in tasks if task.boxes is None and task.proved is None]
        if missing:
            boxes = self.engine.neuron_boxes(*_box(missing))
            for i, task in enumerate(missing):
                task.boxes = [(low[i], high[i]) for low, high in boxes]
        known = [task.boxes if task.proved is None else task.proved for task in tasks]
        return [
            covering(*(np.stack(side) for side in zip(*pairs, strict=True)))
            for pairs in zip(*known, strict=True)
        ]

    def _take(self, tasks, chosen, found, method):
        for task, forms, bounds in zip(tasks, chosen, found, strict=True):
            task.improve(forms, bounds[: len(forms)])
            self._certify(task, method)

    def _certify(self, task, method):
        """Certify a task, whose bounds allow it, if the checker confirms it; whether it did."""
        if not safe(task.query.groups, task.bounds):
            return False
        task.method = method
        if self.options.check:
            boxes = task.proved if method in ("crown", "alpha-crown") else None
            bounds, boxes = self.checker.bounds_and_boxes(
                *task.query.asked, method, task.slopes, boxes=boxes
            )
            task.bound = float(worst_of(task.query.groups, bounds).max())
            task.checked = safe(task.query.groups, bounds)
            if not task.checked:
                task.bounds = bounds  # rounding decides nothing: a later stage may prove more
                return False
            self._deployer.look(task, bounds, boxes)
        task.decide(CERTIFIED, method)
        return True

    # Attacks

    def _attack(self, tasks, timeout):
        self._search(tasks, "attack", QUICK, np.inf)

    def _strong_attack(self, tasks, timeout):
        seconds = np.inf if timeout is None else STRONG_SHARE * timeout * len(tasks)
        self._search(tasks, "strong-attack", self.strong, seconds)

    def _search(self, tasks, stage, options, seconds):
        points = self._attacks.points(tasks, stage, options, seconds)
        for task, found in zip(tasks, points, strict=True):
            self._judge.accept(task, found, stage)

    # Complete

    def _bab(self, tasks, timeout, budget, account="bab"):
        try:
            search = self.branch_and_bound()
        except ValueError as error:
            for task in tasks:
                task.error = f"{account}: {error}"
            return
        if search.graph is not self.graph:
            for task in tasks:
                task.forget_boxes()
                task.slopes = None  # of other neurons
        solve = partial(search.solve, timeout=np.inf if timeout is None else timeout)
        if search.graph is self.graph and account == "bab":
            if budget is None:  # nobody else has rounds
                self._first_round(tasks, timeout, solve)
            self._by_cases(tasks, timeout, budget)
        solve([task for task in tasks if task.verdict is None], budget=budget, account=account)
        for task in tasks:
            if task.verdict == CERTIFIED and task.checked:
                asked = task.query.asked
                _, task.proved = self.checker.bounds_and_boxes(*asked, boxes=task.proved)
                self._deployer.look(task, task.bound, task.proved)

    def _first_round(self, tasks, timeout, solve):
        """A little branch and bound for the tasks whose boxes are tightened if it fails."""
        pairs = [(task, FIRST * self._deadline(task, timeout).left) for task in tasks]
        pairs = [pair for pair in pairs if self._tightener.affords(*pair)]
        if pairs:
            solve([task for task, _ in pairs], budget=min(seconds for _, seconds in pairs))

    def _charged_clock(self):
        """Seconds now, without those of compilation if they are not charged."""
        return self.clock() - (0.0 if self.charge_compilation else self.engine.compile_s)

    def _by_cases(self, tasks, timeout, budget):
        """Tighter boxes, by cases, for tasks that a round of branch and bound left open.

        It has had as long in vain, so at most half of the time is lost by either.
        """
        found = []
        for task in tasks:
            left = np.inf if timeout is None else timeout - task.total_seconds
            tried = task.seconds.get("bab", 0.0)
            left = left if budget is None else min(left, budget - tried)
            seconds = min(tried, left / 2)
            if task.verdict is None and tried > 0 and self._tightener.affords(task, seconds):
                found.append((task, Deadline.after(left, self._charged_clock), seconds))
        for start in range(0, len(found), self.batch_size):
            part, deadlines, seconds = zip(*found[start : start + self.batch_size], strict=True)
            began, given = self._charged_clock(), (_box(part), self._boxes(part))
            self._sloped(self._tightener.by_cases(part, *given, deadlines, sum(seconds)))
            spent = self._charged_clock() - began
            for task in part:
                task.spend("bab", spent / len(part))

    def branch_and_bound(self) -> BranchAndBound:
        """The `BranchAndBound` of the network, whose pooling is rewritten as ReLUs."""
        if self._branch_and_bound is None:
            if has_distances(self.graph.nodes):
                raise ValueError("branch and bound splits activations, not distances")
            graph = without_pooling(self.graph)
            self._branch_and_bound = BranchAndBound(
                graph,
                self.checker if graph is self.graph else Checker(graph),
                self._attempt,
                charge_compilation=self.charge_compilation,
                clock=self.clock,
                **self.options.search,
            )
        return self._branch_and_bound

    def _attempt(self, task, points, stage="bab"):
        """Try points near an unsafe set, as the nearest that the model can be given."""
        low, high = within(*task.query.inner[:2])
        self._judge.accept(task, np.clip(points.astype(low.dtype), low, high), stage)

    def _milp(self, tasks, timeout):
        """Ask the exact solver; what it finds counts once the checker has confirmed it."""
        for task in tasks:
            began = self.clock()
            try:
                verdict, point = self._asked(task, timeout)
            except (RuntimeError, ValueError) as error:
                verdict, task.error = None, f"milp: {error}"
            except OutOfTime:
                verdict, task.error = None, "milp: the time was over"
            task.spend("milp", self.clock() - began)
            if verdict == CERTIFIED and task.verdict is None:
                task.solver = CERTIFIED
                self._bab([task], timeout, None, "milp")
            elif verdict == FALSIFIED:
                self._attempt(task, point[None], "milp")

    def _asked(self, task, timeout):
        """Verdict and point of the exact solver; decides the task if there is nothing to ask."""
        # Neither the boxes nor what is left out may rest on float32: both from the checker.
        method = "crown" if task.slopes is None else "alpha-crown"
        given = *task.query.asked, method, task.slopes
        deadline = self._deadline(task, timeout)
        proved, boxes = self.checker.bounds_and_boxes(*given, deadline, task.proved)
        worst = worst_of(task.query.groups, np.where(np.isfinite(proved), proved, np.inf))
        numbers = np.flatnonzero(~(worst < 0))
        if not len(numbers):
            task.bound, task.method, task.checked = float(worst.max()), method, True
            self._deployer.look(task, proved, boxes)
            task.decide(CERTIFIED, "milp")
            return CERTIFIED, None
        sets = [
            Unsafe(*task.query.box, task.query.forms[mine], task.query.offset[mine])
            for mine in (task.query.groups == number for number in numbers)
        ]
        left = max((timeout or 1e9) - task.total_seconds, 1e-3)
        return exact_verdict(self.graph, sets, boxes, timeout=left, bounds=worst[numbers])[:2]


def _box(tasks):
    """Boxes in float32, rounded outward."""
    return covering(
        np.stack([t.query.lower for t in tasks]), np.stack([t.query.upper for t in tasks])
    )

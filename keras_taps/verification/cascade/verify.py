"""One property of one network: the question that ONNX and VNNLIB files ask."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_taps.checks import check_choice, check_real
from keras_taps.choices import PROPERTY_STAGES, STAGES
from keras_taps.verification.cascade.judge import Judge
from keras_taps.verification.cascade.options import Options
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.checker import METHODS, Checker
from keras_taps.verification.certificate.deadline import Deadline, OutOfTime
from keras_taps.verification.certificate.many_boxes import ManyBoxes
from keras_taps.verification.certificate.nested_boxes import NestedBoxes
from keras_taps.verification.certificate.schema import CERTIFIED, FALSIFIED
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.traverse import nonlinear
from keras_taps.verification.graph.unpool import without_pooling
from keras_taps.verification.graph.unsafe import Unsafe, safe
from keras_taps.verification.search.ascent import ascend
from keras_taps.verification.search.input_splitting import CLOSED, split_inputs

MOST_INPUTS = 20  # of which the box is split first
MOST_NEURONS = 2048  # for which boxes are bounded many at a time
SHARE = 0.5  # of the time that is left, before the other stages
STARTS = {"attack": 3, "strong-attack": 256}  # of each set that is open
ATTACKS = 0.1  # of the time that is left


@dataclass(frozen=True)
class Answer:
    """What became of a property.

    Args:
        verdict: 'unsat': no input of any set is unsafe; 'sat': one was found; 'unknown'; or
            'timeout'.
        point: The unsafe input, in the layout of the graph, or `None`; in numbers of float32
            where the box has them.
        stage: The stage that decided, of several boxes the latest.
        checked: Whether the float64 checker or exact evaluation confirmed it.
        seconds: Wall time, compilation included.
        ended: Without a verdict: pairs of a stage and why it ended, in their order.
        solver: 'unsat' if the exact solver says so, of boxes that the checker could not confirm.
    """

    verdict: str
    point: np.ndarray | None
    stage: str | None
    checked: bool
    seconds: float
    ended: tuple = ()
    solver: str = None


def verify(
    graph: Graph,
    unsafe_sets: Sequence[Unsafe],
    timeout: float = 60,
    stages: Sequence[str] | None = None,
    *,
    trust_solver: bool = False,
    **options: Any,
) -> Answer:
    """Decide whether any input of a list of unsafe sets is reached.

    Args:
        graph: `Graph`.
        unsafe_sets: List of `Unsafe`.
        timeout: Seconds for everything.
        stages: Names out of `PROPERTY_STAGES`, in order. By default `STAGES`, and before them
            'input-split', branch and bound over the inputs, where few of them vary.
        trust_solver: Whether the word of the exact solver (stage 'milp') is enough for 'unsat'; it
            rests on floating-point arithmetic that nothing confirms.
        **options: Fields of `Options` but `batch_size`, which is 1.

    Returns:
        `Answer`.

    Raises:
        ValueError: If an argument is out of range, or a set does not fit the graph.

    Example:

    >>> graph = Graph((Dense(np.ones((2, 1)), np.zeros(1)),))
    >>> unsafe = Unsafe(np.zeros(2), np.ones(2), np.ones((1, 1)), np.full(1, -3.0))
    >>> verify(graph, [unsafe]).verdict
    'unsat'
    """
    began = time.perf_counter()
    timeout = check_real("timeout", timeout, 0, np.inf, low_open=True)
    if stages is not None:
        stages = [check_choice("stages", stage, PROPERTY_STAGES) for stage in stages]
    for unsafe in unsafe_sets:
        _check(graph, unsafe)
    runner = _Runner(graph, Options.of({**options, "batch_size": 1}), began + timeout)
    decided = []
    for task in _tasks(unsafe_sets):
        runner.run(task, stages)
        decided.append(task)
        if task.verdict == FALSIFIED:
            break
    seconds = time.perf_counter() - began
    broken = next((task for task in decided if task.verdict == FALSIFIED), None)
    if broken is not None:
        point = runner.judge.in_float32(broken)
        return Answer("sat", point, broken.stage, True, seconds)
    if all(task.verdict == CERTIFIED for task in decided):
        last = max(decided, key=lambda task: PROPERTY_STAGES.index(task.stage), default=None)
        stage = None if last is None else last.stage
        return Answer("unsat", None, stage, all(task.checked for task in decided), seconds)
    ended, sure = tuple(runner.ended), all(t.verdict == CERTIFIED or t.solver for t in decided)
    solver = "unsat" if sure else None
    if solver and trust_solver:
        return Answer("unsat", None, "milp", False, seconds, ended, solver)
    verdict = "timeout" if seconds >= timeout else "unknown"
    return Answer(verdict, None, None, False, seconds, ended, solver)


class _Runner:
    """Sends tasks through stages; what Keras is needed for is made when the first stage asks."""

    def __init__(self, graph, options, deadline):
        self.graph, self.options, self.deadline = graph, options, deadline
        self.judge = Judge(graph, Checker(graph))
        self.ended = []  # `(stage, why)`, in their order

    @cached_property
    def bounder(self):
        """What bounds boxes of inputs; `ValueError` if the graph has nodes that it cannot."""
        neurons = sum(math.prod(node.out_shape) for node in nonlinear(self.graph.nodes))
        if neurons > MOST_NEURONS:
            return NestedBoxes(self.graph)
        return ManyBoxes(without_pooling(self.graph))

    @cached_property
    def verifier(self):
        """The stages that run on a Keras network."""
        from keras_taps.verification.cascade.stages import Verifier

        return Verifier(self.graph, charge_compilation=True, **asdict(self.options))

    def run(self, task, stages):
        """Send a task through stages, by default those that fit the network."""
        if stages is None:
            varying = np.count_nonzero(task.query.lower < task.query.upper)
            stages = PROPERTY_STAGES if varying <= MOST_INPUTS else STAGES
        for stage in stages:
            left = self.deadline - time.perf_counter()
            if task.verdict is not None:
                return
            if left <= 0:
                self.ended.append((stage, "not begun: the time was over"))
                return
            if stage == "input-split" and stage != stages[-1]:
                left *= SHARE
            try:
                why = self._run(stage, task, Deadline.after(left))
            except OutOfTime:
                why = "the time was over"
            self.ended.append((stage, why or self._why(stage, task)))

    def _run(self, stage, task, deadline):
        """Run a stage; why it ended, if it says so."""
        if stage == "input-split":
            return self._split(task, deadline)
        if stage in METHODS[:3]:
            return self._bound(task, stage, deadline)
        if stage in STARTS:
            until = Deadline.after(ATTACKS * deadline.left)
            attempt = self._attempt(task, stage)
            ascend(self.graph, task, attempt, until, self.options.seed, STARTS[stage])
            return None
        task.error = None
        self.verifier.run(stage, [task], timeout=deadline.left + task.total_seconds)
        return task.error and task.error.partition(": ")[2]

    def _attempt(self, task, stage):
        return lambda points: self.judge.accept(task, points, stage)

    def _bound(self, task, method, deadline):
        """Bounds of the checker alone: one property is bounded before a backend has started."""
        bounds, boxes = self.judge.checker.bounds_and_boxes(
            *task.query.asked, method, deadline=deadline
        )
        task.improve(np.arange(len(bounds)), bounds)
        if method == "crown":
            task.proved = boxes  # which serve all later stages
        if safe(task.query.groups, bounds):
            task.method, task.checked = method, True
            task.decide(CERTIFIED, method)

    def _why(self, stage, task):
        if time.perf_counter() >= self.deadline:
            return "the time was over"
        if "attack" in stage:
            return "no counterexample found"
        if task.solver:
            return "the solver finds nothing unsafe, which the checker could not confirm"
        groups = len(np.unique(task.query.groups))
        count = len(np.unique(task.query.groups[task.open_forms]))
        return f"{count} of {groups} sets open, bound {task.bound:.3g}"

    def _split(self, task, deadline):
        """Branch and bound over the inputs; the account of it."""
        try:
            bounder = self.bounder
        except ValueError as error:
            return str(error)
        outcome = split_inputs(bounder, task, self._attempt(task, "input-split"), deadline)
        if outcome.state == CLOSED:
            task.method, task.checked = "input-split", True
            task.decide(CERTIFIED, "input-split")
        return f"{outcome.left} boxes open after {outcome.boxes}"


def _check(graph, unsafe):
    if len(unsafe.offset) == 0:
        raise ValueError("An unsafe set needs at least one condition on the outputs.")
    fits = np.shape(unsafe.lower) == np.shape(unsafe.upper) == graph.in_shape
    if not fits or np.shape(unsafe.weights) != (len(unsafe.offset), graph.outputs):
        raise ValueError(
            f"An unsafe set of this graph has bounds of shape {graph.in_shape} and weights "
            f"(n, {graph.outputs}) with n offsets. Received: {np.shape(unsafe.lower)}, "
            f"{np.shape(unsafe.upper)}, {np.shape(unsafe.weights)} and {np.shape(unsafe.offset)}"
        )
    numbers = (unsafe.lower, unsafe.upper, unsafe.weights, unsafe.offset)
    if not all(np.all(np.isfinite(v)) for v in numbers) or np.any(unsafe.lower > unsafe.upper):
        raise ValueError("An unsafe set must be finite, and its box have lower <= upper.")


def _tasks(unsafe_sets):
    """One task a box: sets that share one are groups of the same task."""

    def sides(unsafe):
        return unsafe.lower, unsafe.upper, *unsafe.meant[:2]

    boxes = []
    for unsafe in unsafe_sets:
        for box, sets in boxes:
            if all(map(np.array_equal, box, sides(unsafe))):
                sets.append(unsafe)
                break
        else:
            boxes.append((sides(unsafe), [unsafe]))
    for index, ((lower, upper, *inner), sets) in enumerate(boxes):
        groups = np.repeat(np.arange(len(sets)), [len(unsafe.offset) for unsafe in sets])
        forms = np.concatenate([unsafe.weights for unsafe in sets])
        offset = np.concatenate([unsafe.offset for unsafe in sets])
        strict = np.concatenate([unsafe.strict for unsafe in sets])
        inner = (*inner, np.concatenate([unsafe.meant[2] for unsafe in sets]))
        yield Task.of(lower, upper, forms, offset, groups, index, strict, inner)

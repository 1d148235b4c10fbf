"""One property of one network: the question that ONNX and VNNLIB files ask."""

import time
from dataclasses import dataclass

import numpy as np

from keras_taps.checks import check_choice, check_real
from keras_taps.choices import CUTS, MEMORY, STAGES
from keras_taps.verification.cascade.stages import Verifier
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.schema import CERTIFIED, FALSIFIED

STRONG = {"steps": 50, "restarts": 40}  # one property has time for many starts


@dataclass(frozen=True)
class Answer:
    """What became of a property.

    Args:
        verdict: 'unsat': no input of any set is unsafe; 'sat': one was found; 'unknown'; or
            'timeout'.
        point: The unsafe input, in the layout of the graph, or `None`.
        stage: The stage that decided, of several boxes the latest.
        checked: Whether the float64 checker or evaluation confirmed it.
        seconds: Wall time, compilation included.
    """

    verdict: str
    point: np.ndarray | None
    stage: str | None
    checked: bool
    seconds: float


def verify(
    graph,
    unsafe_sets,
    timeout=60,
    stages=STAGES,
    check=True,
    seed=0,
    *,
    branching="kfsb",
    cuts=CUTS,
    recompute=0,
    memory=MEMORY,
):
    """Decide whether any input of a list of unsafe sets is reached.

    Args:
        graph: `Graph`.
        unsafe_sets: List of `Unsafe`.
        timeout: Seconds for everything.
        stages: Names out of `STAGES`, in order.
        check: Whether 'unsat' needs the float64 checker; what the exact solver decides rests on
            its own arithmetic all the same.
        seed: Whole number for the random starts of attacks.
        branching: How branch and bound chooses neurons: 'kfsb', 'babsr' or 'gap'.
        cuts: Multi-neuron constraints of each set, at most; 0 for none.
        recompute: After how many splits branch and bound derives the bounds of all neurons again;
            0 for never.
        memory: Bytes for the open domains of branch and bound.

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
    stages = [check_choice("stages", stage, STAGES) for stage in stages]
    for unsafe in unsafe_sets:
        _check(graph, unsafe)
    verifier = Verifier(
        graph,
        batch_size=1,
        check=check,
        seed=seed,
        strong=STRONG,
        branching=branching,
        cuts=cuts,
        recompute=recompute,
        memory=memory,
        charge_compilation=True,
    )
    decided, late = [], False
    for task in _tasks(unsafe_sets):
        for stage in stages:
            left = timeout - (time.perf_counter() - began)
            if task.verdict is None and left > 0:
                verifier.run(stage, [task], timeout=left + task.total_seconds)
        late = late or time.perf_counter() - began >= timeout
        decided.append(task)
        if task.verdict == FALSIFIED:
            break
    seconds = time.perf_counter() - began
    broken = next((task for task in decided if task.verdict == FALSIFIED), None)
    if broken is not None:
        return Answer("sat", broken.point, broken.stage, True, seconds)
    if all(task.verdict == CERTIFIED for task in decided):
        last = max(decided, key=lambda task: STAGES.index(task.stage), default=None)
        stage = None if last is None else last.stage
        return Answer("unsat", None, stage, all(task.checked for task in decided), seconds)
    return Answer("timeout" if late else "unknown", None, None, False, seconds)


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
        yield Task(lower, upper, forms, offset, groups, index, strict, inner)

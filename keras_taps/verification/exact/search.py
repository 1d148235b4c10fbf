"""One search by HiGHS for the maximum of forms of the outputs, with points judged in float64."""

import time
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from keras_taps.checks import check_count, check_real
from keras_taps.verification.exact.model import FEASIBILITY, Affine
from keras_taps.verification.exact.solver import Answer, minimise


@dataclass(frozen=True)
class Bracket:
    """What is known of an optimum: one side from a point, the other from HiGHS.

    Args:
        value: What the graph gives at `point` in float64.
        bound: The bound of HiGHS on the optimum, moved outward by `tolerance`.
        point: Input in the box, or `None` if there is none.
        seconds: Time it took.
        optimal: Whether HiGHS closed the gap.
        nodes: Nodes of the search tree.
        tolerance: Estimate of what the tolerances of HiGHS can hide.
    """

    value: float
    bound: float
    point: np.ndarray
    seconds: float
    optimal: bool
    nodes: int
    tolerance: float


def maximise(program, weights, offset, start, timeout, gap, threshold, threads):
    """The largest t that all of several forms reach.

    Args:
        program: `Program`.
        weights: Array `(forms, outputs)`.
        offset: Array `(forms,)`.
        start: Input to start from, or `None`.
        timeout: Seconds.
        gap: As in `exact_bound`, like the next two.
        threshold: Number or `None`.
        threads: Number.

    Returns:
        `Bracket`.
    """
    began, threads = time.monotonic(), check_count("threads", threads, 1)
    gap, best = check_real("gap", gap, 0, np.inf), _Best(program, weights, offset)
    start = np.mean(program.box, axis=0) if start is None else np.asarray(start, "float64")
    if start.shape != program.graph.in_shape or not np.isfinite(start).all():
        raise ValueError(f"`start` must be a finite input of shape {program.graph.in_shape}")
    best.offer(start.ravel())
    problem, objective, ceiling = _objective(program, weights, offset)
    matrix, spill = problem.split_tiny(objective.matrix)
    cost, constant = matrix.toarray()[0], objective.constant[0]
    tolerance = tolerance_of(problem, cost) + spill[0] + objective.error[0]

    def decided(minimum):
        highest = min(constant - minimum, ceiling) + tolerance
        return threshold is not None and (best.value >= threshold or highest < threshold)

    answer, values = Answer(), problem.assign(best.point)
    values[program.size :] = best.value
    if timeout > 0 and not decided(-np.inf):
        answer = minimise(
            problem, -cost, timeout, threads, gap, start=values, offer=best.offer, decided=decided
        )
    if answer.columns is not None:
        best.offer(answer.columns)
    highest = constant - answer.bound
    if gap and np.isfinite(highest):
        highest += gap * abs(highest)
    bound = min(highest, ceiling) + tolerance
    if not best.value <= bound:
        raise RuntimeError(f"HiGHS bounds a form by {bound}, and a point reaches {best.value}")
    return Bracket(
        value=best.value,
        bound=float(bound),
        point=best.point,
        seconds=time.monotonic() - began,
        optimal=answer.optimal,
        nodes=answer.nodes,
        tolerance=float(tolerance),
    )


def _objective(program, weights, offset):
    """A program, an `Affine` of its columns to maximise, and a bound on it by intervals alone."""
    form = program.form(weights, offset)
    low, high = program.range(form)
    if len(offset) == 1:
        return program, form, high[0]
    problem, count = program.extended(), len(offset)
    error = FEASIBILITY + (abs(form.matrix) @ program.error + form.error).max()
    worst = problem.add_columns([low.min() - error], [high.min() + error], error=error)
    column = sparse.csr_array((np.ones(count), (np.arange(count), np.repeat(worst, count))))
    rows, least = problem.fit(form.matrix) - column, -form.constant - form.error
    problem.add_rows(rows, least, np.full(count, np.inf))
    return problem, Affine(column[:1], np.zeros(1), np.zeros(1)), (high + form.error).min()


def tolerance_of(problem, cost):
    """By how much the tolerances of HiGHS may move an optimum: an estimate, meant to be large.

    Rows and integrality may be off by `FEASIBILITY`, which the columns' `error` carries through
    absolute coefficients to the objective. Reduced costs may have the wrong sign by as much, each
    of which a column can turn into its width. HiGHS cuts off nodes that gain less than as much.
    """
    widths = np.sum(problem.upper - problem.lower)
    return float(np.abs(cost) @ problem.error + FEASIBILITY * (1 + widths))


class _Best:
    """The best input so far, evaluated by the graph in float64 after clipping to the box."""

    def __init__(self, program, weights, offset):
        self.program, self.score = program, score_of(program.graph, weights, offset)
        self.point, self.value = None, -np.inf

    def offer(self, columns):
        lower, upper = self.program.box
        point = np.clip(columns[: lower.size].reshape(lower.shape), lower, upper)
        value = self.score(point)
        if not np.isfinite(value):
            raise ValueError("the outputs of the graph are not finite")
        if value > self.value:
            self.point, self.value = point, value


def score_of(graph, weights, offset):
    """Function of an input: the smallest of the forms there."""
    return lambda point: float(np.min(graph(point[None]) @ weights.T + offset))


def checked_form(graph, weights, offset):
    """`checked_forms` of one form, given by an array of weights and a number."""
    return checked_forms(graph, np.reshape(weights, (1, -1)), np.reshape(offset, -1))


def checked_forms(graph, weights, offset):
    """Arrays `(forms, outputs)` and `(forms,)` in float64, finite and of the right shape."""
    weights, offset = np.asarray(weights, "float64"), np.asarray(offset, "float64")
    if weights.shape != (len(offset), graph.outputs) or not len(offset):
        raise ValueError(
            f"`weights` must have {graph.outputs} numbers for each offset. "
            f"Received: shapes {weights.shape} and {offset.shape}"
        )
    if not (np.isfinite(weights).all() and np.isfinite(offset).all()):
        raise ValueError("`weights` and `offset` must be finite")
    return weights, offset

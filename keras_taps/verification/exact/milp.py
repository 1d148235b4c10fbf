"""Exact bounds by mixed-integer programming with HiGHS, for small networks.

Whatever comes from here rests on the floating-point arithmetic of HiGHS: a bound is as good as its
tolerances, which are set tight and whose effect is estimated and added. It is not a proof in exact
arithmetic. Points are: they are evaluated by the graph in float64.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.verification.exact.model import Program
from keras_taps.verification.exact.search import (
    Bracket,
    checked_form,
    checked_forms,
    maximise,
)
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.unsafe import Unsafe


def exact_bound(
    graph: Graph,
    lower: np.ndarray,
    upper: np.ndarray,
    weights: ArrayLike,
    offset: float,
    boxes: Sequence[tuple[np.ndarray, np.ndarray]],
    start: np.ndarray | None = None,
    timeout: float = 60,
    gap: float = 0.0,
    threshold: float | None = None,
    slack: float = 1e-6,
    threads: int = 1,
) -> Bracket:
    """Maximise one linear form of the outputs, `weights @ outputs + offset`, over a box.

    Args:
        graph: `Graph`.
        lower: Array of the shape of one input.
        upper: Array of the same shape.
        weights: Array `(outputs,)`.
        offset: Number.
        boxes: One pair `(lower, upper)` a nonlinear node in depth-first order, sound bounds on
            its input.
        start: Input to start from, by default the centre of the box.
        timeout: Seconds; HiGHS looks at the clock now and then.
        gap: Relative gap at which to stop.
        threshold: Stop as soon as the maximum is known to lie below this number, or not.
        slack: Every bound in `boxes` is widened by `slack * (1 + |bound|)`.
        threads: Threads for HiGHS.

    Returns:
        `Bracket` with `value <= maximum <= bound`. The bound rests on the floating-point
        arithmetic of HiGHS and is as good as its tolerances.

    Raises:
        ValueError: If an argument is not finite or does not fit the graph.
        RuntimeError: If the boxes contradict each other or a point, or HiGHS fails.

    Example:

    >>> graph = Graph((Relu((2,)), Dense(np.ones((2, 1)), np.ones(1))))
    >>> low, high = -np.ones(2), np.ones(2)
    >>> round(exact_bound(graph, low, high, np.ones(1), 0.0, [(low, high)]).value, 6)
    3.0

    References:
        Tjeng et al., "Evaluating Robustness of Neural Networks with Mixed Integer Programming",
        2019; Huangfu and Hall, "Parallelizing the dual revised simplex method" (HiGHS), 2018.
    """
    began = time.monotonic()
    weights, offset = checked_form(graph, weights, offset)
    program = Program(graph, lower, upper, boxes, slack)
    left = timeout - (time.monotonic() - began)
    bracket = maximise(program, weights, offset, start, left, gap, threshold, threads)
    return replace(bracket, seconds=time.monotonic() - began)


def exact_maximum(
    graph: Graph,
    lower: np.ndarray,
    upper: np.ndarray,
    weights: np.ndarray,
    offset: np.ndarray,
    boxes: Sequence[tuple[np.ndarray, np.ndarray]],
    bounds: ArrayLike | None = None,
    start: np.ndarray | None = None,
    timeout: float = 60,
    gap: float = 0.0,
    slack: float = 1e-6,
    threads: int = 1,
) -> Bracket:
    """Maximise the largest of several linear forms of the outputs over a box.

    With the margins of an image as forms this is its exact worst-case margin.

    Args:
        graph: `Graph`.
        lower: Array of the shape of one input.
        upper: Array of the same shape.
        weights: Array `(forms, outputs)`.
        offset: Array `(forms,)`.
        boxes: As in `exact_bound`.
        bounds: Array `(forms,)` of sound upper bounds from a cheaper method: the highest is tried
            first, and a form whose bound is reached by another is left out. By default none.
        start: As in `exact_bound`.
        timeout: Seconds for all forms.
        gap: As in `exact_bound`.
        slack: As in `exact_bound`.
        threads: As in `exact_bound`.

    Returns:
        `Bracket`; `optimal` if all forms were searched to their end or left out.

    Raises:
        ValueError: If an argument is not finite or does not fit the graph.
        RuntimeError: If the boxes contradict each other or a point, or HiGHS fails.

    Example:

    >>> graph = Graph((Relu((2,)), Dense(np.eye(2), np.zeros(2))))
    >>> low, high = -np.ones(2), np.array([1.0, 2.0])
    >>> bracket = exact_maximum(graph, low, high, np.eye(2), np.zeros(2), [(low, high)])
    >>> round(bracket.value, 6)
    2.0
    """
    began = time.monotonic()
    weights, offset = checked_forms(graph, weights, offset)
    known = np.full(len(offset), np.inf) if bounds is None else np.asarray(bounds, "float64")
    if known.shape != offset.shape:
        raise ValueError(
            f"`bounds` must have shape {offset.shape}, one number a form. Received: {known.shape}"
        )
    known = np.where(np.isnan(known), np.inf, known)
    program = Program(graph, lower, upper, boxes, slack)
    found, best = [], None
    for i in np.argsort(-known, kind="stable"):
        if best is not None and known[i] <= best.value:
            break  # the bounds that follow are no higher
        left = max(timeout - (time.monotonic() - began), 0)
        row = slice(i, i + 1)
        bracket = maximise(program, weights[row], offset[row], start, left, gap, None, threads)
        found.append(replace(bracket, bound=max(min(bracket.bound, known[i]), bracket.value)))
        if best is None or bracket.value > best.value:
            best = bracket
    return Bracket(
        value=best.value,
        bound=float(max(bracket.bound for bracket in found)),
        point=best.point,
        seconds=time.monotonic() - began,
        optimal=all(bracket.optimal for bracket in found),
        nodes=sum(bracket.nodes for bracket in found),
        tolerance=max(bracket.tolerance for bracket in found),
    )


def exact_verdict(
    graph: Graph,
    unsafe_sets: Sequence[Unsafe],
    boxes: Sequence[tuple[np.ndarray, np.ndarray]],
    start: np.ndarray | None = None,
    timeout: float = 60,
    bounds: ArrayLike | None = None,
    slack: float = 1e-6,
    threads: int = 1,
) -> tuple[str, np.ndarray | None, np.ndarray]:
    """Decide whether any of several unsafe sets holds an input.

    Args:
        graph: `Graph`.
        unsafe_sets: List of `Unsafe`.
        boxes: As in `exact_bound`; they must hold on the boxes of all the sets.
        start: Input to start from, by default the centre of the box.
        timeout: Seconds for all the sets.
        bounds: One number a set, such as bounds from a cheaper method: the highest is tried first.
        slack: As in `exact_bound`.
        threads: Threads for HiGHS.

    Returns:
        `(verdict, point, bounds)`: `"certified"`, `"falsified"` with an input that lies in one
        of the sets in float64, or `"unknown"`; an upper bound a set on the largest t such that
        all its forms reach t, infinite where no search was begun.

    Raises:
        ValueError: If an argument is not finite or does not fit the graph.
        RuntimeError: If the boxes contradict each other or a point, or HiGHS fails.
    """
    began = time.monotonic()
    order = np.arange(len(unsafe_sets))
    if bounds is not None:
        order = np.argsort(-np.asarray(bounds, "float64"), kind="stable")
        if len(order) != len(unsafe_sets):
            raise ValueError(
                f"`bounds` must have one number for each of the {len(unsafe_sets)} sets. "
                f"Received: {len(order)}"
            )
    found, program = np.full(len(unsafe_sets), np.inf), None
    for i in order:
        unsafe, spent = unsafe_sets[int(i)], time.monotonic() - began
        if spent >= timeout:
            break
        weights, offset = checked_forms(graph, unsafe.weights, unsafe.offset)
        box = unsafe.lower, unsafe.upper
        if program is None or not all(map(np.array_equal, program.box, box)):
            program = Program(graph, *box, boxes, slack)
        bracket = maximise(program, weights, offset, start, timeout - spent, 0.0, 0.0, threads)
        found[i] = bracket.bound
        if unsafe.contains(graph, bracket.point[None])[0]:
            return "falsified", bracket.point, found
    certified = np.all(np.isfinite(found) & (found < 0))
    return "certified" if certified else "unknown", None, found

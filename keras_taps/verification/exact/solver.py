"""Hand a program to HiGHS, and take from it only what its final state vouches for."""

import time
from typing import NamedTuple

import highspy
import numpy as np

from keras_taps.verification.exact.model import FEASIBILITY, TINY

_USABLE = {"kOptimal", "kTimeLimit", "kInterrupt", "kHighsInterrupt"}


class Answer(NamedTuple):
    """What HiGHS found out about a minimum.

    Args:
        bound: Lower bound, `-inf` if there is none.
        columns: Values of the columns at the best solution, or `None`.
        optimal: Whether the gap is closed.
        nodes: Nodes of the search tree.
        infeasible: Whether no solution exists.
    """

    bound: float = -np.inf
    columns: np.ndarray = None
    optimal: bool = False
    nodes: int = 0
    infeasible: bool = False


def minimise(
    program,
    cost,
    timeout,
    threads=1,
    gap=0.0,
    start=None,
    offer=None,
    decided=None,
    relaxed=False,
    may_fail=False,
):
    """Minimise `cost @ columns` over a program.

    Args:
        program: `Program`.
        cost: Array `(columns,)`.
        timeout: Seconds, more than 0.
        threads: Threads for HiGHS.
        gap: Relative gap at which to stop.
        start: Values of all columns to start from.
        offer: Called with the columns of each better solution.
        decided: Called with the lower bound so far; if it returns True, the search ends.
        relaxed: Whether to forget integrality and the boxes of neurons that keep their sign.
        may_fail: Whether a program without solutions is an answer.

    Returns:
        `Answer`; if HiGHS fails twice, one that claims nothing.

    Raises:
        RuntimeError: If HiGHS finds no solution where there must be one.
    """
    integral = bool(program.integer.any()) and not relaxed
    began = time.monotonic()
    for presolve in ("choose", "off"):  # without presolve it does other sums
        left = timeout - (time.monotonic() - began)
        highs = _load(program, cost, max(left, 0.0), threads, gap, relaxed)
        highs.setOptionValue("presolve", presolve)
        status = _run(highs, start, offer if integral else None, decided if integral else None)
        if status in _USABLE or "nfeasible" in status:
            break
    info = highs.getInfo()
    nodes = max(int(info.mip_node_count), 0)
    if status == "kInfeasible" and may_fail:
        return Answer(nodes=nodes, infeasible=True)
    if "nfeasible" in status:
        raise RuntimeError(f"HiGHS ended with status {status}: the boxes contradict each other")
    if status not in _USABLE:
        return Answer(nodes=nodes)
    solution = highs.getSolution()
    if integral:
        bound = float(info.mip_dual_bound)
    else:
        duals = np.array(solution.row_dual) if solution.dual_valid else np.zeros(highs.numConstrs)
        bound = lagrangian_bound(program, cost, duals)
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    columns = np.array(solution.col_value) if found else None
    # An infinite bound that comes with a solution is a state in which HiGHS knew nothing yet.
    return Answer(bound if np.isfinite(bound) else -np.inf, columns, status == "kOptimal", nodes)


def _run(highs, start, offer, decided):
    """Run HiGHS; the name of the state it ends in."""
    if start is not None:
        solution = highspy.HighsSolution()
        solution.col_value = list(start)
        highs.setSolution(solution)
    failures = []
    if offer:
        _subscribe(highs.cbMipImprovingSolution, failures, lambda e: offer(_columns(e)))
    if decided:
        _subscribe(highs.cbMipInterrupt, failures, lambda e: decided(e.data_out.mip_dual_bound))
    if highs.run() == highspy.HighsStatus.kError:
        # HiGHS keeps its threads between calls, and refuses another number of them until told.
        highs.resetGlobalScheduler(True)
        highs.run()
    if failures:
        raise failures[0]
    return highs.getModelStatus().name


def lagrangian_bound(program, cost, multipliers):
    """Lower bound on `cost @ columns` by weak duality, which holds for any multipliers.

    Args:
        program: `Program`, whose columns all have finite bounds; integrality is not used.
        cost: Array `(columns,)`.
        multipliers: Array `(rows,)`, positive where the lower side of a row binds.

    Returns:
        The bound, less an allowance for the rounding of the sums.

    References:
        Neumaier and Shcherbina, "Safe bounds in linear and mixed-integer linear programming", 2004.
    """
    matrix, low, high = program.rows()
    usable = np.where(multipliers > 0, np.isfinite(low), np.isfinite(high))
    multipliers = np.where(usable, multipliers, 0.0)
    side = np.where(multipliers > 0, low, high)
    side = np.where(multipliers == 0, 0.0, side)
    rest = cost - matrix.T @ multipliers
    total = side @ multipliers + np.minimum(rest * program.lower, rest * program.upper).sum()
    reach = np.maximum(np.abs(program.lower), np.abs(program.upper))
    size = np.abs(side * multipliers).sum()
    size += (np.abs(cost) + abs(matrix).T @ np.abs(multipliers)) @ reach
    # Each sum of n terms is off by at most n units of rounding of its absolute values.
    return float(total - 4 * np.finfo("float64").eps * (matrix.shape[0] + len(cost)) * size)


def _load(program, cost, timeout, threads, gap, relaxed):
    matrix, row_lower, row_upper = program.rows()
    lower, upper = program.lower, program.upper
    if relaxed:
        lower = np.where(program.free, -np.inf, lower)
        upper = np.where(program.free, np.inf, upper)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = program.size, len(row_lower)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost, lower, upper
    lp.row_lower_, lp.row_upper_ = row_lower, row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = program.size, len(row_lower)
    lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
    lp.a_matrix_.value_ = matrix.data
    if not relaxed:
        kinds = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
        lp.integrality_ = [kinds[int(integer)] for integer in program.integer]
    highs = highspy.Highs()
    options = {
        "output_flag": False,
        "time_limit": float(timeout),
        "threads": threads,
        "small_matrix_value": TINY,
        "primal_feasibility_tolerance": FEASIBILITY,
        "dual_feasibility_tolerance": FEASIBILITY,
        "mip_feasibility_tolerance": FEASIBILITY,
        "mip_rel_gap": float(gap),
        "mip_abs_gap": 0.0,
        # No `objective_bound`: it cuts off nodes, and the dual bound then forgets them (1.15.1).
    }
    for name, value in options.items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise RuntimeError(f"HiGHS refuses {name}={value!r}")
    # A warning would mean that HiGHS changed the program.
    if highs.passModel(lp) != highspy.HighsStatus.kOk:
        raise RuntimeError("HiGHS refuses the program: its coefficients are out of range")
    return highs


def _subscribe(callback, failures, function):
    """Run a function at each event; what it raises ends the search and is kept."""

    def safely(event):
        try:
            if function(event):
                event.interrupt()
        except Exception as error:
            failures.append(error)
            event.interrupt()

    callback.subscribe(safely)


def _columns(event):
    return np.array(event.data_out.mip_solution)

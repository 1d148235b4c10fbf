"""Hand a program to HiGHS, and take from it only what its final state vouches for."""

import time
from typing import NamedTuple

import numpy as np

from keras_taps.verification.exact.highs import solve
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
        may_fail: Whether a program without solutions is an answer.

    Returns:
        `Answer`; if HiGHS fails twice, one that claims nothing.

    Raises:
        RuntimeError: If HiGHS finds no solution where there must be one.
    """
    integral = bool(program.integer.any())
    began = time.monotonic()
    for presolve in ("choose", "off"):  # without presolve it does other sums
        left = max(timeout - (time.monotonic() - began), 0.0)
        job = _job(program, cost, threads, gap, integral, start)
        job["options"]["presolve"] = presolve
        found = solve(job, left, offer, decided)
        status = found["status"]
        if status in _USABLE or "nfeasible" in status:
            break
    nodes = max(found["nodes"], 0)
    if status == "kInfeasible" and may_fail:
        return Answer(nodes=nodes, infeasible=True)
    if "nfeasible" in status:
        raise RuntimeError(f"HiGHS ended with status {status}: the boxes contradict each other")
    if status not in _USABLE:
        return Answer(nodes=nodes)
    bound = found["bound"]
    if not integral:
        duals = found["duals"]
        bound = lagrangian_bound(
            program, cost, np.zeros(program.height) if duals is None else duals
        )
    columns = found["columns"] if found["feasible"] else None
    # An infinite bound that comes with a solution is a state in which HiGHS knew nothing yet.
    return Answer(bound if np.isfinite(bound) else -np.inf, columns, status == "kOptimal", nodes)


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


def _job(program, cost, threads, gap, integral, start):
    matrix, row_lower, row_upper = program.rows()
    return {
        "cost": cost,
        "lower": program.lower,
        "upper": program.upper,
        "matrix": (matrix.indptr, matrix.indices, matrix.data),
        "row_lower": row_lower,
        "row_upper": row_upper,
        "integer": program.integer if integral else None,
        "start": start,
        "options": {
            "threads": threads,
            "small_matrix_value": TINY,
            "primal_feasibility_tolerance": FEASIBILITY,
            "dual_feasibility_tolerance": FEASIBILITY,
            "mip_feasibility_tolerance": FEASIBILITY,
            "mip_rel_gap": float(gap),
            "mip_abs_gap": 0.0,
            # No `objective_bound`: it cuts off nodes that the bound then forgets (1.15.1).
        },
    }

"""The process in which HiGHS runs: a script that reads jobs and writes what becomes of them.

An abort of the solver ends this process and not the one that asked, which starts another. Nothing
of the package is imported here.
"""

import os
import pickle
import queue
import sys
import threading

import highspy
import numpy as np


def serve():
    """Answer jobs from the standard input until it ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever the solver prints is not an answer
    jobs, stop = queue.Queue(), threading.Event()

    def listen():
        while True:
            try:
                message = pickle.load(sys.stdin.buffer)
            except EOFError:
                os._exit(0)  # who asked is gone
            if message == "stop":
                stop.set()
            else:
                stop.clear()  # a stop that came too late was meant for the job before
                jobs.put(message)

    def tell(*message):
        pickle.dump(message, out)
        out.flush()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        try:
            tell("done", solved(jobs.get(), tell, stop))
        except Exception as error:
            tell("failed", f"{type(error).__name__}: {error}")


def solved(job, tell, stop):
    """What HiGHS says of a job, as `highs.solve` gives it."""
    highs = highspy.Highs()
    for name, value in job["options"].items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise RuntimeError(f"HiGHS refuses {name}={value!r}")
    # A warning would mean that HiGHS changed the program.
    if highs.passModel(_program(job)) != highspy.HighsStatus.kOk:
        raise RuntimeError("HiGHS refuses the program: its coefficients are out of range")
    if job["start"] is not None:
        solution = highspy.HighsSolution()
        solution.col_value = list(job["start"])
        highs.setSolution(solution)
    if job["integer"] is not None:
        _report(highs, tell, stop)
    if highs.run() == highspy.HighsStatus.kError:
        # HiGHS keeps its threads between calls, and refuses another number of them until told.
        highs.resetGlobalScheduler(True)
        highs.run()
    info, solution = highs.getInfo(), highs.getSolution()
    feasible = highspy.SolutionStatus.kSolutionStatusFeasible
    return {
        "status": highs.getModelStatus().name,
        "bound": float(info.mip_dual_bound),
        "nodes": int(info.mip_node_count),
        "columns": np.array(solution.col_value),
        "feasible": info.primal_solution_status == feasible,
        "duals": np.array(solution.row_dual) if solution.dual_valid else None,
    }


def _report(highs, tell, stop):
    """Tell of better points and bounds as they come, and end the search when asked to."""
    last = [None]

    def better(event):
        tell("point", np.array(event.data_out.mip_solution))

    def going_on(event):
        if event.data_out.mip_dual_bound != last[0]:
            last[0] = event.data_out.mip_dual_bound
            tell("bound", float(last[0]))
        if stop.is_set():
            event.interrupt()

    highs.cbMipImprovingSolution.subscribe(better)
    highs.cbMipInterrupt.subscribe(going_on)


def _program(job):
    lp = highspy.HighsLp()
    indptr, indices, data = job["matrix"]
    columns, rows = len(job["cost"]), len(indptr) - 1
    lp.num_col_, lp.num_row_ = columns, rows
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = job["cost"], job["lower"], job["upper"]
    lp.row_lower_, lp.row_upper_ = job["row_lower"], job["row_upper"]
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = columns, rows
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = indptr, indices, data
    if job["integer"] is not None:
        kinds = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
        lp.integrality_ = [kinds[int(integer)] for integer in job["integer"]]
    return lp


if __name__ == "__main__":
    serve()

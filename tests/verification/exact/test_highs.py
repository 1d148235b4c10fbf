"""A solver that aborts, hangs or refuses costs one answer, and the next is as good as ever."""

import os
import signal
import time

import numpy as np
import pytest

from keras_taps.verification.exact import highs
from keras_taps.verification.exact.highs import solve

pytestmark = pytest.mark.once


def knapsack(count, seed=0, **changes):
    """Largest value of things that weigh half of all together, negated; hard where it is large."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(1000, 2000, count).astype("float64")
    job = {
        "cost": -(weights + rng.integers(0, 2, count)),
        "lower": np.zeros(count),
        "upper": np.ones(count),
        "matrix": (np.array([0, count], "int32"), np.arange(count, dtype="int32"), weights),
        "row_lower": np.array([-np.inf]),
        "row_upper": np.array([np.floor(weights.sum() / 2) + 0.5]),
        "integer": np.ones(count, bool),
        "start": None,
        "options": {"threads": 1},
    }
    return {**job, **changes}


def worker():
    return highs._workers[os.getpid()]


def test_answers():
    points, bounds = [], []
    found = solve(knapsack(8), 20, points.append, bounds.append)
    assert (found["status"], found["feasible"]) == ("kOptimal", True)
    choices = np.array(np.meshgrid(*[[0, 1]] * 8)).reshape(8, -1).T
    job = knapsack(8)
    fits = choices @ job["matrix"][2] <= job["row_upper"][0]
    best = (choices[fits] @ job["cost"]).min()
    assert job["cost"] @ found["columns"].round() == pytest.approx(best)
    assert found["bound"] == pytest.approx(best)
    relaxed = solve(knapsack(8, integer=None), 20)
    assert relaxed["columns"] @ job["cost"] <= best
    assert relaxed["duals"].shape == (1,)


@pytest.mark.parametrize("when", ["idle", "busy"])
def test_a_process_that_dies_is_replaced(when):
    before = solve(knapsack(8), 20)
    victim = worker().process

    def kill(*_):
        os.kill(victim.pid, signal.SIGABRT)
        return False

    if when == "idle":
        kill()
        victim.wait()
    else:
        lost = solve(knapsack(60), 20, kill, kill)
        assert lost["status"] == "kUnknown"
    after = solve(knapsack(8), 20)
    assert after["bound"] == before["bound"]
    assert worker().process.pid != victim.pid


def test_a_process_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(highs, "GRACE", 0.0)
    solve(knapsack(8), 20)
    victim = worker().process
    os.kill(victim.pid, signal.SIGSTOP)
    found = solve(knapsack(8), 0.5)
    assert (found["status"], found["feasible"]) == ("kTimeLimit", False)
    assert found["bound"] == -np.inf
    assert victim.poll() is not None
    assert solve(knapsack(8), 20)["status"] == "kOptimal"


def test_an_error_of_a_callback_ends_the_search():
    def fail(_):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        solve(knapsack(12), 20, fail)
    assert solve(knapsack(8), 20)["status"] == "kOptimal"


def test_what_highs_refuses():
    with pytest.raises(RuntimeError, match="out of range"):
        solve(knapsack(4, matrix=(*knapsack(4)["matrix"][:2], np.full(4, 1e25))), 20)
    with pytest.raises(RuntimeError, match="refuses nonsense=1"):
        solve(knapsack(4, options={"nonsense": 1}), 20)


def test_a_decided_search_ends_early():
    began = time.monotonic()
    found = solve(knapsack(60, seed=1), 600, None, lambda bound: True)
    assert found["status"] in ("kInterrupt", "kHighsInterrupt", "kOptimal")
    assert time.monotonic() - began < 300

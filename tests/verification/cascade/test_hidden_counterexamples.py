"""Networks trained to hide a counterexample in every box: whoever proves a box is wrong.

`benchmarks/hidden_counterexamples.py` made them; attacks miss many of the points.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from keras_taps.choices import STAGES
from keras_taps.verification.cascade.stages import Verifier
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.cascade.verify import verify
from keras_taps.verification.certificate.checker import METHODS, Checker
from keras_taps.verification.graph.exact_values import exact_forms
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.unsafe import Unsafe
from tests.helpers import BACKEND

pytestmark = pytest.mark.usefixtures("eager")

once = pytest.mark.once
FORM = np.ones((1, 1)), np.zeros(1)


def load():
    """Dictionary from a name to `(graph, lower, upper, points)`."""
    found = {}
    with np.load(Path(__file__).parents[1] / "hidden_counterexamples.npz") as file:
        count = sum(name.endswith("_name") for name in file.files)
        for i in range(count):
            arrays = sum(name.startswith(f"{i}_array_") for name in file.files)
            arrays = [file[f"{i}_array_{j}"].astype("float64") for j in range(arrays)]
            graph = Graph.unpack(json.loads(str(file[f"{i}_structure"])), arrays)
            sides = (file[f"{i}_{side}"].astype("float64") for side in ("lower", "upper", "point"))
            found[str(file[f"{i}_name"])] = (graph, *sides)
    return found


NETWORKS = load()


def tasks_of(lower, upper):
    return [
        Task.of(low, high, *FORM, np.zeros(1, int), i)
        for i, (low, high) in enumerate(zip(lower, upper, strict=True))
    ]


@once
def test_the_truth_is_known():
    assert sum(len(points) for *_, points in NETWORKS.values()) >= 100
    for graph, lower, upper, points in NETWORKS.values():
        assert np.all((lower <= points) & (points <= upper))
        for point in points:
            assert exact_forms(graph, point, *FORM)[0] > 0


@once
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_checker_proves_none(name, method):
    graph, lower, upper, _ = NETWORKS[name]
    for box in zip(lower, upper, strict=True):
        assert Checker(graph).upper_bounds(*box, *FORM, method)[0] >= 0


# TensorFlow and JAX take many times as long for each stage of each network.
SOME = NETWORKS if BACKEND == "torch" else ("strided",)


@pytest.mark.parametrize("name", SOME)
def test_no_stage_certifies_one(name):
    """Each stage alone, for all boxes of a network together."""
    graph, lower, upper, points = NETWORKS[name]
    verifier = Verifier(graph, batch_size=len(points), strong={"steps": 10, "restarts": 2})
    for stage in STAGES if BACKEND != "jax" else ("crown-ibp", "alpha-crown", "milp"):
        tasks = tasks_of(lower, upper)
        verifier.run(stage, tasks, timeout=0.3)
        for task in tasks:
            assert task.verdict in (None, "falsified"), stage
            assert task.solver is None, stage


@pytest.mark.parametrize("name", SOME)
def test_all_stages_together_prove_none(name):
    graph, lower, upper, points = NETWORKS[name]
    at = len(points) // 2
    found = verify(graph, [Unsafe(lower[at], upper[at], *FORM)], timeout=3)
    assert found.verdict != "unsat"
    assert found.solver is None
    if found.verdict == "sat":
        assert exact_forms(graph, found.point, *FORM)[0] >= 0

"""Branch and bound over inputs: the verdicts of the exact solver, or none when time is over."""

import numpy as np
import pytest

from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.deadline import Deadline
from keras_taps.verification.certificate.many_boxes import ManyBoxes
from keras_taps.verification.certificate.nested_boxes import NestedBoxes
from keras_taps.verification.exact.milp import exact_bound
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.search.input_splitting import split_inputs
from tests.verification.helpers import interval_boxes, random_box, random_graph

pytestmark = pytest.mark.once


def search(graph, task, seconds=60.0, bounder=ManyBoxes):
    """The state, and the unsafe point that was accepted."""
    accepted = []

    def attempt(points):
        values = graph(points) @ task.query.forms.T + task.query.offset
        accepted.extend(p for p, v in zip(points, values, strict=True) if task.query.reached(v))
        return bool(accepted)

    found = split_inputs(bounder(graph), task, attempt, Deadline.after(seconds))
    return found, accepted


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gap", [-1e-3, 1e-3])
@pytest.mark.parametrize(
    ("kind", "bounder"), [("dense", ManyBoxes), ("leaky", ManyBoxes), ("leaky", NestedBoxes)]
)
def test_as_the_exact_solver(kind, bounder, gap, seed):
    """A threshold just above the largest value is proved, one just below it is reached."""
    graph = random_graph(kind, seed)
    box, form = random_box(graph, seed, 0.7), np.array([[1.0, -1.0, 0.0]])
    most = exact_bound(graph, *box, form[0], 0.0, interval_boxes(graph, *box)).value
    task = Task.of(*box, form, np.array([-most - gap]), np.array([0]))
    outcome, accepted = search(graph, task, bounder=bounder)
    assert outcome.state == ("closed" if gap > 0 else "reached")
    assert bool(accepted) == (gap < 0)


# Outputs |a| and |b| of two inputs.
KERNEL = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
AFTER = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
GRAPH = Graph((Dense(KERNEL, np.zeros(4)), Relu((4,)), Dense(AFTER, np.zeros(2))))
BOX = np.full(2, -1.0), np.array([1.0, 1.3])


@pytest.mark.parametrize(
    ("forms", "offset", "groups", "state"),
    [
        ([[1, 1], [-1, 0], [0, -1]], [-1.9, 0.6, 0.6], [0, 0, 0], "closed"),
        ([[1, 0], [0, 1]], [-0.9, -0.9], [0, 0], "reached"),
        ([[1, 0], [0, 1]], [-1.1, -1.4], [0, 1], "closed"),
        ([[1, 0], [0, 1]], [-1.1, -1.2], [0, 1], "reached"),
    ],
    ids=["no conjunction", "a conjunction", "no disjunct", "one disjunct"],
)
def test_groups(forms, offset, groups, state):
    task = Task.of(*BOX, np.array(forms, float), np.array(offset), np.array(groups))
    assert search(GRAPH, task)[0].state == state


def test_the_clock_and_the_smallest_box():
    one = np.array([[1.0, 0.0]])
    task = Task.of(*BOX, one, np.array([-1.0]), np.array([0]), strict=np.array([True]))  # |a| > 1
    assert search(GRAPH, task, seconds=0)[0].boxes == 0
    point = np.full(2, 0.5)  # its bound is 0, up to rounding, and it cannot be halved
    task = Task.of(point, point, one, np.array([-0.5]), np.array([0]), strict=np.array([True]))
    outcome, accepted = search(GRAPH, task)
    assert (outcome.state, outcome.left, accepted) == ("open", 1, [])

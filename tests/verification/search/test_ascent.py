"""Gradient ascent in NumPy: right gradients through every node, and only open sets are attacked."""

import numpy as np
import pytest

from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.deadline import Deadline
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.search.ascent import _with_gradient, ascend
from tests.verification.helpers import KINDS, random_graph

pytestmark = pytest.mark.once


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    graph, rng = random_graph(kind, 3), np.random.default_rng(0)
    points, rows = rng.normal(size=(2, 4, *graph.in_shape))[0], rng.normal(size=(4, 3))
    moves = 1e-6 * rng.normal(size=points.shape)
    outputs, back = _with_gradient(graph.nodes, points)
    np.testing.assert_allclose(outputs, graph(points))
    wanted = (rows * (graph(points + moves) - graph(points - moves))).sum(1) / 2
    found = (back(rows) * moves).reshape(4, -1).sum(1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-9)


# Outputs |a| and |b| of two inputs.
KERNEL = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
AFTER = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
GRAPH = Graph((Dense(KERNEL, np.zeros(4)), Relu((4,)), Dense(AFTER, np.zeros(2))))


def attack(forms, offset, groups, proved=(), seconds=60.0, starts=10):
    forms = np.array(forms, float)
    task = Task.of(np.full(2, -1.0), np.full(2, 1.0), forms, np.array(offset), np.array(groups))
    task.bounds[list(proved)] = -1.0
    tried = []
    attempt = lambda points: tried.extend(points) or True  # noqa: E731
    return ascend(GRAPH, task, attempt, Deadline.after(seconds), starts=starts), tried


def test_what_it_finds():
    assert attack([[1, 0], [0, 1]], [-0.9, -0.9], [0, 0])[0]
    assert not attack([[1, 0], [0, 1]], [-1.1, -0.9], [0, 0])[0]  # a conjunction that is nowhere
    found, tried = attack([[1, 0], [0, 1]], [-1.1, -0.9], [0, 1])
    assert found
    assert np.all(np.abs(np.array(tried)[:, 1]) >= 0.9)


def test_sets_that_are_proved_are_left_alone():
    assert not attack([[1, 0], [0, 1]], [-1.1, -0.9], [0, 1], proved=[1])[0]


def test_the_clock():
    assert not attack([[1, 0]], [-0.9], [0], seconds=0)[0]

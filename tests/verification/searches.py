"""Small problems for branch and bound, and searches compiled once for the graphs of a kind."""

from functools import lru_cache

import numpy as np

from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.schema import FALSIFIED
from keras_taps.verification.certificate.tree_checker import check_trees
from keras_taps.verification.exact.model import Program
from keras_taps.verification.exact.search import maximise
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, Relu, Reshape, Sum
from keras_taps.verification.graph.unsafe import worst_of
from keras_taps.verification.search.branch_and_bound import BranchAndBound
from tests.helpers import BACKEND

# Each compiled function costs seconds, but for PyTorch, which compiles none.
KINDS = ("dense", "leaky", "conv", "residual") if BACKEND == "torch" else ("residual",)


def graph_of(kind, seed):
    """A graph of at most 15 neurons with 3 outputs; its arrays are float32 numbers."""
    rng = np.random.default_rng(seed)

    def dense(inputs, outputs):
        return Dense(rng.normal(size=(inputs, outputs)), rng.normal(size=outputs))

    if kind == "dense":
        nodes = [dense(3, 6), Relu((6,)), dense(6, 5), Relu((5,)), dense(5, 4), Relu((4,))]
    elif kind == "leaky":
        nodes = [dense(3, 6), Relu((6,), 0.1), dense(6, 4), Relu((4,), 0.1)]
    elif kind == "conv":
        conv = Conv(rng.normal(size=(2, 2, 1, 2)), rng.normal(size=2), (3, 3, 1))
        shape = conv.out_shape
        nodes = [conv, Relu(shape), Reshape(shape, (8,)), dense(8, 4), Relu((4,))]
    elif kind == "residual":
        branch = (dense(5, 4), Relu((4,), 0.1), dense(4, 5))
        nodes = [dense(3, 5), Relu((5,)), Sum((5,), (branch, ())), Relu((5,))]
    structure, arrays = Graph((*nodes, dense(nodes[-1].out_shape[0], 3))).pack()
    return Graph.unpack(structure, [array.astype("float32") for array in arrays])


def largest(graph, lower, upper, forms, offset):
    """Exact maximum over a box of the smallest of some forms, by mixed-integer programming."""
    boxes = Checker(graph).root(lower, upper).boxes
    bracket = maximise(Program(graph, lower, upper, boxes), forms, offset, None, 60, 0.0, None, 1)
    assert bracket.bound - bracket.value < 1e-4
    return bracket.value


def problem(graph, seed, margin, index=0):
    """A task with groups of 1, 2 or 3 forms, and whether an input is unsafe.

    The largest value of each group is the margin above or below 0, or further below it.
    """
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=graph.in_shape)
    radius = rng.uniform(0.1, 0.5) * 3 / max(centre.size, 3)
    lower, upper = (np.float32(centre + sign * radius).astype("float64") for sign in (-1, 1))
    sizes = [3, *rng.integers(1, 3, rng.integers(0, 3))]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    forms, offset = rng.normal(size=(len(groups), 3)), rng.normal(size=len(groups))
    unsafe = bool(rng.random() < 0.5)
    broken = rng.integers(len(sizes)) if unsafe else -1
    for group in range(len(sizes)):
        mine = groups == group
        goal = margin if group == broken else -margin * rng.choice([1, 100])
        offset[mine] += goal - largest(graph, lower, upper, forms[mine], offset[mine])
    return Task.of(lower, upper, forms, offset, groups, index), unsafe


@lru_cache
def _search(kind):
    graph = graph_of(kind, 0)
    found = BranchAndBound(graph, None, None, sizes=(16,))
    found.attempt = lambda task, points: attempt(found.graph, task, points)
    return found


def attempt(graph, task, points):
    """Decide a task by a counterexample in float64."""
    for point, values in zip(
        points, graph(points) @ task.query.forms.T + task.query.offset, strict=True
    ):
        if np.all((point >= task.query.lower) & (point <= task.query.upper)) and task.query.reached(
            values
        ):
            task.point = point
            task.decide(FALSIFIED, "bab")


def loaded(kind, seed, branching="kfsb", check=True):
    """A search with the weights of a graph."""
    return with_graph(_search(kind), graph_of(kind, seed), branching, check)


def with_graph(search, graph, branching="kfsb", check=True):
    """The search, for a graph of the same structure."""
    search.look_at(graph)
    search.checker, search.check, search.branching = Checker(graph), check, branching
    search.engine.network.set_weights(build_network(graph).get_weights())
    search.sizes, search.memory, search.nodes = (16,), 2**31, 0
    return search


def proved(search, task):
    """Rigorous bounds on the groups of a task, of the box alone or of the task's trees."""
    root = search.checker.root(task.query.lower, task.query.upper)
    about = task.query.forms, task.query.offset
    alone = worst_of(task.query.groups, root.upper_bounds(*about, slopes=task.slopes))
    return np.fmin(alone, check_trees(root, *about, task.query.groups, task.trees))

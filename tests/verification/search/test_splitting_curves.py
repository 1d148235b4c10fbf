"""Branch and bound on smooth activations: what a grid shows is proved, and nothing else."""

import numpy as np
import pytest

from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.proofs import pack_trees, unpack_trees
from keras_taps.verification.certificate.schema import CERTIFIED, FALSIFIED
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.search.branch_and_bound import BranchAndBound
from keras_taps.verification.search.branching import Sites
from keras_taps.verification.search.instance import Instance, gather
from tests.helpers import BACKEND
from tests.verification.searches import attempt, proved

MARGINS = {"sigmoid": 0.05, "gelu": 0.01}  # as shares; beyond them the root knows
NAMES = list(MARGINS) if BACKEND == "torch" else ["sigmoid"]
GRID = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 201)] * 2), -1).reshape(-1, 2)
FORM = np.array([[1.0, -1.0]])


def graph_of(name, seed=0):
    """Two inputs, five neurons of a curve, four of a ReLU, three of a curve."""
    rng, nodes, inputs = np.random.default_rng(seed), [], 2
    for size, node in ((5, Curve((5,), name)), (4, Relu((4,), 0.1)), (3, Curve((3,), name))):
        kernel = rng.normal(size=(inputs, size)) * 2
        nodes += [Dense(np.float32(kernel), np.float32(rng.normal(size=size))), node]
        inputs = size
    last = np.float32(rng.normal(size=(inputs, 2)))
    return Graph((*nodes, Dense(last, np.zeros(2))))


def task_of(graph, margin):
    """Whether a form reaches a number that is above all that it has on a grid, by a share of it."""
    values = (graph(GRID) @ FORM.T)[:, 0]
    offset = -(values.max() + margin * np.ptp(values))
    return Task.of(GRID.min(0), GRID.max(0), FORM, np.full(1, offset), np.zeros(1, int))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_grid_shows_is_proved(name):
    graph = graph_of(name)
    search = BranchAndBound(graph, Checker(graph), None, sizes=(16,))
    search.attempt = lambda task, points: attempt(graph, task, points)
    safe, unsafe = (task_of(graph, margin) for margin in (MARGINS[name], -0.02))
    search.solve([safe, unsafe], timeout=60)
    assert (safe.verdict, safe.checked, unsafe.verdict) == (CERTIFIED, True, FALSIFIED)
    (tree,) = safe.trees
    curved = np.isnan(Sites(graph).kinks)
    assert name == "gelu" or tree.pack()["points"].any()  # its ReLUs alone may do
    assert curved[tree.neurons].any()
    safe.trees = unpack_trees(pack_trees(safe.trees))
    assert np.all(proved(search, safe) < 0)


def test_engine_and_checker_bound_the_same(monkeypatch):
    """Leaves with limits on both sides of curves, and multipliers of either sign."""
    graph = graph_of(NAMES[0], 1)
    checker, task = Checker(graph), task_of(graph, -0.5)
    search = BranchAndBound(graph, checker, None, sizes=(16,))
    instance = Instance(task, checker, sloped=search.engine.sloped)
    tree, rng, nodes = instance.trees[0], np.random.default_rng(0), []
    while len(tree.open_nodes) < 16:
        node = int(rng.choice(tree.open_nodes))
        low, high = instance.within(0, node)
        mine = np.intersect1d(instance.neurons, np.flatnonzero(search.sites.splits(low, high)))
        neuron = rng.choice(mine[[0, 1, -1]])
        tree.split(node, neuron, search.sites.point(neuron, low[neuron], high[neuron]))
    nodes = tree.open_nodes
    assert any(np.isfinite(tree.limits(n)).all(0).any() for n in nodes)
    count, size = len(nodes), len(instance.neurons)
    part = {
        "instance": np.zeros(count, int), "group": np.zeros(count, int),
        "node": np.array(nodes), "mix": np.ones((count, 1), "float32"),
        "slopes": np.tile(instance.start_slopes(0), (count, 1)),
        "betas": rng.normal(size=(count, size)).astype("float32") * 0.1,
    }  # fmt: skip
    domains = gather({0: instance}, part)
    found = search.engine.domains(domains, 16, 5)
    start = search.engine.quick(domains, 16)
    assert np.all(found.bounds <= start + 1e-4)
    for bounds, slopes, betas in (
        (start, domains.slopes, domains.betas),
        (found.bounds, found.slopes, found.betas),
    ):
        limits = domains.floor, domains.ceiling
        forms = np.repeat(FORM, count, 0), np.repeat(task.query.offset, count)
        exact = instance.root.upper_bounds(*forms, limits, slopes, betas)
        with monkeypatch.context() as context:  # the box of the outputs may say more
            context.setattr(instance.root._walk, "back", False)
            alone = instance.root.upper_bounds(*forms, limits)
        kept = np.isfinite(exact)
        assert np.any(exact[kept] < alone[kept] - 1e-3)
        least = np.minimum(bounds, alone)[kept]
        if bounds is start:
            np.testing.assert_allclose(least, exact[kept], 1e-3, 1e-3)
        # Of two multipliers of a neuron the checker is given what the larger has more.
        assert np.all(exact[kept] <= least + 1e-3)


@pytest.mark.once
def test_points_lie_between():
    for name in ("tanh", "gelu", "elu", "hard_silu"):
        sites = Sites(graph_of(name))
        for low, high in ((-9.0, 0.5), (-1.0, 1.0), (3.0, 3.01), (-1e-3, 9.0)):
            point = sites.point(0, low, high)
            assert low < point < high
            assert point == np.float32(point)
        assert sites.point(6, -1.0, 3.0) == 0.0

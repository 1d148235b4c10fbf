"""One input in branch and bound: what it hands to the engine and to the checker."""

import numpy as np
import pytest

from keras_taps.verification.cascade.task import Task
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.schema import CERTIFIED
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.search.instance import Instance, gather
from tests.verification.searches import graph_of

pytestmark = pytest.mark.once

GROUPS = np.array([0, 1, 1, 1, 2, 2])


def instance_of(seed=0, offset=50.0, radius=0.5):
    graph, rng = graph_of("leaky", seed), np.random.default_rng(seed)
    centre = rng.normal(size=3)
    task = Task.of(
        centre - radius, centre + radius, rng.normal(size=(6, 3)), np.full(6, offset), GROUPS
    )
    return Instance(task, Checker(graph))


def fields(instance, groups, members=3):
    """Domains at the roots of groups."""
    count, size = len(groups), len(instance.neurons)
    return {
        "instance": np.zeros(count, int),
        "group": np.array(groups),
        "node": np.zeros(count, int),
        "slopes": np.full((count, size + 2), 255, "uint8"),
        "betas": np.zeros((count, size + 2), "float32"),
        "mix": np.ones((count, members), "float32"),
    }


def test_neurons():
    instance = instance_of()
    crossing = (instance.root.lower < 0) & (instance.root.upper > 0)
    assert instance.neurons.tolist() == np.flatnonzero(crossing).tolist()
    low, high = instance.known
    assert np.all((low <= instance.root.lower) & (high >= instance.root.upper))
    tree, node, signs = instance.trees[0], 0, np.where(np.arange(len(instance.neurons)) % 2, 1, -1)
    for neuron, sign in zip(instance.neurons, signs, strict=True):
        assert instance.free(0, node)
        node = tree.split(node, neuron)[(sign + 1) // 2]
    assert not instance.free(0, node)
    low, high = (side[instance.neurons] for side in instance.within(0, node))
    assert not np.any(np.where(signs > 0, low, high))
    pattern, constrained = instance.pattern(0, node)
    assert np.flatnonzero(constrained).tolist() == instance.neurons.tolist()
    assert pattern[instance.neurons].tolist() == signs.tolist()
    assert np.all(pattern[instance.root.lower >= 0] == 1)
    assert np.all(pattern[instance.root.upper <= 0] == -1)


def test_groups_that_the_box_alone_proves():
    instance = instance_of(offset=-1e4)
    assert not instance.forms
    assert instance.finish("bab")
    assert (instance.task.verdict, instance.task.checked, instance.task.trees) == (
        CERTIFIED,
        True,
        [],
    )
    assert -1e4 - 200 < instance.task.bound < 0


def test_forms_that_fill_up_are_the_first():
    """Their weights are the first form's: the proof has no other."""
    instance = instance_of()
    forms, offset = instance.padded_forms(0, 3)
    np.testing.assert_array_equal(forms, instance.task.query.forms[[0, 0, 0]])
    forms, _ = instance.padded_forms(2, 3)
    np.testing.assert_array_equal(forms, instance.task.query.forms[[4, 5, 4]])
    assert offset.shape == (3,)
    mix = np.array([0.2, 0.3, 0.5], "float32")
    assert instance.own_mix(0, mix).tolist() == pytest.approx([1.0, 0, 0])
    assert instance.own_mix(1, mix).tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert instance.own_mix(2, mix).tolist() == pytest.approx([0.7, 0.3, 0])
    assert instance.own_mix(2, np.array([np.nan, 1.0, np.inf])).tolist() == [0, 1, 0]
    assert mix.tolist() == pytest.approx([0.2, 0.3, 0.5])


def test_gather():
    instance = instance_of()
    found = gather({0: instance}, fields(instance, [2, 0]))
    assert found.forms.shape == (2, 3, 3)
    other = np.setdiff1d(np.arange(instance.root.neurons), instance.neurons)
    assert np.all(np.isnan(found.slopes[:, other]))
    assert np.all(found.slopes[:, instance.neurons] == 1)
    assert np.all(found.lower[0] <= instance.task.query.lower)
    assert np.all(found.upper[0] >= instance.task.query.upper)


def test_boxes_that_are_not_finite():
    """Nothing is searched for, and nothing is certified."""
    kernel = np.array([[1.7e308], [1.7e308]])
    graph = Graph((Dense(kernel, np.zeros(1)), Relu((1,)), Dense(-np.ones((1, 1)), np.zeros(1))))
    task = Task.of(-np.ones(2), np.ones(2), np.ones((1, 1)), np.full(1, -1.0), np.zeros(1, int))
    with np.errstate(all="ignore"):
        instance = Instance(task, Checker(graph))
    assert instance.stuck
    assert not instance.finish("bab")
    assert task.verdict is None

"""Wrong verdicts that a review constructed; none of them may come back."""

import numpy as np
import pytest

from keras_taps.verification import Unsafe, recheck, verify
from keras_taps.verification.cascade.certify import certify, check_stages
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, MaxPool, Relu, Reshape, Scale, Sum
from tests.helpers import dense_network, numpy

NEARLY_ONE = 1 + 5e-8  # float32 makes it 1
ONES = np.ones((1, 10))


def unsafe(weights, offset, low=0.0, size=10):
    weights = np.atleast_2d(weights).astype("float64")
    return Unsafe(np.full(size, low), np.ones(size), weights, np.atleast_1d(np.float64(offset)))


def test_what_float32_drops_is_proved_before_the_exact_solver_takes_the_rest():
    kernel = np.concatenate([np.full((10, 1), NEARLY_ONE), *[np.eye(10)[:, :1]] * 2], axis=1)
    nodes = (Dense(kernel, np.array([0, -0.5, -0.5])), Relu((3,)), Dense(np.eye(3), np.zeros(3)))
    graph = Graph(nodes)
    tight, easy = unsafe([1, 0, 0], -(10 + 4.9e-7)), unsafe([0, 1, -1], -0.1)
    assert tight.contains(graph, ONES)[0]
    assert verify(graph, [tight, easy], timeout=20).verdict != "unsat"


def test_boxes_of_the_exact_solver_are_rigorous():
    """In float32 the neuron looks dead, for its summands cancel."""
    kernel, bias = np.full((10, 1), NEARLY_ONE * 2**20), np.array([-(10 + 4.9e-7) * 2**20])
    graph = Graph((Dense(kernel, bias), Relu((1,)), Dense(np.full((1, 1), 1e3), -np.ones(1))))
    assert graph(ONES)[0, 0] > 9
    assert verify(graph, [unsafe([1], 0)], timeout=20).verdict != "unsat"


@pytest.mark.once
def test_what_is_no_number_is_no_counterexample():
    large = Dense(np.full((10, 2), 1.7e308), np.zeros(2))
    graph = Graph((large, Dense(np.array([[1.0], [-1.0]]), -np.ones(1))))
    assert verify(graph, [unsafe([1], 0)], timeout=20).verdict not in ("sat", "unsat")


def test_zero_does_not_reach_a_strict_condition():
    graph = Graph((Relu((1,)), Dense(np.ones((1, 1)), np.zeros(1))))
    box = np.full(1, 0.5), np.ones(1)
    closed = Unsafe(*box, np.ones((1, 1)), -np.ones(1))
    strict = Unsafe(*box, np.ones((1, 1)), -np.ones(1), np.ones(1, bool))
    assert verify(graph, [closed]).verdict == "sat"
    assert verify(graph, [strict]).verdict != "sat"


def test_an_infinite_box_bounds_nothing():
    """Padding of a pooling window won against lower bounds of minus infinity."""
    shape = (4, 1, 1)
    column = np.array([-1.7e308, 0, 0, 0]).reshape(shape)
    shift = np.array([0, 0, 0, 0.5e300]).reshape(shape)
    half = Scale(column, shift, shape)
    pool = MaxPool(shape, (2, 1), (2, 1), ((1, 1), (0, 0)))
    kernel = np.array([[-1e-270], [0.0], [0.0]])
    nodes = (Sum(shape, ((half,), (half,))), pool, Relu(pool.out_shape))
    graph = Graph((*nodes, Reshape(pool.out_shape, (3,)), Dense(kernel, np.full(1, 0.5))))
    low = np.full(shape, -0.1)
    for method in ("ibp", "crown-ibp", "crown"):
        bound = Checker(graph).upper_bounds(low, np.ones(shape), np.ones((1, 1)), [0.0], method)
        assert bound[0] >= 0.5


def test_denormal_numbers_of_a_leaky_relu():
    graph = Graph((Relu((1,), 0.2), Dense(np.full((1, 1), -1e300), np.zeros(1))))
    bound = Checker(graph).upper_bounds(
        np.full(1, -1e-323), np.full(1, -5e-324), np.ones((1, 1)), np.zeros(1)
    )
    assert bound[0] >= 1.98e-24


@pytest.mark.parametrize("slope", [-0.1, 1.5, np.nan])
def test_slopes_for_which_the_lines_are_wrong(slope):
    with pytest.raises(ValueError, match="`slope` must be"):
        Relu((1,), slope)


def test_a_stage_is_named_once():
    with pytest.raises(ValueError, match="each stage once"):
        check_stages(["ibp", "attack", "ibp"])


def test_a_proof_about_other_data_is_rejected(tmp_path):
    network = dense_network()
    x = np.random.default_rng(0).random((4, 6)).astype("float32")
    y = numpy(network(x)).argmax(-1)
    path = tmp_path / "report.jsonl"
    certify(network, x, y, 1e-3, stages=["ibp"], out=path, certificates=True)
    found = recheck(path, x=x, y=y)
    assert found.confirmed
    assert not found.rejected
    other = recheck(path, x=1 - x, y=y)
    assert set(other.rejected) == set(found.confirmed)
    assert set(recheck(path, x=x[:0], y=y[:0]).rejected) == set(found.confirmed)

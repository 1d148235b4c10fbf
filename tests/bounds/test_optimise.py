"""Slopes: the optimiser keeps the best, and what the nodes do with slopes and windows is sound."""

import numpy as np
import pytest
from keras import ops

from keras_taps import layers as kl
from keras_taps.bounds.nodes import concretise, propagate, substitute, unfold
from keras_taps.bounds.optimise import optimise
from keras_taps.bounds.traces import with_slopes
from keras_taps.interval import Interval
from keras_taps.layers.residual import build_chain, walk
from tests.helpers import close, numbers, numpy, random_box, randomise, sample_points


def quadratic(target):
    """Bounds whose best slopes are `target`, each form with its own."""
    target = ops.convert_to_tensor(target)
    return lambda slopes: ops.sum((slopes - target) ** 2, axis=-1)


def test_finds_the_best_slopes():
    target = np.array([[[0.3, 0.9], [0.1, 0.5]]], "float32")
    start = ops.ones((1, 2, 2))
    bounds, slopes = optimise(quadratic(target), start, ops.zeros((2,)), iterations=100)
    close(slopes, target, 1e-2)
    close(bounds, [[0.0, 0.0]], 1e-3)


def test_stays_in_range():
    """A leaky ReLU's slope is the smallest, 1 the largest."""
    target = np.array([[[-1.0, 2.0, -1.0]]], "float32")
    low = ops.convert_to_tensor(np.array([0.0, 0.0, 0.25], "float32"))
    _, slopes = optimise(quadratic(target), ops.full((1, 1, 3), 0.5), low, iterations=50)
    close(slopes, [[[0.0, 1.0, 0.25]]], 1e-6)


@pytest.mark.parametrize("iterations", [0, 5])
def test_never_worse_than_the_start(iterations):
    """Also where steps lead astray, and with the slopes that give the bound."""

    def wild(slopes):
        return ops.sum(ops.sin(40 * slopes), axis=-1)

    start = ops.convert_to_tensor(numbers(3, 4, 5, low=0))
    bounds, slopes = optimise(wild, start, ops.zeros((5,)), iterations=iterations, rate=0.5)
    assert np.all(numpy(bounds) <= numpy(wild(start)) + 1e-5)
    close(wild(slopes), bounds, 1e-4)


def test_gradients_that_are_not_finite():
    start = ops.convert_to_tensor(np.array([[[0.0, 0.5]]], "float32"))
    bounds, slopes = optimise(
        lambda s: ops.sum(ops.sqrt(s), axis=-1), start, ops.zeros((2,)), iterations=20
    )
    assert np.all(np.isfinite(numpy(bounds)))
    assert numpy(bounds)[0, 0] <= np.sqrt(0.5) + 1e-6
    assert np.all(np.isfinite(numpy(slopes)))


def chain():
    branch = [kl.IntervalDense(4), kl.IntervalLeakyReLU(0.25), kl.IntervalDense(6)]
    layers = [
        kl.IntervalDense(6),
        kl.IntervalReLU(),
        kl.IntervalResidual([branch, []]),
        kl.IntervalReLU(),
    ]
    build_chain(layers, (None, 5))
    for i, layer in enumerate(layers):
        randomise(layer, i)
    return layers


def test_every_slope_in_range_is_sound():
    layers, box = chain(), random_box(1, 5, width=1.0)
    nodes, rows = unfold(layers), ops.convert_to_tensor(numbers(1, 3, 6, seed=2))
    _, traces = propagate(nodes, box)
    points = sample_points(box)
    values = numpy(walk(layers, ops.convert_to_tensor(points))) @ numpy(rows)[0].T
    for seed in range(3):
        low = (0.0, 0.25, 0.0)
        slopes = [
            ops.convert_to_tensor(numbers(1, 3, size, seed=seed, low=least, high=1))
            for size, least in zip((6, 4, 6), low, strict=True)
        ]
        sloped = with_slopes(traces, iter(slopes))
        back, constant = (numpy(v)[0] for v in substitute(nodes, sloped, rows, ops.zeros((1, 3))))
        assert np.all(values <= points @ back.T + constant + 1e-4)


def test_refine_sees_every_nonlinear_node_in_order():
    """And the boxes that it returns are used from there on."""
    nodes, box, seen = unfold(chain()), random_box(1, 5), []

    def refine(node, arrived, pull):
        seen.append((node.slope, tuple(arrived.lower.shape)))
        unit = ops.eye(arrived.lower.shape[-1])[None]
        upper = concretise(box, *pull(unit, ops.zeros((1, unit.shape[1]))))
        return Interval(arrived.lower, ops.minimum(arrived.upper, upper))

    found, _ = propagate(nodes, box, refine)
    plain, _ = propagate(nodes, box)
    assert seen == [(0.0, (1, 6)), (0.25, (1, 4)), (0.0, (1, 6))]
    assert np.all(numpy(found.upper) <= numpy(plain.upper) + 1e-5)
    assert np.any(numpy(found.upper) < numpy(plain.upper) - 1e-3)
    values = numpy(walk(chain(), ops.convert_to_tensor(sample_points(box))))
    assert np.all(values <= numpy(found.upper) + 1e-4)


POOLS = {
    "apart": lambda: kl.IntervalMaxPooling2D(2),
    "overlapping": lambda: kl.IntervalMaxPooling2D(2, strides=1),
    "same": lambda: kl.IntervalMaxPooling2D(2, padding="same"),
    "global": lambda: kl.IntervalGlobalMaxPooling2D(keepdims=True),
}


def upper_of_sum(layer, lower, upper):
    """Upper bound of the sum of all outputs of one layer."""
    box = Interval(*(ops.convert_to_tensor(b.astype("float32")) for b in (lower, upper)))
    nodes = unfold([layer])
    out, traces = propagate(nodes, box)
    rows = ops.ones((1, 1, *out.lower.shape[1:]))
    found = concretise(box, *substitute(nodes, traces, rows, ops.zeros((1, 1))))
    return float(numpy(found)[0, 0]), float(numpy(layer(box.upper)).sum())


@pytest.mark.parametrize("name", POOLS)
def test_windows_whose_lower_bounds_tie(name):
    """As after a ReLU: all lower bounds are 0, and none of the entries is known to win."""
    lower = np.zeros((1, 4, 4, 1))
    upper = np.random.default_rng(0).random((1, 4, 4, 1))
    found, reached = upper_of_sum(POOLS[name](), lower, upper)
    assert found >= reached - 1e-5


@pytest.mark.parametrize("name", ["apart", "global"])
def test_a_sure_winner_is_passed_on(name):
    """No constant is needed where one entry is above all others: the bound is exact."""
    lower, upper = np.zeros((1, 4, 4, 1)), np.full((1, 4, 4, 1), 0.5)
    lower[0, ::2, ::2], upper[0, ::2, ::2] = 1.0, 2.0
    if name == "global":
        lower[0, 0, 0], upper[0, 0, 0] = 3.0, 4.0
    layer = POOLS[name]()
    box = Interval(*(ops.convert_to_tensor(b.astype("float32")) for b in (lower, upper)))
    nodes = unfold([layer])
    out, traces = propagate(nodes, box)
    _, constant = substitute(
        nodes, traces, ops.ones((1, 1, *out.lower.shape[1:])), ops.zeros((1, 1))
    )
    close(constant, [[0.0]])

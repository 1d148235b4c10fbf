"""Boxes and lines of smooth activations hold in an arithmetic of 60 digits."""

import mpmath
import numpy as np
import pytest

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.curves import CurveLines, extremes, image
from keras_taps.verification.graph.curves import ERROR, FUNCTIONS, Curve
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense

pytestmark = pytest.mark.once

REAL = {
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "exponential": mpmath.exp,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "hard_silu": lambda x: x * min(max(x + 3, 0), 6) / 6,
}
# Of any size, at the knots, in the tails, without width, and of denormal numbers.
EDGES = [(0, 0), (0, 5e-324), (-1e-310, 1e-310), (-600, 600), (30, 31), (-800, -700), (-40, 0)]
EDGES += [(3, 3), (-3, 3), (1.4142135623730951, 2), (-2.3993572805154677, 2.3993572805154677)]


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


def boxes(count=60, seed=0):
    rng = np.random.default_rng(seed)
    centre, radius = rng.normal(0, 3, count), np.exp(rng.uniform(-35, 3, count))
    pairs = np.concatenate([np.stack([centre - radius, centre + radius], 1), EDGES])
    return tuple(np.ascontiguousarray(side) for side in pairs.T)


def points(low, high, count=15):
    inside = np.random.default_rng(1).uniform(0, 1, count)
    return np.clip([low, high, low / 2 + high / 2, *(low + inside * (high - low))], low, high)


def fails(node, box, check):
    """Pairs of a box and a point at which `check(i, x, f(x))` does not hold."""
    real = REAL[node.function]
    return [
        (low, high, x)
        for i, (low, high) in enumerate(zip(*box, strict=True))
        for x in points(low, high)
        if not check(i, mpmath.mpf(float(x)), real(mpmath.mpf(float(x))))
    ]


def line(slope, intercept, x):
    return mpmath.mpf(float(slope)) * x + mpmath.mpf(float(intercept))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_as_near_as_is_assumed(name):
    x = np.concatenate([np.random.default_rng(0).normal(0, s, 300) for s in (1e-9, 1, 10, 100)])
    node = Curve(x.shape, name)
    for at, value in zip(x, node(x), strict=True):
        real = REAL[name](mpmath.mpf(float(at)))
        allowed = ERROR * abs(real) + node.known.floor + mpmath.mpf(10) ** -300
        assert abs(mpmath.mpf(float(value)) - real) < allowed / 8, at


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_are_derivatives(name):
    x = np.random.default_rng(0).normal(0, 2, 50)
    x = np.clip(x, -2.9, 2.9) if name == "hard_silu" else -np.abs(x) if name == "elu" else x
    node = Curve(x.shape, name)
    for at, slope in zip(x, node.slope(x), strict=True):
        real = mpmath.diff(REAL[name], mpmath.mpf(float(at)))
        assert abs(mpmath.mpf(float(slope)) - real) < ERROR * (1 + abs(real)) / 8
        assert node.known.flattest <= slope <= node.known.steepest


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pieces_bend_as_they_should(name):
    known = FUNCTIONS[name]
    edges = [-30.0, *known.knots, 30.0]
    for left, right, bend in zip(edges, edges[1:], known.bends, strict=False):
        gap = mpmath.mpf(10) ** -13 * (not known.exact)  # a knot that is not exact is near
        inside = [left + gap, *np.linspace(left, right, 202)[1:-1], right - gap]
        step = mpmath.mpf(10) ** -16
        for x in map(mpmath.mpf, inside):
            x = min(max(x, left + step), right - step)
            second = REAL[name](x - step) - 2 * REAL[name](x) + REAL[name](x + step)
            assert second * bend > -(mpmath.mpf(10) ** -45), float(x)
            assert bend or abs(second) < mpmath.mpf(10) ** -50


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_image_holds_every_value(name):
    box = boxes()
    node = Curve(box[0].shape, name)
    low, high = image(node, box)
    assert np.all(np.isfinite(low) & np.isfinite(high))
    assert not fails(node, box, lambda i, x, y: low[i] <= y <= high[i])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lines_hold_and_are_tight(name):
    box = boxes()
    node = Curve(box[0].shape, name)
    lines = CurveLines.of(node, box)

    def between(i, x, y):
        above, beneath = (lines.steep[i], lines.over[i]), (lines.below[0, i], lines.under[0, i])
        return line(*beneath, x) <= y <= line(*above, x)

    assert not fails(node, box, between)
    low, high = image(node, box)
    middle = box[0] / 2 + box[1] / 2
    distance = (lines.steep - lines.below[0]) * middle + lines.over - lines.under[0]
    assert np.all(distance <= (high - low) * (1 + 1e-6) + 1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_slope_is_made_sound(name):
    box = boxes(20)
    node, rng = Curve(box[0].shape, name), np.random.default_rng(2)
    slopes = np.stack([rng.normal(0, 2, box[0].shape), rng.normal(0, 1e4, box[0].shape)])
    slopes[0, :5] = np.nan
    lines = CurveLines.of(node, box).with_slopes(slopes)
    for below, under in zip(lines.below, lines.under, strict=True):
        assert not fails(node, box, lambda i, x, y: line(below[i], under[i], x) <= y)  # noqa: B023


def test_the_size_of_an_elu():
    box = boxes(20)
    node = Curve(box[0].shape, "elu", 1.7)
    low, high = extremes(node, box, np.full(box[0].shape, 0.3))

    def between(i, x, y):
        value = (y if x > 0 else mpmath.mpf(1.7) * y) - mpmath.mpf(0.3) * x
        return low[i] <= value <= high[i]

    assert not fails(node, box, between)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_finite_proves_nothing(name):
    for pair in ((-1e308, 1e308), (710.0, 720.0), (np.nan, np.nan), (1e300, np.inf)):
        box = tuple(np.array([side]) for side in pair)
        low, high = image(Curve((1,), name), box)
        ends = FUNCTIONS[name].value(np.clip(np.array(pair), -1e308, 1e308), 1.0)
        for end in ends[np.isfinite(ends)]:
            assert not low[0] > end
            assert not high[0] < end
        if not np.all(np.isfinite(pair)):
            assert np.all(np.isnan([low[0], high[0]]))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown", "alpha-crown"])
def test_bounds_of_a_network_hold_at_samples_and_corners(name, method):
    rng = np.random.default_rng(3)
    first, second = (
        Dense(rng.normal(0, 1, (n, m)), rng.normal(0, 1, m)) for n, m in ((4, 9), (9, 6))
    )
    nodes = (first, Curve((9,), name), second, Curve((6,), name))
    graph = Graph((*nodes, Dense(rng.normal(0, 1, (6, 3)), rng.normal(0, 1, 3))))
    lower, upper = np.full(4, -0.4), np.array([0.1, 0.2, -0.4, 0.5])
    forms = np.array([[1.0, -1, 0], [0, 1, -1]])
    slopes = rng.uniform(-0.5, 1.5, (2, 15)) if method == "alpha-crown" else None
    bounds = Checker(graph).upper_bounds(lower, upper, forms, np.zeros(2), method, slopes)
    corners = np.stack(np.meshgrid(*zip(lower, upper, strict=True)), -1).reshape(-1, 4)
    inside = np.concatenate([rng.uniform(lower, upper, (1000, 4)), corners])
    worst = (graph(inside) @ forms.T).max(0)
    assert np.all(np.isfinite(bounds))
    assert np.all(bounds >= worst)


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match="`function` must be one of tanh"):
        Curve((1,), "sine")
    for name, alpha in (("tanh", 2.0), ("elu", -1.0), ("elu", float("nan"))):
        with pytest.raises(ValueError, match="`alpha`"):
            Curve((1,), name, alpha)

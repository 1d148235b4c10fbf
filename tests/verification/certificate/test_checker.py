"""The checker: never below the truth, whatever the weights, the slopes and the arithmetic."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification.certificate.checker import METHODS, Checker
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale
from tests.verification.helpers import KINDS, interval_boxes, random_box, random_graph, sample

pytestmark = pytest.mark.once

FORMS = np.array([[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])
OFFSET = np.array([0.1, -0.2])
SEEDS = st.integers(0, 10**6)


def neurons(graph, lower, upper):
    """Number of slopes of a graph."""
    boxes = interval_boxes(graph, lower, upper)
    pools = [node for node in graph.nodes if isinstance(node, MaxPool)]
    return sum(low.size for low, _ in boxes) - sum(int(np.prod(p.in_shape)) for p in pools)


def exact(graph, point):
    """Outputs of a dense graph at a point of fractions, in rational arithmetic."""
    values = [Fraction(v) for v in point]
    for node in graph.nodes:
        if isinstance(node, Dense):
            kernel = [[Fraction(w) for w in row] for row in node.kernel.tolist()]
            bias = [Fraction(b) for b in node.bias.tolist()]
            values = [
                sum((v * row[j] for v, row in zip(values, kernel, strict=True)), bias[j])
                for j in range(len(bias))
            ]
        elif isinstance(node, Scale):
            pairs = zip(values, node.scale.tolist(), node.bias.tolist(), strict=True)
            values = [v * Fraction(s) + Fraction(b) for v, s, b in pairs]
        else:
            values = [max(v, Fraction(node.slope) * v) for v in values]
    return values


def largest(graph, lower, upper, form, offset):
    """Largest value of a form over the corners of a box, in rational arithmetic."""
    corners = itertools.product(*zip(lower.tolist(), upper.tolist(), strict=True))
    found = []
    for corner in corners:
        outputs = exact(graph, corner)
        pairs = zip(form.tolist(), outputs, strict=True)
        found.append(sum((Fraction(w) * o for w, o in pairs), Fraction(float(offset))))
    return max(found)


@given(kind=st.sampled_from(KINDS), seed=SEEDS, radius=st.sampled_from([0.0, 0.05, 0.5]))
def test_above_every_sampled_value(kind, seed, radius):
    """With garbage for slopes too: out of range, NaN and infinite."""
    graph = random_graph(kind, seed % 1000)
    lower, upper = random_box(graph, seed, radius)
    points = sample(lower, upper, 10_000)
    reached = (graph(points) @ FORMS.T + OFFSET).max(0)
    rng, count = np.random.default_rng(seed), neurons(graph, lower, upper)
    slopes = rng.normal(size=(2, count)) * 10.0 ** rng.integers(-2, 3, (2, count))
    slopes[rng.random(slopes.shape) < 0.2] = np.nan
    slopes[rng.random(slopes.shape) < 0.1] = np.inf
    checker = Checker(graph)
    for method in METHODS:
        found = checker.upper_bounds(lower, upper, FORMS, OFFSET, method, slopes)
        assert np.all(np.isfinite(found))
        assert np.all(reached <= found + 1e-12 * (1 + np.abs(reached))), method


@given(kind=st.sampled_from(KINDS), seed=SEEDS)
def test_never_below_plain_float64(kind, seed):
    """The same interval arithmetic without rounding; the outputs' own differences are merged."""
    graph = random_graph(kind, seed % 1000)
    lower, upper = random_box(graph, seed)
    last = graph.nodes[-1]
    merged = Graph((*graph.nodes[:-1], Dense(last.kernel @ FORMS.T, last.bias @ FORMS.T)))
    probe = Graph((*merged.nodes, Relu((2,))))
    plain = interval_boxes(probe, lower, upper)[-1][1] + OFFSET
    found = Checker(graph).upper_bounds(lower, upper, FORMS, OFFSET, "ibp")
    assert np.all(found >= plain - 1e-14 * np.abs(plain))
    np.testing.assert_allclose(found, plain, rtol=1e-9)


@given(seed=SEEDS, slope=st.sampled_from([0.0, 0.25]), log_scale=st.integers(-12, 12))
def test_above_rational_arithmetic(seed, slope, log_scale):
    """Corners of the box in fractions: a bound is above each, with no tolerance at all."""
    rng = np.random.default_rng(seed)

    def dense(inputs, outputs):
        kernel = rng.normal(size=(inputs, outputs)) * 10.0 ** rng.integers(-3, 4, (inputs, outputs))
        return Dense(kernel, rng.normal(size=outputs) * 10.0**log_scale)

    nodes = dense(3, 3), Relu((3,), slope), dense(3, 2), Relu((2,), slope), dense(2, 1)
    graph = Graph(nodes)
    lower = rng.normal(size=3)
    upper = lower + rng.random(3) * rng.choice([0, 1e-15, 1e-6, 1.0])
    form, offset = np.ones((1, 1)), np.zeros(1)
    truth = largest(graph, lower, upper, form[0], offset[0])
    checker = Checker(graph)
    for method in METHODS:
        (found,) = checker.upper_bounds(lower, upper, form, offset, method)
        assert Fraction(found) >= truth, method


@given(seed=SEEDS)
def test_linear_networks_are_exact_up_to_rounding(seed):
    """Above the true maximum, and by 1e-12 of the sizes at most, which reach some tens."""
    rng = np.random.default_rng(seed)
    nodes = [Dense(rng.normal(size=(n, 3)), rng.normal(size=3)) for n in (4, 3)]
    graph = Graph(tuple(nodes))
    lower = rng.normal(size=4)
    upper = lower + rng.random(4)
    for method in ("crown-ibp", "crown", "alpha-crown"):
        found = Checker(graph).upper_bounds(lower, upper, FORMS, OFFSET, method)
        for value, form, offset in zip(found, FORMS, OFFSET, strict=True):
            truth = largest(graph, lower, upper, form, offset)
            assert 0 <= Fraction(value) - truth < Fraction(1, 10**10)


BIG = 1e8


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("small", [1e-9, 1e-12, 1e-17])
def test_cancellation_is_not_taken_for_a_proof(method, small):
    """True value `small` >= 0, what floating point finds is below 0, in float64 as in float32."""
    kernel = np.array([[BIG, -BIG], [BIG, -BIG]]) * (1 + 2.0**-30)
    after = np.array([[1.0], [1.0]])
    graph = Graph((Dense(kernel, np.zeros(2)), Dense(after, np.array([small]))))
    point = np.array([0.1, 0.7])
    truth = exact(graph, point)[0]
    assert truth > 0
    (found,) = Checker(graph).upper_bounds(point, point, np.ones((1, 1)), np.zeros(1), method)
    assert Fraction(found) >= truth


def test_naive_float_would_certify():
    """Three products whose sum is 2^-60 > 0; added in float64 in this order they are below 0."""
    tiny = 2.0**-60
    products = np.array([1.0, tiny, -1.0, -tiny / 2])
    assert sum(products.tolist()) < 0 < sum(map(Fraction, products.tolist()))
    graph = Graph((Dense(products[:, None], np.zeros(1)),))
    ones = np.ones(4)
    for method in METHODS:
        (found,) = Checker(graph).upper_bounds(ones, ones, np.ones((1, 1)), np.zeros(1), method)
        assert found >= tiny / 2


def test_folded_biases_keep_their_rounding():
    """A bias that cancelled while it was folded is as uncertain as what it was folded from."""
    (node,) = (Dense(np.ones((1, 1)), np.array([0.1])),)
    folded = node.scaled(np.ones(1), np.array([-0.1]), np.array([1e6]))
    found = Checker(Graph((folded,))).upper_bounds(
        np.zeros(1), np.zeros(1), np.ones((1, 1)), np.zeros(1)
    )
    assert found[0] > 1e-10


def test_underflow_is_not_taken_for_a_proof():
    """On the way back 1e-200 * 1e-200 is 0, and with it a factor of 1e300 would be lost."""
    weights = ((1e300, 0.0), (1e-200, 0.0), (1e-200, -1e-105))
    graph = Graph(tuple(Dense(np.full((1, 1), w), np.full(1, b)) for w, b in weights))
    one = np.ones(1)
    assert exact(graph, one)[0] > 0
    for method in METHODS:
        (found,) = Checker(graph).upper_bounds(one, one, np.ones((1, 1)), np.zeros(1), method)
        assert found >= 1e-101


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [1e300, 1e308, -1e300, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["first", "last", "bias", "last bias", "form", "offset"])
def test_overflow_and_nan_never_certify(method, value, place):
    """Bounds of +inf, or finite and true: with a weight of 1e300 the output can be positive."""
    first, last = np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[1.0], [-1.0]])
    bias, last_bias = np.zeros(2), np.full(1, -3.0)
    form, offset = np.ones((1, 1)), np.zeros(1)
    arrays = {"first": first, "last": last, "bias": bias, "last bias": last_bias, "form": form,
              "offset": offset}  # fmt: skip
    arrays[place].flat[0] = value
    with np.errstate(all="ignore"):
        graph = Graph((Dense(first, bias), Relu((2,)), Dense(last, last_bias)))
    box = -np.ones(2), np.ones(2)
    (found,) = Checker(graph).upper_bounds(*box, form, offset, method)
    assert found > -np.inf
    finite = np.isfinite(value)
    if not finite:
        assert found == np.inf
    else:
        with np.errstate(all="ignore"):
            reached = (graph(sample(*box, 1000)) @ form.T + offset).max()
        assert found >= reached


def test_overflow_beside_max_pooling():
    """A window whose lower bounds are all -inf has no entry to be routed to, padding least."""
    kernel = np.zeros((1, 1, 2, 2))
    kernel[0, 0, 0, 0], kernel[0, 0, 1, 1] = 1e308, 1.0
    conv = Conv(kernel, np.zeros(2), (3, 3, 2))
    pool = MaxPool((3, 3, 2), (2, 2), (1, 1), ((1, 0), (1, 0)))
    flat = int(np.prod(pool.out_shape))
    graph = Graph((conv, pool, Reshape(pool.out_shape, (flat,)), Dense(-np.ones((flat, 1)),
                                                                       np.zeros(1))))  # fmt: skip
    box = np.full((3, 3, 2), -10.0), np.full((3, 3, 2), 10.0)
    for method in METHODS:
        assert Checker(graph).upper_bounds(*box, np.ones((1, 1)), np.zeros(1), method)[0] == np.inf


@pytest.mark.parametrize("kind", ["dense", "pool", "residual"])
def test_boxes_without_width(kind):
    graph = random_graph(kind, 3)
    lower, _ = random_box(graph, 4)
    truth = FORMS @ graph(lower[None])[0] + OFFSET
    for method in METHODS:
        found = Checker(graph).upper_bounds(lower, lower, FORMS, OFFSET, method)
        assert np.all(found >= truth - 1e-14)
        np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-9)


def test_crown_is_tighter():
    """In the mean over networks, by far."""
    means = dict.fromkeys(METHODS, 0.0)
    for seed in range(20):
        graph = random_graph("dense", seed)
        box = random_box(graph, seed + 100)
        for method in METHODS:
            means[method] += Checker(graph).upper_bounds(*box, FORMS, OFFSET, method).mean() / 20
    assert means["ibp"] > means["crown-ibp"] + 0.3
    assert means["crown-ibp"] > means["crown"] + 0.01
    assert means["alpha-crown"] == means["crown"]  # no slopes: the usual ones


def test_many_neurons_in_chunks(monkeypatch):
    graph = random_graph("conv", 0)
    box = random_box(graph, 1)
    whole = Checker(graph).upper_bounds(*box, FORMS, OFFSET)
    for module in ("rounding", "walk"):
        monkeypatch.setattr(f"keras_taps.verification.certificate.{module}.MOST", 1)
    np.testing.assert_allclose(Checker(graph).upper_bounds(*box, FORMS, OFFSET), whole, rtol=1e-10)


GRAPH = random_graph("dense", 0)
LOWER, UPPER = np.zeros(3), np.ones(3)


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (UPPER, LOWER),
        (np.full(3, np.nan), UPPER),
        (LOWER, np.full(3, np.inf)),
        (np.zeros(2), np.ones(2)),
        (LOWER[None], UPPER[None]),
    ],
)
def test_boxes_that_are_none(lower, upper):
    with pytest.raises(ValueError, match="lower"):
        Checker(GRAPH).upper_bounds(lower, upper, FORMS, OFFSET)


@pytest.mark.parametrize("ends", [(np.nan, 1.0), (0.0, np.inf), (1.0, 0.0)])
def test_boxes_of_which_one_side_is_none(ends):
    lower, upper = np.zeros(2), np.ones(2)
    lower[1], upper[1] = ends
    checker = Checker(Graph((Dense(np.ones((2, 1)), np.zeros(1)),)))
    with pytest.raises(ValueError, match="finite with lower <= upper"):
        checker.upper_bounds(lower, upper, np.ones((1, 1)), np.zeros(1))


@pytest.mark.parametrize("shape", [(9,), (2, 8), (2, 10), (3, 9), (2, 0), (2, 3, 3)])
def test_slopes_of_another_shape(shape):
    with pytest.raises(ValueError, match="shape"):
        Checker(GRAPH).upper_bounds(LOWER, UPPER, FORMS, OFFSET, "alpha-crown", np.zeros(shape))


def test_other_arguments():
    with pytest.raises(ValueError, match="`method` must be one of"):
        Checker(GRAPH).upper_bounds(LOWER, UPPER, FORMS, OFFSET, "milp")
    with pytest.raises(ValueError, match="`forms` must have shape"):
        Checker(GRAPH).upper_bounds(LOWER, UPPER, FORMS[:, :2], OFFSET)
    with pytest.raises(ValueError, match="`forms` must have shape"):
        Checker(GRAPH).upper_bounds(LOWER, UPPER, FORMS, OFFSET[:1])


pixels = st.floats(0, 1, width=32)


@given(x=st.lists(pixels, min_size=1, max_size=5), eps=st.sampled_from(["2/255", "8/255", 0.1, 0]))
def test_input_interval_holds_every_real_input(x, eps):
    """Also where "2/255" and the bounds are no floating-point numbers."""
    lower, upper = input_interval(np.array(x), float(Fraction(eps)))
    radius = Fraction(eps)
    for pixel, low, high in zip(x, lower.tolist(), upper.tolist(), strict=True):
        assert Fraction(low) <= max(Fraction(pixel) - radius, 0)
        assert Fraction(high) >= min(Fraction(pixel) + radius, 1)
        assert 0 <= low <= high <= 1
        assert low >= float(pixel) - float(radius) - 1e-15
        assert high <= float(pixel) + float(radius) + 1e-15

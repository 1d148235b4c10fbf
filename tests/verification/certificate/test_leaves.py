"""The checker of leaves: never below the truth, whatever the multipliers; no looser than an LP."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.lines import LeafLines, ReluLines
from keras_taps.verification.certificate.rounding import Form
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu, Sum
from tests.verification.helpers import (
    KINDS,
    limits_of,
    random_box,
    random_graph,
    sample,
)

pytestmark = pytest.mark.once

FORMS = np.array([[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])
OFFSET = np.array([0.1, -0.2])
SEEDS = st.integers(0, 10**6)


def inputs_of(nodes, x, relus):
    """Outputs of nodes; the inputs of their ReLUs are appended, flattened, depth-first."""
    for node in nodes:
        if isinstance(node, Sum):
            x = sum(inputs_of(branch, x, relus) for branch in node.branches)
        else:
            if isinstance(node, Relu):
                relus.append(x.reshape(len(x), -1))
            x = node(x)
    return x


def pre_activations(graph, points):
    relus = []
    inputs_of(graph.nodes, points, relus)
    return np.concatenate(relus, 1)


def garbage(rng, shape):
    """Numbers of all sizes; some negative, NaN or infinite."""
    values = rng.normal(size=shape) * 10.0 ** rng.integers(-4, 4, shape)
    for value in (np.nan, np.inf, -np.inf, 0.0):
        values[rng.random(shape) < 0.05] = value
    return values


def leaves_at(rng, values, count, share):
    """Signs `(count, N)` of leaves that hold one of the points with these pre-activations."""
    chosen = values[rng.integers(0, len(values), count)]
    fixed = rng.random((count, values.shape[1])) < share
    return np.where(fixed, np.where(chosen >= 0, 1, -1), 0).astype("int8")


@given(kind=st.sampled_from(KINDS), seed=SEEDS, radius=st.sampled_from([0.02, 0.3, 1.0]))
def test_above_every_sampled_value(kind, seed, radius):
    """Over the points that satisfy the signs, with garbage for every multiplier."""
    rng = np.random.default_rng(seed)
    graph = random_graph(kind, seed % 1000)
    lower, upper = random_box(graph, seed, radius)
    points = sample(lower, upper, 2000)
    values, root = pre_activations(graph, points), Checker(graph).root(lower, upper)
    assert root.neurons == values.shape[1]
    assert np.all((values >= root.lower - 1e-9) & (values <= root.upper + 1e-9))
    leaves = 12
    signs = leaves_at(rng, values, leaves, rng.choice([0.02, 0.2, 1.0]))
    forms, offset = rng.normal(size=(leaves, 3)), rng.normal(size=leaves)
    garbled = garbage(rng, signs.shape), garbage(rng, signs.shape)
    found = root.upper_bounds(forms, offset, limits_of(signs), *garbled)
    assert not np.any(np.isnan(found))
    inside = np.all((signs[:, None] == 0) | (signs[:, None] * values[None] >= 0), -1)
    assert inside.any(1).all()
    reached = np.where(inside, forms @ graph(points).T + offset[:, None], -np.inf).max(1)
    assert np.all(found >= reached - 1e-10 * (1 + np.abs(reached)))


def exact_values(nodes, point):
    """Inputs of the ReLUs and the output of a dense graph in rational arithmetic."""
    values, relus = [Fraction(v) for v in point], []
    for node in nodes:
        if isinstance(node, Dense):
            kernel, bias = node.kernel.tolist(), node.bias.tolist()
            columns = [[Fraction(w) for w in column] for column in zip(*kernel, strict=True)]
            values = [
                sum((v * w for v, w in zip(values, column, strict=True)), Fraction(b))
                for column, b in zip(columns, bias, strict=True)
            ]
        else:
            relus += values
            values = [max(v, Fraction(node.slope) * v) for v in values]
    return relus, values[0]


@given(seed=SEEDS, slope=st.sampled_from([0.0, 0.3]))
def test_above_rational_arithmetic(seed, slope):
    """In leaves that hold a point exactly the bound is above its value, with no tolerance."""
    rng = np.random.default_rng(seed)

    def dense(inputs, outputs):
        kernel = rng.normal(size=(inputs, outputs)) * 10.0 ** rng.integers(-3, 4, (inputs, outputs))
        return Dense(kernel, rng.normal(size=outputs) * 10.0 ** rng.integers(-8, 8))

    nodes = dense(3, 4), Relu((4,), slope), dense(4, 3), Relu((3,), slope), dense(3, 1)
    checker = Checker(Graph(nodes))
    for _ in range(6):
        lower = rng.normal(size=3)
        upper = lower + rng.random(3) * rng.choice([0, 1e-15, 1e-9, 1.0])
        root = checker.root(lower, upper)
        relus, truth = exact_values(nodes, lower)
        leaves = 20
        sides = np.array([1 if v >= 0 else -1 for v in relus], "int8")
        signs = np.where(rng.random((leaves, 7)) < 0.5, sides, 0)
        betas = rng.random((leaves, 7)) * 10.0 ** rng.integers(-10, 14, (leaves, 7))
        slopes = rng.random((leaves, 7))
        args = np.ones((leaves, 1)), np.zeros(leaves), limits_of(signs), slopes, signs * betas
        assert all(Fraction(bound) >= truth for bound in root.upper_bounds(*args).tolist())


def fractions(array):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(array, "float64"))


def assert_covered(before, after, rows, constant, size):
    """What a form lost by rounding, on inputs of this size, is within the error that it added."""
    gap = (np.abs(fractions(after.rows) - rows) * fractions(size)).sum(1)
    gap = gap + np.abs(fractions(after.constant) - constant)
    assert np.all(fractions(after.error) - fractions(before.error) >= gap)


@given(seed=SEEDS)
def test_every_sum_pays_for_its_rounding(seed):
    """A ReLU in a leaf against rational arithmetic, with sums that cancel."""
    rng = np.random.default_rng(seed)
    n, leaves = 5, 8

    def numbers(*shape):
        return rng.normal(size=shape) * 10.0 ** rng.integers(-9, 9, shape)

    size = np.abs(numbers(n))
    upper = size * rng.choice([0.5, 1], n)
    lines = ReluLines.of((-size, upper), 0.3)
    signs = rng.integers(-1, 2, (leaves, n)).astype("int8")
    rows = numbers(leaves, n)
    nearly = -rows * np.where(signs > 0, 1.0, 0.3) * (1 + 2.0**-40)
    pushes = np.where(
        (signs != 0) & (signs * nearly > 0), nearly, signs * np.abs(numbers(leaves, n))
    )
    form = Form(rows, numbers(leaves), np.zeros(leaves))
    found = LeafLines(**vars(lines), signs=signs, pushes=pushes).back(form)
    rising = np.maximum(rows, 0)
    lined = fractions(rising) * fractions(lines.steep) + fractions(rows - rising) * fractions(
        lines.below
    )
    kept = fractions(rows) * fractions(np.where(signs > 0, 1.0, 0.3))
    exact = np.where(signs == 0, lined, kept) + fractions(pushes)
    lifted = fractions(np.where(signs == 0, rising, 0)) @ fractions(lines.over)
    assert_covered(form, found, exact, fractions(form.constant) + lifted, size)


@given(seed=SEEDS, slope=st.sampled_from([0.0, 0.2]))
def test_equals_the_linear_program(seed, slope):
    """Over one hidden layer the best multipliers give the LP of the lines and the splits."""
    rng, n = np.random.default_rng(seed), 6
    first = Dense(rng.normal(size=(3, n)), 0.3 * rng.normal(size=n))
    last = Dense(rng.normal(size=(n, 1)), rng.normal(size=1))
    graph = Graph((first, Relu((n,), slope), last))
    lower, upper = random_box(graph, seed, 0.8)
    root = Checker(graph).root(lower, upper)
    centre = (first((lower + (upper - lower) * rng.random(3))[None])[0] >= 0) * 2 - 1
    signs = np.where(rng.random(n) < 0.4, centre, 0)
    low, high = root.lower, root.upper
    slopes, betas, gains = np.full(n, np.nan), np.zeros(n), last.kernel[:, 0]

    # Variables x, y. Rows of A [x, y] <= b; z = x @ kernel + bias.
    a, b, names, equal, right = [], [], [], [], []
    for j in range(n):
        z, y, unit = np.append(first.kernel[:, j], np.zeros(n)), np.zeros(3 + n), first.bias[j]
        y[3 + j] = 1
        crossing = low[j] < 0 < high[j]
        if signs[j]:
            a, b, names = [*a, -signs[j] * z], [*b, signs[j] * unit], [*names, ("beta", j)]
        if signs[j] or not crossing:
            gain = 1 if (signs[j] or low[j]) >= 0 else slope
            equal, right = [*equal, y - gain * z], [*right, gain * unit]
            continue
        chord = (high[j] - slope * low[j]) / (high[j] - low[j])
        shift = high[j] - chord * high[j]
        a += [z - y, slope * z - y, y - chord * z]
        b += [-unit, -slope * unit, chord * unit + shift]
        names += [("steep", j), ("flat", j), ("chord", j)]
    bounds = [*zip(lower, upper, strict=True), *[(None, None)] * n]
    gain = -np.append(np.zeros(3), gains)
    solved = linprog(
        gain, np.array(a) if a else None, b or None, np.array(equal) if equal else None,
        right or None, bounds,
    )  # fmt: skip
    assert solved.status == 0
    for (name, j), price in zip(names, -solved.ineqlin.marginals, strict=True):
        if name == "beta":
            betas[j] = price
        elif name == "steep" and gains[j] < 0:
            slopes[j] = slope + (1 - slope) * price / -gains[j]
    (found,) = root.upper_bounds(
        np.ones((1, 1)), np.zeros(1), limits_of(signs[None]), slopes[None], (signs * betas)[None]
    )
    assert found <= -solved.fun + last.bias[0] + 1e-7
    # The box behind the ReLUs serves too, and it may say more than the LP.
    box = np.where(gains > 0, Relu((n,), slope)(high), Relu((n,), slope)(low)) @ gains
    assert found >= min(-solved.fun, box) + last.bias[0] - 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_without_splits_it_is_alpha_crown(kind):
    graph = random_graph(kind, 5)
    box = random_box(graph, 6)
    checker = Checker(graph)
    root = checker.root(*box)
    rng = np.random.default_rng(0)
    slopes = rng.random((2, root.neurons))
    slopes[rng.random(slopes.shape) < 0.3] = np.nan
    for method, own in (("crown", None), ("alpha-crown", slopes)):
        expected = checker.upper_bounds(*box, FORMS, OFFSET, method, own)
        nothing = np.zeros((2, root.neurons))
        for limits in (None, limits_of(nothing)):
            found = root.upper_bounds(FORMS, OFFSET, limits, own, betas=nothing + 3.0)
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_everything_split_is_the_linear_piece():
    """All signs fixed: with no betas the maximum of the affine piece over the box."""
    graph = random_graph("leaky", 1)
    lower, upper = random_box(graph, 2, 0.5)
    root = Checker(graph).root(lower, upper)
    point = sample(lower, upper, 3)[2:]
    values = pre_activations(graph, point)
    signs = np.where(values >= 0, 1, -1).astype("int8")
    gains = np.where(signs[0] > 0, 1, 0.2)
    a, _, b, _, c = graph.nodes
    matrix = (a.kernel * gains[:5]) @ (b.kernel * gains[5:]) @ c.kernel
    slope = FORMS @ matrix.T
    radius, centre = (upper - lower) / 2, (lower + upper) / 2
    at = FORMS @ graph(point)[0] + slope @ (centre - point[0]) + np.abs(slope) @ radius
    found = root.upper_bounds(FORMS, np.zeros(2), limits_of(np.repeat(signs, 2, 0)))
    known = root.upper_bounds(FORMS, np.zeros(2))
    assert np.all(found <= at + 1e-9)
    assert np.all((np.abs(found - at) < 1e-9) | (found <= known + 1e-9))


def test_betas_use_the_split():
    """relu(x - 0.5) where x <= 0: the chord alone says 0.5, the multiplier 0.25."""
    kernel, bias = np.array([[1.0, 1.0]]), np.array([0.0, -0.5])
    graph = Graph((Dense(kernel, bias), Relu((2,)), Dense(np.array([[0.0], [1.0]]), np.zeros(1))))
    root = Checker(graph).root(-np.ones(1), np.ones(1))
    limits, betas = limits_of([[-1, 0]] * 2), np.array([[0, 0], [-0.25, 9]])
    found = root.upper_bounds(np.ones((2, 1)), np.zeros(2), limits, None, betas)
    np.testing.assert_allclose(found, [0.5, 0.25], atol=1e-12)


def test_contradictory_signs():
    """Empty leaves, and those that touch 0, which are not."""
    first = Dense(np.ones((1, 3)), np.array([2.0, -2.0, 1.0]))
    graph = Graph((first, Relu((3,)), Dense(np.ones((3, 1)), np.zeros(1))))
    root = Checker(graph).root(-np.ones(1), np.ones(1))
    signs = np.array([[-1, 0, 0], [0, 1, 0], [0, 0, -1], [1, -1, 0]], "int8")
    found = root.upper_bounds(np.ones((4, 1)), np.zeros(4), limits_of(signs))
    assert np.all(found[:2] == -np.inf)
    assert np.all(found[2:] >= [3 - 1e-9, 5])


def test_leaves_that_touch_zero_are_not_empty():
    """A ReLU on a dead ReLU: its input is exactly 0, and both signs hold."""
    nodes = (
        Dense(np.ones((1, 1)), np.full(1, -5.0)),
        Relu((1,)),
        Relu((1,)),
        Dense(np.ones((1, 1)), np.ones(1)),
    )
    root = Checker(Graph(nodes)).root(-np.ones(1), np.ones(1))
    signs = np.array([[0, -1], [0, 1]], "int8")
    assert root.lower[1] == root.upper[1] == 0
    assert np.all(root.upper_bounds(np.ones((2, 1)), np.zeros(2), limits_of(signs)) >= 1)


@pytest.mark.parametrize("place", ["slopes", "betas"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e9, 1e308, 5e-324])
def test_any_multipliers_are_sound(place, value):
    """Of relu(x + y) + relu(x - y), 2 at x = y = 1, in the leaf x + y >= 0, x - y <= 0."""
    first = Dense(np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2))
    graph = Graph((first, Relu((2,)), Dense(np.ones((2, 1)), np.zeros(1))))
    root = Checker(graph).root(-np.ones(2), np.ones(2))
    arrays = {"slopes": np.full((1, 2), 0.5), "betas": np.ones((1, 2))}
    arrays[place] = np.full_like(arrays[place], value)
    (found,) = root.upper_bounds(
        np.ones((1, 1)), np.zeros(1), limits_of([[1, -1]]), *arrays.values()
    )
    assert found >= 2


@pytest.mark.parametrize("value", [1e300, np.nan, np.inf])
def test_overflow_never_certifies(value):
    first = Dense(np.array([[value, 1.0]]), np.zeros(2))
    graph = Graph((first, Relu((2,)), Dense(np.array([[-1.0], [0.0]]), np.full(1, -1.0))))
    root = Checker(graph).root(-np.ones(1), np.ones(1))
    for signs in ([[0, 0]], [[-1, 1]], [[1, -1]]):
        (found,) = root.upper_bounds(
            np.ones((1, 1)), np.zeros(1), limits_of(signs), None, 1e300 * np.array(signs)
        )
        assert found >= -1.0


@given(seed=SEEDS)
def test_mixtures_count_their_rounding(seed):
    """Forms that cancel in a mixture, on outputs of very different size, in rational arithmetic."""
    rng = np.random.default_rng(seed)
    graph = Graph((Dense(np.eye(3), np.zeros(3)),))
    point = rng.normal(size=3) * 10.0 ** rng.integers(-6, 9, 3)
    root = Checker(graph).root(point, point)
    forms, offset, weights = rng.normal(size=(2, 3)), rng.normal(size=2), rng.random((6, 2))
    forms[1], offset[1] = -forms[0] * 7 * (1 + 1e-16), -offset[0] * 7
    weights[:, 1] = weights[:, 0] / 7
    mixed, shift, error = root.mixed(weights, forms, offset)
    gap = np.abs(fractions(weights) @ fractions(forms) - fractions(mixed)) @ fractions(
        np.abs(point)
    )
    gap = gap + np.abs(fractions(weights) @ fractions(offset) - fractions(shift))
    assert np.any(gap > 0)
    assert np.all(fractions(error) >= gap)
    exact = fractions(weights) @ (fractions(forms) @ fractions(point) + fractions(offset))
    assert np.all(fractions(root.upper_bounds(mixed, shift, error=error)) >= exact)


def test_mixtures_have_no_negative_weights():
    root = Checker(Graph((Dense(np.ones((1, 1)), np.zeros(1)),))).root(np.ones(1), np.ones(1))
    garbage = np.array([[-1.0, np.nan], [np.inf, 2.0]])
    mixed, shift, _ = root.mixed(garbage, np.array([[0.1], [-0.3]]), np.ones(2))
    np.testing.assert_array_equal(mixed, [[0.0], [-0.6]])
    np.testing.assert_array_equal(shift, [0.0, 2.0])


def test_chunks(monkeypatch):
    graph = random_graph("residual", 0)
    box = random_box(graph, 1)
    rng, leaves = np.random.default_rng(2), 5
    values = pre_activations(graph, sample(*box, 50))
    signs = leaves_at(rng, values, leaves, 0.2)
    args = (
        rng.normal(size=(leaves, 3)), rng.normal(size=leaves), limits_of(signs),
        rng.random(signs.shape), signs * rng.random(signs.shape),
    )  # fmt: skip
    whole = Checker(graph).root(*box).upper_bounds(*args)
    monkeypatch.setattr("keras_taps.verification.certificate.leaves._ROWS", 1)
    single = Checker(graph).root(*box).upper_bounds(*args)
    np.testing.assert_allclose(single, whole, rtol=1e-9)


def test_a_network_without_relus():
    graph = Graph((Dense(np.ones((2, 1)), np.zeros(1)),))
    root = Checker(graph).root(np.zeros(2), np.ones(2))
    assert root.neurons == 0
    assert abs(root.upper_bounds(np.ones((1, 1)), np.zeros(1))[0] - 2) < 1e-9


ROOT = Checker(random_graph("dense", 0)).root(np.zeros(3), np.ones(3))
GOOD = {
    "forms": FORMS,
    "offset": OFFSET,
    "limits": limits_of(np.zeros((2, 9))),
    "slopes": np.zeros((2, 9)),
    "betas": np.zeros((2, 9)),
    "error": np.zeros(2),
}


def test_what_fits():
    assert np.all(np.isfinite(ROOT.upper_bounds(**GOOD)))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"forms": FORMS[:, :2]}, "`forms` must have shape"),
        ({"offset": OFFSET[:1]}, "`forms` must have shape"),
        ({"limits": limits_of(np.zeros((2, 8)))}, "`limits` must have shape"),
        ({"limits": (np.full((2, 9), np.nan), np.ones((2, 9)))}, "`limits` must be numbers"),
        ({"limits": (np.full((2, 9), -0.5), np.full((2, 9), np.inf))}, "split at 0 alone"),
        ({"slopes": np.zeros((1, 9))}, "`slopes` must have shape"),
        ({"betas": np.zeros(9)}, "`betas` must have shape"),
        ({"error": np.zeros(3)}, "`error` must have shape"),
    ],
)
def test_what_does_not_fit(changed, reason):
    with pytest.raises(ValueError, match=reason):
        ROOT.upper_bounds(**{**GOOD, **changed})

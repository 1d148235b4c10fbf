"""Boxes and lines of smooth activations hold in an arithmetic of 60 digits."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.curves import CurveLines, extremes, image
from keras_taps.verification.certificate.rounding import Form
from keras_taps.verification.certificate.tree import Tree
from keras_taps.verification.certificate.tree_checker import check_trees
from keras_taps.verification.graph.curves import ERROR, FUNCTIONS, Curve
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu

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
        above, beneath = (
            (lines.steep[0, i], lines.over[0, i]),
            (lines.below[0, i], lines.under[0, i]),
        )
        return line(*beneath, x) <= y <= line(*above, x)

    assert not fails(node, box, between)
    low, high = image(node, box)
    middle = box[0] / 2 + box[1] / 2
    distance = (lines.steep - lines.below)[0] * middle + (lines.over - lines.under)[0]
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
    for steep, over in zip(lines.steep, lines.over, strict=True):
        assert not fails(node, box, lambda i, x, y: line(steep[i], over[i], x) >= y)  # noqa: B023


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


def root_of(name, seed=5):
    """A root of curves around ReLUs; pre-activations and outputs at samples and corners."""
    rng, nodes, inputs = np.random.default_rng(seed), [], 3
    for size, node in ((4, Curve((4,), name)), (3, Relu((3,), 0.1)), (3, Curve((3,), name))):
        nodes += [Dense(rng.normal(size=(inputs, size)) * 1.5, rng.normal(size=size)), node]
        inputs = size
    graph = Graph((*nodes, Dense(rng.normal(size=(3, 2)), np.zeros(2))))
    lower, upper = -np.ones(3), np.array([1.0, 0.3, -1.0])
    x = np.concatenate([rng.uniform(lower, upper, (1000, 3)), [lower, upper]])
    values, z = x, []
    for node in graph.nodes:
        if not isinstance(node, Dense):
            z.append(values)
        values = node(values)
    return Checker(graph).root(lower, upper), np.concatenate(z, 1), values


def limits_at(rng, z, curved, count):
    """Limits of leaves, each with one of the points, at random numbers or at the points."""
    at = z[rng.integers(0, len(z), count)]
    gaps = rng.exponential(size=(2, *at.shape)) * rng.choice([0.0, 0.3], (2, *at.shape))
    some = rng.random(gaps.shape) < 0.5
    floor, ceiling = np.where(curved, at - gaps[0], 0.0), np.where(curved, at + gaps[1], 0.0)
    some &= curved | np.stack([at >= 0, at < 0])
    return np.where(some[0], floor, -np.inf), np.where(some[1], ceiling, np.inf)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_leaves_hold_where_their_limits_do(name):
    """With garbage for multipliers."""
    root, z, outputs = root_of(name)
    rng, count, curved = np.random.default_rng(0), 24, np.isnan(root.kinks)
    assert np.all((z >= root.lower - 1e-12) & (z <= root.upper + 1e-12))
    forms, offset = rng.normal(size=(count, 2)), rng.normal(size=count)
    limits = limits_at(rng, z, curved, count)
    garbage = rng.normal(size=(2, *limits[0].shape)) * 10.0 ** rng.integers(-3, 2, limits[0].shape)
    garbage[rng.random(garbage.shape) < 0.1] = np.nan
    inside = np.all((z >= limits[0][:, None]) & (z <= limits[1][:, None]), -1)
    assert inside.any(1).all()
    reached = np.where(inside, forms @ outputs.T + offset[:, None], -np.inf).max(1)
    for slopes, betas in ((None, None), garbage):
        found = root.upper_bounds(forms, offset, limits, slopes, betas)
        assert np.all(found >= reached - 1e-12 * (1 + np.abs(reached)))


def test_a_multiplier_uses_its_limit():
    """-tanh(x) where x >= 0.5: a line of slope 0.5 gives its largest value at x = -1."""
    graph = Graph((Dense(np.ones((1, 1)), np.zeros(1)), Curve((1,), "tanh"),
                   Dense(-np.ones((1, 1)), np.zeros(1))))  # fmt: skip
    root = Checker(graph).root(-np.ones(1), np.ones(1))
    form, nothing = np.ones((1, 1)), np.zeros(1)
    root._walk.inner = tuple(9 * side for side in root._walk.inner)  # the box would say it too
    limits = np.full((1, 1), 0.5), np.full((1, 1), np.inf)
    slope = np.full((1, 1), 0.5)
    under = np.tanh(1) - 0.5  # tanh(x) >= 0.5 x + tanh(1) - 0.5 near 1, or by the other end
    under = min(under, np.tanh(0.5) - 0.25)
    (without,) = root.upper_bounds(form, nothing, limits, slope)
    (found,) = root.upper_bounds(form, nothing, limits, slope, np.full((1, 1), 0.5))
    assert without == pytest.approx(0.5 - under)
    assert found == pytest.approx(-0.25 - under)
    (other,) = root.upper_bounds(form, nothing, limits, slope, np.full((1, 1), -0.5))
    assert other == pytest.approx(without)  # it belongs to no limit
    upper = np.full((1, 1), -np.inf), np.full((1, 1), -0.5)
    (found,) = root.upper_bounds(-form, nothing, upper, slope, np.full((1, 1), -0.5))
    assert found == pytest.approx(-0.25 - under)
    empty = np.full((1, 1), 1.5), np.full((1, 1), np.inf)
    assert root.upper_bounds(form, nothing, empty)[0] == -np.inf
    crossed = np.full((1, 1), 0.5), np.full((1, 1), 0.4)
    assert root.upper_bounds(form, nothing, crossed)[0] == -np.inf


def test_lines_of_leaves_are_drawn_again():
    """Where limits are within the box, on either side or both; else they are those of the box."""
    rng, box = np.random.default_rng(0), (-np.ones(6), np.ones(6))
    limits = rng.choice([-np.inf, -3, -0.6, 0.1], (9, 6)), rng.choice([np.inf, 3, 0.7], (9, 6))
    leaf = CurveLines.of(Curve((6,), "tanh"), box).in_leaves(limits, None)
    own = np.maximum(box[0], limits[0]), np.minimum(box[1], limits[1])
    fresh = CurveLines.of(Curve((9, 6), "tanh"), own)
    for name in ("steep", "over", "below", "under"):
        np.testing.assert_array_equal(getattr(leaf, name), getattr(fresh, name)[0])
    np.testing.assert_array_equal(leaf.box, own)


def test_multipliers_pay_for_rounding():
    """The form of a leaf on its inputs, in exact arithmetic."""
    rng, count = np.random.default_rng(0), 40
    node, box = Curve((6,), "tanh"), (-1.1 - rng.random(6), 1.1 + rng.random(6))
    limits = rng.uniform(-1, -0.1, (count, 6)), rng.uniform(0.1, 1, (count, 6))
    pushes = rng.normal(size=(count, 6)) * 10.0 ** rng.integers(-3, 12, (count, 6))
    leaf = CurveLines.of(node, box).in_leaves(limits, pushes)
    rows, nothing = rng.normal(size=(count, 6)), np.zeros(count)
    plain = CurveLines.back(leaf, Form(rows, nothing, nothing))
    found = leaf.back(Form(rows, nothing, nothing))
    x = np.where(rng.random((count, 6)) < 0.5, *limits)
    for i in range(count):
        value = Fraction(found.constant[i]) + Fraction(found.error[i])
        least = Fraction(plain.constant[i])
        for j in range(6):
            at, push = Fraction(x[i, j]), Fraction(pushes[i, j])
            value += Fraction(found.rows[i, j]) * at
            point = Fraction(limits[0][i, j] if push > 0 else limits[1][i, j])
            least += Fraction(plain.rows[i, j]) * at + push * (at - point)
        assert value >= least


def test_trees_split_curves():
    """Again in their parts; a ReLU at 0 alone."""
    root, _, outputs = root_of("tanh")
    tree, rng = Tree(0, np.arange(10)), np.random.default_rng(0)
    _, above = tree.split(0, 1, 0.25)
    inner, _ = tree.split(above, 1, 0.75)
    tree.split(inner, 5)
    for node in tree.open_nodes:
        levels = rng.integers(0, 256, 10).astype("uint8")
        tree.close(node, levels, rng.normal(size=10), np.ones(1))
    assert [side[1] for side in tree.limits(inner)] == [0.25, 0.75]
    packed = tree.pack()
    assert packed["points"].tolist() == [0.25, 0.75, 0.0]
    again = Tree.unpack(packed)
    form, group = np.array([[1.0, -1.0]]), np.zeros(1, int)
    for one, other in zip(tree.leaves, again.leaves, strict=True):
        np.testing.assert_array_equal(tree.proof(one)[1], again.proof(other)[1])
    (bound,) = check_trees(root, form, np.zeros(1), group, [again])
    assert bound >= (outputs @ form.T).max()
    for changed, reason in (
        ({"points": np.array([0.25, 0.25, 0.0])}, "strictly between 0.25 and inf"),
        ({"points": np.array([0.25, 0.1, 0.0])}, "strictly between 0.25 and inf"),
        ({"points": np.array([0.25, np.nan, 0.0])}, "split at nan"),
        ({"points": np.array([0.25, 0.75, 0.5])}, "A ReLU is split at 0 alone"),
        ({"neurons": packed["neurons"] + 1}, "Neuron 1 is none|beyond"),
    ):
        with pytest.raises(ValueError, match=reason):
            check_trees(root, form, np.zeros(1), group, [Tree.unpack({**packed, **changed})])

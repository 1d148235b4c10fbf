"""Constraints on several neurons: the groups, and faces of the hulls of their outputs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from keras_taps.verification.certificate.octahedron import axes, directions, largest_over_octahedron
from keras_taps.verification.search.multi_neuron import (
    choose_groups,
    hull_facets,
    separate,
    vertices,
)

pytestmark = pytest.mark.once

SIZES = st.integers(1, 3)
SEEDS = st.integers(0, 10**6)
SLOPES = st.sampled_from([0.0, 0.1])
THICK = ["cloud", "lattice", "active", "point"]  # Qhull fails on octahedra that are very thin
KINDS = st.sampled_from([*THICK, "thin"])
DIAMOND = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # |z_0| + |z_1| <= 1


def act(z, slope):
    return np.maximum(z, slope * z)


def clouds(rng, kind, groups, size, loose=0.2):
    """Points `(groups, 8, size)` and limits that hold for them."""
    cloud = rng.normal(size=(groups, 8, size)) * 10.0 ** rng.uniform(-2, 2, (groups, 1, size))
    if kind == "lattice":
        cloud = rng.integers(-2, 3, cloud.shape).astype(float)
    if kind == "thin":
        cloud[..., 0] = cloud[..., -1] + 1e-4 * cloud[..., 0]
    if kind == "active":
        cloud[..., 0] = np.abs(cloud[..., 0])
    if kind == "point":
        cloud[:] = cloud[:, :1]
    limits = (cloud @ directions(size).T).max(1)
    return cloud, limits + loose * np.abs(limits) * rng.integers(0, 2, limits.shape)


def scale_of(points):
    return np.abs(points).max() + 1e-300


# Groups


def test_groups():
    rng = np.random.default_rng(0)
    lower, upper = -rng.uniform(-0.2, 1, 150), rng.uniform(-0.2, 1, 150)
    groups = choose_groups(lower, upper, partition=30, limit=10**6)
    unstable = (lower < 0) & (upper > 0)
    order = np.argsort(np.where(unstable, lower * upper, np.inf))[: unstable.sum()]
    assert unstable[groups].all()
    for one, other in itertools.combinations(map(set, groups.tolist()), 2):
        assert len(one) == 3
        assert len(one & other) <= 1
    places = np.zeros(150, int)
    places[order] = np.arange(len(order))
    places = places[groups]
    assert (np.diff(places, axis=1) > 0).all()  # costliest first
    assert np.array_equal(places[:, 0] // 30, places[:, 2] // 30)
    pairs = {pair for group in groups.tolist() for pair in itertools.combinations(group, 2)}
    assert len(pairs) > 0.7 * 30 * 29 / 2 * (len(order) // 30)  # most that three can share
    assert np.array_equal(choose_groups(lower, upper, partition=30, limit=7), groups[:7])


def test_groups_follow_weight_and_area():
    lower, upper = -np.ones(6), np.array([1.0, 2.0, 3.0, 4.0, 5.0, -1.0])
    assert choose_groups(lower, upper, limit=1).tolist() == [[4, 3, 2]]
    assert choose_groups(lower, upper, weight=-upper, limit=1).tolist() == [[0, 1, 2]]
    assert choose_groups(lower, upper, min_area=1.5).tolist() == [[4, 3, 2]]
    assert choose_groups(lower, upper, min_area=2.0).tolist() == [[4, 3]]
    assert choose_groups(lower, upper, min_area=2.5).shape == (0, 3)
    assert choose_groups(lower, upper, min_area=3.0).shape == (0, 3)
    assert len(choose_groups(lower, upper, overlap=2)) == 10  # 5 over 3
    assert len(choose_groups(lower, upper, size=2)) == 10
    assert choose_groups(lower, upper, size=1, overlap=0).tolist() == [[4], [3], [2], [1], [0]]
    upper[4] = np.inf
    assert choose_groups(lower, upper, limit=1).tolist() == [[3, 2, 1]]
    with pytest.raises(ValueError, match="Groups need"):
        choose_groups(lower, upper, size=4)
    with pytest.raises(ValueError, match="Groups need"):
        choose_groups(lower, upper, overlap=3)


# Vertices


@given(SIZES, SEEDS, KINDS, SLOPES)
def test_vertices_hold_every_maximum(size, seed, kind, slope):
    rng = np.random.default_rng(seed)
    cloud, limits = clouds(rng, kind, 4, size)
    points = vertices(limits)
    scale = np.abs(cloud).max((1, 2))[:, None] + 1e-300
    excess = (points @ directions(size).T - limits[:, None]).max((1, 2))
    assert (excess <= 1e-8 * scale[:, 0]).all()
    outer, inner = rng.normal(size=(2, 4, size))
    best = (act(points, slope) @ outer[..., None] + points @ inner[..., None]).max((1, 2))
    bounds = largest_over_octahedron(limits, outer, inner, slope)
    np.testing.assert_allclose(best / scale[:, 0], bounds / scale[:, 0], atol=1e-7)


def test_vertices_of_known_sets():
    assert np.unique(vertices(np.array([[-1.0, 2.0]]))).tolist() == [1.0, 2.0]  # always active
    expected = [[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]]
    assert np.unique(vertices(DIAMOND[None])[0], axis=0).tolist() == expected
    assert vertices(np.zeros((2, 26))).tolist() == [[[0, 0, 0]], [[0, 0, 0]]]
    assert vertices(np.zeros((0, 26))).shape == (0, 1, 3)


def test_contradicting_limits_leave_the_box():
    limits = np.stack([DIAMOND, DIAMOND])
    limits[1, [0, 7]] = -1.0  # z_0 + z_1 is at least 1 and at most -1
    box = vertices(limits)[1]
    assert box.min(0).tolist() == [-1, -1]
    assert box.max(0).tolist() == [1, 1]
    upper, lower = axes(2)
    limits[1, upper], limits[1, lower] = -2.0, -2.0  # z_j is at least 2 and at most -2
    inner, limit = separate(limits, np.ones((2, 2)), np.zeros((2, 2)))
    assert np.isfinite(inner).all()
    assert np.isfinite(limit).all()


@pytest.mark.parametrize("bad", [np.full((1, 26), np.nan), np.full((1, 8), np.inf), np.ones(8)])
def test_vertices_refuse(bad):
    with pytest.raises(ValueError, match="must be finite with shape"):
        vertices(bad)
    with pytest.raises(ValueError, match="must be finite with shape"):
        vertices(np.ones((1, 5)))


# Faces


@given(SIZES, SEEDS, st.sampled_from(THICK), SLOPES)
def test_facets_contain_and_touch(size, seed, kind, slope):
    rng = np.random.default_rng(seed)
    cloud, limits = clouds(rng, kind, 1, size)
    outer, inner, limit = hull_facets(limits[0], slope)
    mixed = np.concatenate([cloud[0], rng.dirichlet(np.ones(8), 50) @ cloud[0]])
    values = act(mixed, slope) @ outer.T + mixed @ inner.T
    scale = scale_of(vertices(limits))
    assert (values <= limit + 1e-7 * scale).all()
    bounds = largest_over_octahedron(np.repeat(limits, len(outer), 0), outer, inner, slope)
    np.testing.assert_allclose(bounds / scale, limit / scale, atol=1e-7)


def test_one_neuron_is_the_triangle():
    outer, inner, limit = hull_facets(np.array([1.0, 3.0]), 0.1)
    sign = np.abs(outer)
    faces = {tuple(row) for row in np.concatenate([outer, inner, limit[:, None]], 1).round(12)}
    rows = np.concatenate([outer, inner, limit[:, None]], 1) / sign
    assert len(faces) == 3
    expected = [[-1, 0.1, 0], [-1, 1, 0], [1, -3.1 / 4, 0.675]]  # y >= z / 10, y >= z, chord
    np.testing.assert_allclose(sorted(rows.tolist()), expected, atol=1e-12)


def test_pair_is_tighter_than_two_triangles():
    ask = np.ones((1, 2))
    inner, limit = separate(DIAMOND[None], ask, np.zeros((1, 2)))
    assert limit[0] == pytest.approx(0.5)  # y_0 + y_1 <= (z_0 + z_1 + 1) / 2; triangles say 1
    np.testing.assert_allclose(inner, [[-0.5, -0.5]], atol=1e-12)
    outer, inner, limit = hull_facets(DIAMOND)
    top = linprog(-ask[0], outer, limit - inner @ np.zeros(2), bounds=[(None, None)] * 2)
    assert -top.fun == pytest.approx(0.5)


# Separation


@given(SIZES, SEEDS, KINDS, SLOPES, st.sampled_from(["inside", "corner"]))
def test_separates_as_the_hull(size, seed, kind, slope, where):
    rng = np.random.default_rng(seed)
    cloud, limits = clouds(rng, kind, 3, size)
    mix = rng.dirichlet(np.ones(8), 3) if where == "inside" else np.eye(8)[rng.integers(0, 8, 3)]
    point = (mix[:, None] @ cloud)[:, 0]
    outer = rng.normal(size=(3, size)) * rng.integers(0, 2, (3, size))
    corners = vertices(limits)
    inner, limit = separate(limits, outer, point, slope, corners)
    scale = (np.abs(outer) * np.abs(corners).max(1)).sum(1) + 1e-300
    bounds = largest_over_octahedron(limits, outer, inner, slope)
    assert (np.abs(bounds - limit) <= 1e-7 * scale + 1e-270).all()  # sound and tight
    found = limit - (inner * point).sum(1)
    for group, z in enumerate(corners):
        # The envelope is the best convex combination of vertices that is the point.
        at = np.concatenate([z / scale_of(z), np.ones((len(z), 1))], 1).T
        values = act(z, slope) @ outer[group] / scale[group]
        goal = np.append(point[group] / scale_of(z), 1.0)
        best = linprog(-values, A_eq=at, b_eq=goal)
        if best.status == 0:  # it may be just outside
            assert found[group] / scale[group] == pytest.approx(-best.fun, abs=1e-5)
        if kind in THICK[:3]:
            a, b, c = hull_facets(limits[group], slope)
            most = (c - b @ point[group]) / scale_of(z)
            best = linprog(-outer[group] / scale[group], a, most, bounds=[(None, None)] * size)
            if best.status == 0:
                top = -best.fun * scale_of(z)
                assert found[group] / scale[group] == pytest.approx(top, abs=1e-5)


def test_points_outside_and_not_finite():
    limits, outer = DIAMOND[None], np.array([[1.0, -2.0]])
    for point in ([5.0, 1.0], [1e9, -1e9], [1.0, 1.0], [np.nan, 0.0], [np.inf, 0.0]):
        inner, limit = separate(limits, outer, np.array([point]))
        assert np.isfinite(inner).all()
        assert np.abs(inner).max() <= 12.0 + 1e-9
        bound = largest_over_octahedron(limits, outer, inner)[0]
        assert bound == pytest.approx(limit[0])
    inner, limit = separate(limits, outer, np.array([[5.0, 0.0]]))
    assert limit[0] - inner[0] @ [1.0, 0.0] == pytest.approx(1.0)  # tight at the nearest point
    inner, limit = separate(np.zeros((0, 26)), np.zeros((0, 3)), np.zeros((0, 3)))
    assert inner.shape == (0, 3)
    assert limit.shape == (0,)

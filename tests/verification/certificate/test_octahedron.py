"""Bounds over octahedra: never below the exact maximum, and above it by rounding only."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification.certificate import octahedron
from keras_taps.verification.certificate.octahedron import axes, directions, largest_over_octahedron

pytestmark = pytest.mark.once

SIZES = st.integers(1, 3)
SEEDS = st.integers(0, 10**6)


def exact(limits, outer, inner, eighths):
    """Largest value over one octahedron as a fraction, or None; all numbers are small integers.

    The slope is `eighths / 8`. It is attained where K of the faces and planes z_j = 0 meet.
    """
    size = len(outer)
    normals = np.concatenate([directions(size), np.eye(size, dtype=int)])
    numbers = np.array(list(itertools.combinations(range(len(normals)), size)))
    dets = np.rint(np.linalg.det(normals[numbers])).astype(int)
    numbers, dets = numbers[dets != 0], dets[dets != 0]
    adjugates = np.rint(np.linalg.inv(normals[numbers]) * dets[:, None, None]).astype(int)
    sides = np.concatenate([limits, np.zeros(size, int)])[numbers]
    tops = (adjugates @ sides[..., None])[..., 0] * np.sign(dets)[:, None]
    dets = np.abs(dets)  # the points are tops / dets
    inside = (tops @ directions(size).T <= limits * dets[:, None]).all(1)
    eight = np.maximum(8 * tops, eighths * tops) @ outer + 8 * tops @ inner
    pairs = zip(eight[inside].tolist(), dets[inside].tolist(), strict=True)
    return max((Fraction(top, 8 * det) for top, det in pairs), default=None)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_directions(size):
    rows = directions(size)
    assert rows.shape == (3**size - 1, size)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert np.array_equal(rows[::-1], -rows)
    upper, lower = axes(size)
    assert np.array_equal(rows[upper], np.eye(size))
    assert np.array_equal(rows[lower], -np.eye(size))


@given(
    SIZES,
    SEEDS,
    st.integers(1, 6),
    st.sampled_from(["tight", "loose", "active", "thin", "any"]),
    st.integers(0, 8),
)
def test_exact(size, seed, points, kind, eighths):
    rng = np.random.default_rng(seed)
    cloud = rng.integers(-99, 100, (points, size))
    if kind == "active":
        cloud[:, 0] = np.abs(cloud[:, 0])
    if kind == "thin":
        cloud[:, 0] = cloud[0, 0]
    rows = directions(size)
    limits = (cloud @ rows.T).max(0)
    if kind == "loose":
        limits += rng.integers(0, 30, len(limits)) * rng.integers(0, 2, len(limits))
    if kind == "any":  # most of them contradict each other, some hardly
        limits -= rng.integers(0, rng.integers(1, 30), len(limits))
    outer, inner = rng.integers(-9, 10, (2, size))
    bound = largest_over_octahedron(limits[None], outer[None], inner[None], eighths / 8)[0]
    assert np.isfinite(bound)
    best = exact(limits, outer, inner, eighths)
    if best is not None:
        assert Fraction(bound) >= best
        size = np.abs(limits).max() * (np.abs(outer) + np.abs(inner)).sum()
        assert bound <= float(best) + 1e-12 * size + 1e-270


@given(SIZES, SEEDS, st.sampled_from([0.0, 0.01, 0.3]))
def test_points_at_any_scale(size, seed, slope):
    rng = np.random.default_rng(seed)
    count = 5
    cloud = rng.normal(size=(count, 4, size)) * 10.0 ** rng.integers(-12, 13, (count, 1, size))
    limits = np.nextafter((cloud @ directions(size).T).max(1) * (1 + 1e-15), np.inf)
    fractions = [[[Fraction(v) for v in z] for z in group] for group in cloud.tolist()]
    rows = directions(size).tolist()
    for group, zs in zip(limits, fractions, strict=True):  # cancellation can exceed 1e-15
        for index, row in enumerate(rows):
            most = max(sum(r * v for r, v in zip(row, z, strict=True)) for z in zs)
            group[index] = max(group[index], np.nextafter(float(most), np.inf))
    outer, inner = rng.normal(size=(2, count, size)) * 10.0 ** rng.integers(-9, 10, size)
    bounds = largest_over_octahedron(limits, outer, inner, slope)
    for bound, a, b, zs in zip(bounds, outer.tolist(), inner.tolist(), fractions, strict=True):
        for z in zs:
            acts = [max(v, Fraction(slope) * v) for v in z]
            pairs = zip([*a, *b], [*acts, *z], strict=True)
            assert Fraction(bound) >= sum(Fraction(c) * v for c, v in pairs)


@given(SIZES, SEEDS, st.booleans())
def test_trusts_no_search(size, seed, hopeless):
    """Whatever bases and contradictions a search comes up with, the bounds hold."""
    rng = np.random.default_rng(seed)

    def nonsense(rows, limits, target, basis):
        basis = rng.integers(0, rows.shape[1], (len(target), size))
        flat = np.abs(np.linalg.det(rows[0, basis])) < 0.5
        basis[flat] = axes(size)[0]
        clash = rng.integers(0 if hopeless else -1, rows.shape[1], len(target))
        return basis, clash

    cloud = rng.integers(-99, 100, (rng.integers(1, 6), size))
    limits = (cloud @ directions(size).T).max(0)
    outer, inner = rng.integers(-9, 10, (2, size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(octahedron, "dual_simplex", nonsense)
        bound = largest_over_octahedron(limits[None], outer[None], inner[None], 0.25)[0]
    assert Fraction(bound) >= exact(limits, outer, inner, 2)


@given(SEEDS)
def test_rounding_of_multipliers(seed):
    """Weights that multipliers all but cancel, with nothing else to hide the rounding."""
    rng = np.random.default_rng(seed)
    rows = directions(3)[[[24, 25, 21, 23]]].astype(float)
    multipliers = rng.uniform(size=(1, 4)) * 10.0 ** rng.integers(-9, 9, 4)
    weights = np.einsum("nm,nmk->nk", multipliers, rows) * (1 + rng.integers(-2, 3, 3) * 2.0**-53)
    error, reach, limits = np.full((1, 3), 1e-300), np.ones((1, 3)), np.zeros((1, 4))
    for limits[0, 0] in (0.0, -rng.uniform()):
        bound = octahedron._dual_bound(
            weights, error, multipliers, rows, limits, np.arange(4)[None], reach
        )[0]
        lam = [Fraction(v) for v in multipliers[0].tolist()]
        left = [Fraction(v) for v in weights[0].tolist()]
        for m, row in zip(lam, rows[0].astype(int).tolist(), strict=True):
            left = [v - m * r for v, r in zip(left, row, strict=True)]
        true = lam[0] * Fraction(limits[0, 0]) + sum(abs(v) + Fraction(1e-300) for v in left)
        assert Fraction(bound) >= true


@given(SEEDS)
def test_rounding_of_weights(seed):
    """An inactive neuron whose coefficients cancel: only rounding keeps the bound from zero."""
    slope, outer = np.random.default_rng(seed).uniform(0.1, 0.9, 2)
    bound = largest_over_octahedron([[1.0, -0.5]], [[outer]], [[-outer * slope]], slope)[0]
    weight = Fraction(outer) * Fraction(slope) - Fraction(outer * slope)
    assert Fraction(bound) >= max(-weight, -weight / 2)


def test_signs_within_an_octahedron():
    """Split neurons: the rows of single neurons say the sign, the others need not know of it."""
    rows, (upper, lower) = directions(2), axes(2)
    limits = np.abs(rows).sum(1).astype(float)[None].repeat(3, 0)
    limits[0, lower[0]] = 0.0  # z_0 >= 0
    limits[1, upper[0]] = -0.5  # z_0 <= -0.5
    outer, inner = np.array([[1.0, 0.0]] * 3), np.array([[-1.0, 0.0]] * 3)
    bounds = largest_over_octahedron(limits, outer, inner)
    np.testing.assert_allclose(bounds, [0.0, 1.0, 1.0], atol=1e-12)
    bounds = largest_over_octahedron(limits, outer, -0 * inner)
    np.testing.assert_allclose(bounds, [1.0, 0.0, 1.0], atol=1e-12)


def test_many_at_once():
    rng = np.random.default_rng(0)
    limits = (rng.normal(size=(700, 6, 3)) @ directions(3).T).max(1)
    outer, inner = rng.normal(size=(2, 700, 3))
    bounds = largest_over_octahedron(limits, outer, inner)
    some = [0, 511, 512, 699]
    np.testing.assert_allclose(
        largest_over_octahedron(limits[some], outer[some], inner[some]), bounds[some], rtol=1e-12
    )
    assert largest_over_octahedron(limits[:0], outer[:0], inner[:0]).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_not_finite(bad, which):
    numbers = [np.ones((3, 26)), np.ones((3, 3)), np.ones((3, 3))]
    numbers[which][1, 2] = bad
    bounds = largest_over_octahedron(*numbers)
    assert bounds[1] == np.inf
    np.testing.assert_allclose(bounds[[0, 2]], 2.0)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e160, 1e300, 1.7e308])
def test_extreme_numbers(scale):
    numbers = np.ones((1, 26)), np.ones((1, 3)), np.ones((1, 3))
    for factors in itertools.product((1.0, scale), repeat=3):
        bound = largest_over_octahedron(*(v * f for v, f in zip(numbers, factors, strict=True)))[0]
        limits, outer, inner = (Fraction(f) for f in factors)
        assert bound == np.inf or Fraction(bound) >= limits * (outer + inner)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="`size` must be 1, 2 or 3"):
        directions(4)
    with pytest.raises(ValueError, match="must have shape"):
        largest_over_octahedron(np.ones((1, 26)), np.ones((1, 2)), np.ones((1, 2)))
    for slope in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="`slope` must be in"):
            largest_over_octahedron(np.ones((1, 2)), np.ones((1, 1)), np.ones((1, 1)), slope)

"""Constraints on a few neurons of one layer together, after PRIMA.

What is known of K <= 3 inputs z of one layer is an octahedron (`octahedron.py`), and what is wanted
are the faces of the convex hull of (z, act(z)). That hull has the vertices of the octahedron cut by
the planes z_j = 0, because act is linear between them. There are too many faces to keep, so
`separate` finds the one that matters: for given coefficients of the outputs, the affine function of
z that is above them everywhere and lowest at one point.

Nothing here is rigorous: `largest_over_octahedron` bounds the constraints that a proof uses.
"""

import functools
import itertools

import numpy as np
from scipy.spatial import ConvexHull

from keras_taps.verification.certificate.octahedron import axes, directions, dual_simplex

_ENTRIES = 2**22  # of the largest array at a time
_SAME = 1e-9  # relative to the size of an octahedron
_STEEP = 4.0  # slopes of an envelope, in those of the function: 1.5 was enough wherever we looked


def choose_groups(
    lower, upper, weight=None, size=3, partition=50, overlap=1, limit=1000, min_area=0.0
):
    """Groups of unstable neurons whose outputs to bound together.

    The unstable neurons, the costliest first, are cut into sets. In each, groups are taken in
    lexicographic order as long as no two share more than `overlap` neurons, so the first groups
    are of the costliest neurons.

    Args:
        lower: Array `(n,)`, lower bounds of the inputs of one layer.
        upper: Array `(n,)`.
        weight: Array `(n,)`, what the relaxation of each neuron costs; by default its area.
        size: Neurons of a group, 1 to 3.
        partition: Neurons of a set.
        overlap: Most neurons that two groups share, less than `size`.
        limit: Most groups.
        min_area: Least area `-lower * upper / 2` of the triangle around the ReLU of a neuron;
            those with less are in no group. (MN-BaB's `min_area` is read this way.)

    Returns:
        Integer array `(G, K)` of neurons. K is `size`, or 2 where just two neurons qualify. The
        last set of neurons is dropped if it is smaller than a group.

    Example:

    >>> choose_groups(-np.ones(4), np.array([1.0, 4.0, 2.0, 3.0]), limit=1).tolist()
    [[1, 3, 2]]

    References:
        Mueller et al., "PRIMA", 2022, section 6; Ferrari et al., "Complete verification via
        multi-neuron relaxation guided branch-and-bound", 2022.
    """
    if not (1 <= size <= 3 and 0 <= overlap < size <= partition):
        raise ValueError(
            "Groups need 1 <= `size` <= 3 and 0 <= `overlap` < `size` <= `partition`. "
            f"Received: size={size!r}, overlap={overlap!r} and partition={partition!r}"
        )
    lower, upper = np.asarray(lower, "float64"), np.asarray(upper, "float64")
    area = -lower * upper / 2
    neurons = np.flatnonzero((lower < 0) & (upper > 0) & (area >= min_area) & np.isfinite(area))
    cost = area if weight is None else np.asarray(weight)
    neurons = neurons[np.argsort(-cost[neurons], kind="stable")]
    if size == 3 and len(neurons) == 2:
        size = 2
    groups = np.zeros((0, size), int)
    for start in range(0, len(neurons), partition):
        some = neurons[start : start + partition]
        groups = np.concatenate([groups, some[_packing(len(some), size, min(overlap, size - 1))]])
        if len(groups) >= limit:
            break
    return groups[:limit]


@functools.lru_cache
def _packing(count, size, overlap):
    """Subsets of `range(count)` that pairwise share at most `overlap` elements, greedily."""
    taken, chosen = set(), []
    for group in itertools.combinations(range(count), size):
        shared = set(itertools.combinations(group, overlap + 1))
        if taken.isdisjoint(shared):
            taken |= shared
            chosen.append(group)
    return np.array(chosen, int).reshape(-1, size)


def vertices(limits):
    """Vertices of octahedra cut by the planes z_j = 0.

    Args:
        limits: Array `(G, 3**K - 1)`: each octahedron is `directions(K) @ z <= limits`. Where the
            limits contradict each other, the box of the neurons stands for the octahedron.

    Returns:
        Array `(G, V, K)`, vertices repeated where a group has fewer than V. On the hull of each
        piece between the planes a ReLU is linear, leaky or not.

    Raises:
        ValueError: If a limit is not finite or the shape does not fit.

    Example:

    >>> sorted(vertices(np.array([[1.0, 2.0]]))[0, :, 0].tolist())
    [-1.0, 0.0, 2.0]
    """
    limits = np.asarray(limits, "float64")
    size = {2: 1, 8: 2, 26: 3}.get(limits.shape[-1])
    if limits.ndim != 2 or size is None or not np.isfinite(limits).all():
        raise ValueError(
            "`limits` must be finite with shape (G, 2), (G, 8) or (G, 26). "
            f"Received: shape {limits.shape}"
        )
    found = []
    chunk = max(1, _ENTRIES // _corners(size).size)
    for start in range(0, len(limits), chunk):
        found += _vertices(limits[start : start + chunk], size)
    most = max((len(points) for points in found), default=1)
    padded = [points[np.minimum(np.arange(most), len(points) - 1)] for points in found]
    return np.array(padded).reshape(-1, most, size)


@functools.lru_cache
def _corners(size):
    """Array `(planes, T, K)`: sides of all planes times it are the points where K of them meet.

    The planes are the faces of an octahedron and after them z_j = 0.
    """
    normals = np.concatenate([directions(size), np.eye(size)])
    numbers = np.array(list(itertools.combinations(range(len(normals)), size)))
    numbers = numbers[np.abs(np.linalg.det(normals[numbers])) > 0.5]
    points = np.zeros((len(normals), len(numbers), size))
    every = np.arange(len(numbers))[:, None]
    points[numbers, every] = np.linalg.inv(normals[numbers]).transpose(0, 2, 1)
    return points


def _vertices(limits, size):
    rows, corners = directions(size), _corners(size)
    scale = np.abs(limits[:, np.concatenate(axes(size))]).max(1) + 1e-300
    sides = np.concatenate([limits, np.zeros((len(limits), size))], 1)
    points = (sides @ corners.reshape(len(corners), -1)).reshape(len(limits), -1, size)
    allowed = limits + _SAME * scale[:, None]
    inside = (points @ rows.T.astype("float64") <= allowed[:, None]).all(-1)
    found = []
    for group, some in enumerate(inside):
        if not some.any():
            found += _vertices(_of_box(limits[group], size)[None], size)
            continue
        # Many triples of planes meet in one vertex, up to rounding.
        kept = points[group, some]
        rounded = np.round(kept / (10 * _SAME * scale[group]))
        found.append(kept[np.unique(rounded, axis=0, return_index=True)[1]])
    return found


def _of_box(limits, size):
    """The limits of the box alone, its ends exchanged where they contradict each other."""
    rows, (upper, lower) = directions(size), axes(size)
    ends = np.sort([-limits[lower], limits[upper]], 0)
    return np.maximum(rows, 0) @ ends[1] + np.minimum(rows, 0) @ ends[0]


def _act(z, slope):
    return np.maximum(z, slope * z)


def hull_facets(limits, slope=0.0):
    """All faces of the convex hull of (z, act(z)) over one octahedron.

    There are hundreds for K = 3, found in some 10 ms: for tests and for small networks.

    Args:
        limits: Array `(3**K - 1,)`.
        slope: Slope of a leaky ReLU.

    Returns:
        `(outer, inner, limit)`: arrays `(F, K)`, `(F, K)` and `(F,)` with
        `outer . act(z) + inner . z <= limit`. A flat hull also has the equations of its flat,
        each as two inequalities.

    Raises:
        scipy.spatial.QhullError: If an octahedron of three neurons is so thin (1 to 10000, say)
            that Qhull meets facets it cannot tell apart. `separate` has no such trouble.

    Example:

    >>> outer, inner, limit = hull_facets(np.array([1.0, 1.0]))
    >>> bool(np.all(outer[:, 0] * 0.5 + inner[:, 0] * 0.0 <= limit + 1e-9))  # (0, 0.5) is a vertex
    True
    """
    z = vertices(np.asarray(limits)[None])[0]
    points = np.concatenate([_act(z, slope), z], 1)
    centre = points.mean(0)
    _, spread, basis = np.linalg.svd(points - centre, full_matrices=True)
    rank = int((spread > 1e-8 * (np.abs(points).max() + 1e-300)).sum())
    flat = (points - centre) @ basis[:rank].T
    if rank > 1:
        normals = np.unique(np.round(ConvexHull(flat).equations, 12), axis=0)[:, :rank]
    else:
        normals = np.array([[1.0], [-1.0]])[: 2 * rank, :rank]
    normals = np.concatenate([normals @ basis[:rank], basis[rank:], -basis[rank:]])
    limit = (normals @ points.T).max(1)
    return normals[:, : z.shape[1]], normals[:, z.shape[1] :], limit


def separate(limits, outer, point, slope=0.0, corners=None):
    """The affine functions above `outer . act(z)` on octahedra that are lowest at given points.

    They are faces of the convex hulls: `outer . act(z) + inner . z <= limit`, tight at the point.

    Args:
        limits: Array `(G, 3**K - 1)`.
        outer: Array `(G, K)`, coefficients of the outputs.
        point: Array `(G, K)`; outside its octahedron it counts as a point near by, and what is not
            finite as the mean of the vertices.
        slope: Slope of a leaky ReLU.
        corners: `vertices(limits)`, if it is known.

    Returns:
        `(inner, limit)`: arrays `(G, K)` and `(G,)`. The limit is that of the vertices, correct to
        rounding.

    Example:

    >>> inner, limit = separate(np.array([[1.0, 1.0]]), np.array([[1.0]]), np.array([[0.2]]))
    >>> inner.round(9).tolist(), limit.round(9).tolist()  # the upper side of the triangle
    ([[-0.5]], [0.5])
    """
    outer, point = np.asarray(outer, "float64"), np.asarray(point, "float64")
    corners = vertices(limits) if corners is None else corners
    groups, count, size = corners.shape
    point = np.where(np.isfinite(point), point, corners.mean(1))
    values = (_act(corners, slope) @ outer[..., None])[..., 0]
    # In coordinates in which every octahedron fills the unit box and no value exceeds 1.
    low = corners.min(1, keepdims=True)
    width = corners.max(1, keepdims=True) - low
    width = np.where(width > 0, width, 1.0)
    places, goal = (corners - low) / width, (point - low[:, 0]) / width[:, 0]
    height = np.abs(values).max(1, keepdims=True)
    height = np.where(height > 0, height, 1.0)
    # max g . -goal - c with g . v + c >= f(v) at all vertices v, and |g_j| <= steep: with few
    # unknowns and many inequalities, this is a program of the kind that `dual_simplex` solves.
    steep = _STEEP * np.abs(outer).sum(1, keepdims=True) * width[:, 0] / height
    unit = np.concatenate([np.eye(size), -np.eye(size)])
    rows = np.zeros((groups, count + 2 * size, size + 1))
    rows[:, :count, :size], rows[:, :count, size], rows[:, count:, :size] = places, 1.0, unit
    sides = np.concatenate([-values / height, steep, steep], 1)
    goals = np.concatenate([goal, np.ones((groups, 1))], 1)
    # The goal is the nearest vertex and steps along the axes.
    nearest = np.abs(places - goal[:, None]).sum(-1).argmin(1)
    steps = goal - places[np.arange(groups), nearest]
    start = np.where(steps >= 0, count, count + size) + np.arange(size)
    basis, _ = dual_simplex(rows, sides, goals, np.concatenate([nearest[:, None], start], 1))
    matrix = np.take_along_axis(rows, basis[..., None], 1)
    solved = np.linalg.solve(matrix, np.take_along_axis(sides, basis, 1)[..., None])
    inner = solved[:, :size, 0] * height / width[:, 0]
    limit = (values + (corners @ inner[..., None])[..., 0]).max(1)
    return inner, limit

"""Rigorous bounds over octahedra: boxes of up to three neurons cut by bounds on their sums.

The octahedron of K <= 3 neurons is all z with `directions(K) @ z <= limits`. On each orthant the
(leaky) ReLU is linear, so that the largest value of `outer . act(z) + inner . z` is that of 2^K
linear programs. A search finds multipliers, and only their evaluation must be right: for all
lambda >= 0, by weak duality, w . z <= lambda . limits + |w - lambda D| . max |z|.
"""

import itertools

import numpy as np

from keras_taps.verification.certificate.rounding import TINY, gamma, unit

_CHUNK = 512  # cuts at a time
_PIVOTS = 100  # many more than ever needed: there are 2600 bases, and a search takes some ten
_PIVOT = 1e-7  # least element to divide by; those of an octahedron are multiples of 1/12
_PLAIN = 40  # pivots before the rule that cannot cycle


def directions(size):
    """The normals of the faces of an octahedron.

    Args:
        size: Neurons K, 1 to 3.

    Returns:
        Integer array `(3**K - 1, K)`: all vectors of -1, 0 and 1 but zero in lexicographic order,
        so that row `-1 - i` is the opposite of row `i`.

    Raises:
        ValueError: If the size is not 1, 2 or 3.

    Example:

    >>> directions(2).tolist()
    [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]]
    """
    if size not in (1, 2, 3):
        raise ValueError(f"`size` must be 1, 2 or 3. Received: {size!r}")
    rows = np.array(list(itertools.product((-1, 0, 1), repeat=size)))
    return rows[rows.any(1)]


def axes(size):
    """Where `directions` holds the bounds of single neurons.

    Args:
        size: Neurons K, 1 to 3.

    Returns:
        `(upper, lower)`: integer arrays `(K,)`, the rows of the unit vectors and their opposites.

    Example:

    >>> axes(2)
    (array([6, 4]), array([1, 3]))
    """
    rows = directions(size)
    upper = np.array([np.flatnonzero((rows == e).all(1))[0] for e in np.eye(size, dtype=int)])
    return upper, len(rows) - 1 - upper


def largest_over_octahedron(limits, outer, inner, slope=0.0):
    """Upper bounds of `outer . act(z) + inner . z` over octahedra, rounding included.

    They exceed the exact maximum by little more than rounding. Where the limits contradict each
    other, the bound holds of nothing and is finite all the same.

    Args:
        limits: Array `(C, 3**K - 1)`: each octahedron is `directions(K) @ z <= limits`.
        outer: Array `(C, K)`, coefficients of `act(z) = max(z, slope * z)`.
        inner: Array `(C, K)`, coefficients of z.
        slope: Number in [0, 1], the slope of a leaky ReLU.

    Returns:
        Array `(C,)`; infinite where a number was not finite.

    Raises:
        ValueError: If shapes do not fit or the slope is not in [0, 1].

    Example:

    >>> triangle = np.array([[1.0, 1.0]])  # -z <= 1 and z <= 1
    >>> bound = largest_over_octahedron(triangle, np.array([[1.0]]), np.array([[-0.5]]))
    >>> bool(0.5 <= bound[0] < 0.5 + 1e-12)
    True

    References:
        Mueller et al., "PRIMA: General and precise neural network certification via scalable
        convex hull approximations", 2022; Neumaier and Shcherbina, "Safe bounds in linear and
        mixed-integer linear programming", 2004.
    """
    limits, outer, inner = (np.asarray(v, "float64") for v in (limits, outer, inner))
    slope = float(slope)
    if not 0 <= slope <= 1:
        raise ValueError(f"`slope` must be in [0, 1]. Received: {slope!r}")
    shapes = limits.shape, outer.shape, inner.shape
    if outer.ndim != 2 or shapes != ((len(outer), 3 ** outer.shape[1] - 1), *[outer.shape] * 2):
        raise ValueError(
            "`limits` must have shape (C, 3**K - 1), `outer` and `inner` (C, K). "
            f"Received: {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    finite = np.all([np.isfinite(v).all(1) for v in (limits, outer, inner)], 0)
    bounds = np.full(len(outer), np.inf)
    chosen = np.flatnonzero(finite)
    with np.errstate(all="ignore"):  # what overflows ends as an infinite bound
        for start in range(0, len(chosen), _CHUNK):
            some = chosen[start : start + _CHUNK]
            bounds[some] = _largest(limits[some], outer[some], inner[some], slope)
    return np.where(np.isnan(bounds), np.inf, bounds)


def _largest(limits, outer, inner, slope):
    cuts, size = outer.shape
    rows, (upper, lower) = directions(size), axes(size)
    positive = np.array(list(itertools.product((False, True), repeat=size)))  # the orthants
    orthants = len(positive)
    reach = np.maximum(np.abs(limits[:, upper]), np.abs(limits[:, lower]))  # at least |z|
    reach = np.repeat(reach, orthants, 0)
    # An orthant is the octahedron with z_j <= 0 or -z_j <= 0, and those are directions too.
    limits = np.repeat(limits, orthants, 0)
    closed = np.tile(np.where(positive, lower, upper), (cuts, 1))
    nearer = np.minimum(np.take_along_axis(limits, closed, 1), 0.0)
    np.put_along_axis(limits, closed, nearer, 1)
    gain = np.where(positive, 1.0, slope)
    weights = (outer[:, None] * gain + inner[:, None]).reshape(-1, size)
    magnitude = (np.abs(outer)[:, None] * gain + np.abs(inner)[:, None]).reshape(-1, size)
    error = gamma(2) * magnitude

    start = np.where(weights > 0, upper, lower)
    basis, clash = dual_simplex(rows[None].astype("float64"), limits, weights, start)
    multipliers = (weights[:, None] @ np.linalg.inv(rows[basis]))[:, 0]
    bounds = _dual_bound(weights, error, multipliers, rows[basis], limits, basis, reach)

    # What meets a contradiction is empty if the contradiction holds rigorously.
    some = np.flatnonzero(clash >= 0)
    against = -(rows[clash[some]][:, None] @ np.linalg.inv(rows[basis[some]]))[:, 0]
    against = np.concatenate([against, np.ones((len(some), 1))], 1)
    basis = np.concatenate([basis[some], clash[some, None]], 1)
    nothing = np.zeros((len(some), size))
    proof = _dual_bound(nothing, nothing, against, rows[basis], limits[some], basis, reach[some])
    empty = np.zeros(len(bounds), bool)
    empty[some] = proof < 0  # else 0 . z < 0 for some z
    bounds, empty = bounds.reshape(cuts, orthants), empty.reshape(cuts, orthants)
    return np.where(empty & ~empty.all(1, keepdims=True), -np.inf, bounds).max(1)


def _dual_bound(weights, error, multipliers, rows, limits, basis, reach):
    """Upper bounds of `weights . z` for |z| <= reach and `rows @ z <= limits[basis]`.

    Sound for any multipliers: they are made >= 0, and what they leave of the weights is bounded by
    the reach. `error` bounds that of the weights.
    """
    multipliers = np.maximum(multipliers, 0.0)
    terms = multipliers.shape[1]
    left = np.abs(weights - (multipliers[:, None] @ rows)[:, 0])
    magnitude = np.abs(weights) + (multipliers[:, None] @ np.abs(rows))[:, 0]
    left = left + error + gamma(terms + 1) * magnitude
    products = multipliers * np.take_along_axis(limits, basis, 1)
    slack = gamma(terms) * np.abs(products).sum(1) + (left * reach).sum(1)
    bounds = products.sum(1) + slack * (1 + 1e-9)
    return bounds + unit(bounds) + TINY * (1 + reach.sum(1))


def dual_simplex(rows, limits, target, basis):
    """Find the largest `target . x` with `rows @ x <= limits` for many small programs at once.

    Not rigorous by itself. At its end x meets the limits of the basis as equalities, and the
    multipliers of the program are `target @ inverse(rows of the basis)`.

    Args:
        rows: Array `(n, M, K)`, or `(1, M, K)` for the same in all programs.
        limits: Array `(n, M)`.
        target: Array `(n, K)`.
        basis: Integer array `(n, K)`: rows to start from, of which the target is a combination
            with coefficients >= 0.

    Returns:
        `(basis, clash)`: integer arrays `(n, K)` and `(n,)`; where it is not -1, row `clash`
        contradicts those of the basis, and the program has no solution.
    """
    basis, clash = basis.copy(), np.full(len(basis), -1)
    active = np.arange(len(basis))
    for step in range(_PIVOTS):
        own = rows if len(rows) == 1 else rows[active]
        now, limit = basis[active], limits[active]
        inverse = np.linalg.inv(np.take_along_axis(own, now[..., None], 1))
        met = np.take_along_axis(limit, now, 1)[..., None]
        excess = (own @ (inverse @ met))[..., 0] - limit
        reach = np.abs(own) @ (np.abs(inverse) @ np.abs(met))
        excess[excess <= 1e-13 * (reach[..., 0] + np.abs(limit)) + 1e-260] = 0.0
        np.put_along_axis(excess, now, 0.0, 1)
        going = np.flatnonzero((excess > 0).any(1))
        if not len(going):
            break
        active, now, inverse, excess = active[going], now[going], inverse[going], excess[going]
        entering = (excess if step < _PLAIN else excess > 0).argmax(1)
        own = own if len(rows) == 1 else own[going]
        enters = np.take_along_axis(own, entering[:, None, None], 1)
        change = (enters @ inverse)[:, 0]
        multipliers = np.maximum((target[active][:, None] @ inverse)[:, 0], 0.0)
        ratio = np.where(
            change > _PIVOT, multipliers / np.where(change > _PIVOT, change, 1.0), np.inf
        )
        leaving, stuck = ratio.argmin(1), np.isinf(ratio).all(1)
        clash[active[stuck]] = entering[stuck]
        active, now, entering = active[~stuck], now[~stuck], entering[~stuck]
        now[np.arange(len(now)), leaving[~stuck]] = entering
        basis[active] = np.sort(now, 1)  # so that the first of equal ratios has the smallest row
    return basis, clash

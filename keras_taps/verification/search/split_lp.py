"""The exact answer where every ReLU has a known sign: a linear program over the inputs alone.

It is long because an infeasible program is no proof: its multipliers are read back and checked.
"""

import time
from typing import NamedTuple

import numpy as np

from keras_taps.verification.exact.highs import solve
from keras_taps.verification.exact.model import FEASIBILITY, TINY
from keras_taps.verification.exact.search import checked_forms
from keras_taps.verification.graph.nodes import MaxPool, Relu, Sum
from keras_taps.verification.graph.traverse import nonlinear

_BYTES = 2**26  # that rows of one node may take at a time
_EMPTY = -1e-12  # the largest normalised violation of a constraint that is more than rounding
_WEAK = 1e-8  # by how much constraints give way that can neither be met nor be refuted


class SplitLP(NamedTuple):
    """What is known of the maximum on one domain.

    Args:
        status: 'optimal'; 'infeasible': no input has these signs, and `bound` is below 0;
            'failed': HiGHS found no optimum in time, and `bound` holds all the same.
        bound: Upper bound on the maximum, the Lagrangian bound of `mix` and `betas` in float64.
        point: Input that reaches the maximum, both up to the tolerances of HiGHS, or `None`.
            Where the constraints meet in a sliver that HiGHS takes for empty and nothing refutes,
            it may miss them by 1e-8 of their range.
        mix: Array `(m,)` of weights of the forms, at least 0, with sum 1.
        betas: Array `(neurons,)` of multipliers, at least 0 and 0 where nothing is constrained.
    """

    status: str
    bound: float
    point: np.ndarray
    mix: np.ndarray
    betas: np.ndarray


def split_lp(graph, lower, upper, weights, offset, pattern, constrained, timeout=60.0):
    """Largest t that all forms `weights @ outputs + offset` reach where all signs are known.

    There the network is affine, and by duality the maximum over the inputs x of the box with
    `sign_j z_j(x) >= 0` is the least maximum over the box alone of
    `mix @ forms(x) + sum_j betas_j sign_j z_j(x)`. Whatever numbers of at least 0 `mix` (of sum 1)
    and `betas` are, that is an upper bound, so they can be checked without trust in HiGHS.

    Args:
        graph: `Graph` without max pooling.
        lower: Array of the shape of one input.
        upper: Array of the same shape.
        weights: Array `(m, outputs)`.
        offset: Array `(m,)`.
        pattern: Array `(neurons,)` of the signs 1 (identity) and -1 (slope times z), in the order
            of the ReLU nodes, depth first, each flattened.
        constrained: Boolean array `(neurons,)`: the signs that are constraints of the domain.
            The others must hold in the whole domain.
        timeout: Seconds.

    Returns:
        `SplitLP`.

    Raises:
        ValueError: If the graph has max pooling, or an argument is not finite or does not fit.

    Example:

    >>> from keras_taps.verification.graph.graph import Graph
    >>> from keras_taps.verification.graph.nodes import Dense
    >>> layer = Dense(np.array([[1.0, -1.0]]), np.zeros(2))
    >>> graph = Graph((layer, Relu((2,)), Dense(np.array([[1.0], [3.0]]), np.zeros(1))))
    >>> box, form = (np.array([-1.0]), np.array([1.0])), (np.ones((1, 1)), np.zeros(1))
    >>> found = split_lp(graph, *box, *form, np.array([1, -1]), np.array([True, False]))
    >>> found.status, round(found.bound, 6), found.point.tolist()
    ('optimal', 1.0, [1.0])

    References:
        Bunel et al., "Branch and Bound for Piecewise Linear Neural Network Verification", 2020;
        Neumaier and Shcherbina, "Safe bounds in linear and mixed-integer linear programming", 2004.
    """
    end = time.monotonic() + timeout
    weights, offset = checked_forms(graph, weights, offset)
    lower, upper, pattern, constrained = _checked(graph, lower, upper, pattern, constrained)
    with np.errstate(all="ignore"):  # what is not finite ends as a failure
        domain = _Domain(graph, lower, upper, weights, offset, pattern, np.flatnonzero(constrained))
        return domain.solve(end)


class _Domain:
    """Forms and constraints as affine functions of u in [-1, 1]: `x = centre + radius u`.

    Args:
        neurons: Integer array, the constrained ones in ascending order.
    """

    def __init__(self, graph, lower, upper, weights, offset, pattern, neurons):
        self.box, self.neurons, self.count = (lower, upper), neurons, len(pattern)
        self.centre = (lower + upper) / 2
        self.radius = np.maximum(upper - self.centre, self.centre - lower)
        sites, first = [], 0
        for node in nonlinear(graph.nodes):
            size = int(np.prod(node.in_shape))
            gate = np.where(pattern[first : first + size] > 0, 1.0, node.slope)
            sites.append((first, gate.reshape(node.in_shape)))
            first += size
        entering = []
        outputs = _forward(graph.nodes, self.centre[None], iter(sites), entering)[0]
        z = np.concatenate([np.zeros(0), *entering])
        sign = pattern[neurons].astype("float64")
        rows = _rows(graph, sites, weights, neurons) * self.radius.ravel()
        self.forms, self.signed = rows[: len(weights)], rows[len(weights) :] * sign[:, None]
        self.form_mid, self.signed_mid = weights @ outputs + offset, z[neurons] * sign
        # Normalised, every function has values in [-1, 1].
        self.form_size = (_reach(self.forms) + np.abs(self.form_mid)).max() or 1.0
        size = _reach(self.signed) + np.abs(self.signed_mid)
        self.signed_size = np.where(size > 0, size, 1.0)

    def solve(self, end):
        """`SplitLP`, by this time on the clock `time.monotonic`."""
        nothing = np.zeros(len(self.neurons))
        uniform = np.full(len(self.forms), 1 / len(self.forms))
        first = self.answer("failed", None, uniform, nothing)
        if not (np.isfinite(self.form_size) and np.all(np.isfinite(self.signed_size))):
            return first._replace(bound=np.inf)
        found = self.maximise(end)
        if found.status == "infeasible":
            shares = self.violation(end)
            refuted = self.refutation(uniform, shares)
            if refuted.status == "infeasible" and refuted.bound < 0:
                return refuted
            found = self.maximise(end, give=_WEAK)
        if found.status == "infeasible":  # HiGHS contradicts itself
            found = found._replace(status="failed")
        better = found if found.bound <= first.bound else first
        return better._replace(status=found.status, point=found.point)

    def maximise(self, end, give=0.0):
        """Maximum of the smallest form, with the constraints moved outward by `give`."""
        binding = self.signed_mid < _reach(self.signed)  # the others hold in the whole box
        size = self.signed_size[binding]
        forms = np.column_stack([self.forms / self.form_size, -np.ones(len(self.forms))])
        signs = np.column_stack([self.signed[binding] / size[:, None], np.zeros(len(size))])
        sides = np.concatenate([-self.form_mid / self.form_size, -self.signed_mid[binding] / size])
        sides[len(forms) :] -= give
        status, columns, multipliers = _run(np.concatenate([forms, signs]), sides, end)
        mix, betas = multipliers[: len(forms)], np.zeros(len(self.neurons))
        total = mix.sum()
        if not total > 0:
            mix, total = np.ones(len(forms)), len(forms)
            multipliers = np.zeros_like(multipliers)
        betas[binding] = self.form_size * multipliers[len(forms) :] / size / total
        point = None
        if status == "optimal":
            point = self.centre + self.radius * columns[:-1].reshape(self.centre.shape)
            point = np.clip(point, *self.box)
        return self.answer(status, point, mix / total, betas)

    def violation(self, end):
        """Multipliers of sum 1 of the normalised constraints: the phase 1 of the simplex method.

        The largest s that all constraints reach is the least maximum of such a mean of them.
        """
        rows = self.signed / self.signed_size[:, None]
        rows = np.column_stack([rows, -np.ones(len(rows))])
        _, _, shares = _run(rows, -self.signed_mid / self.signed_size, end)
        return shares / (shares.sum() or 1.0)

    def refutation(self, mix, shares):
        """The answer whose multipliers push the forms clearly below 0, if `shares` can."""
        betas = shares / self.signed_size
        largest = betas @ self.signed_mid + _reach(betas @ self.signed)
        if not largest < _EMPTY:
            return self.answer("failed", None, mix, 0 * betas)
        top = self.bound(mix, 0 * betas)
        factor = (2 * max(top, 0.0) + self.form_size) / -largest
        return self.answer("infeasible", None, mix, factor * betas)

    def answer(self, status, point, mix, betas):
        everywhere = np.zeros(self.count)
        everywhere[self.neurons] = betas
        return SplitLP(status, self.bound(mix, betas), point, mix, everywhere)

    def bound(self, mix, betas):
        """Maximum over the box of the forms and constraints weighted so."""
        row = mix @ self.forms + betas @ self.signed
        return float(mix @ self.form_mid + betas @ self.signed_mid + _reach(row))


def _reach(rows):
    """Largest values that linear functions take on [-1, 1]."""
    return np.abs(rows).sum(-1)


def _forward(nodes, x, sites, entering):
    """Outputs at x of the affine network; appends what enters each ReLU."""
    for node in nodes:
        if isinstance(node, Sum):
            x = sum(_forward(branch, x, sites, entering) for branch in node.branches)
        elif isinstance(node, Relu):
            entering.append(x.ravel())
            x = next(sites)[1] * x
        else:
            x = node(x)
    return x


def _rows(graph, sites, weights, neurons):
    """Array `(m + neurons, inputs)`: gradients of the forms and of what enters the neurons.

    Rows go back through the graph, those of a neuron from where it stands: it has far fewer
    constrained neurons than inputs, most often, and earlier neurons have a shorter way.
    """
    widest = max(np.prod(node.in_shape) for node in _flat(graph.nodes))
    many = max(1, int(_BYTES // (8 * widest)))
    parts = [_back(graph.nodes, weights, [(*site, neurons[:0]) for site in sites])]
    for start in range(0, len(neurons), many):
        chosen = neurons[start : start + many]
        begin = [(*site, chosen) for site in sites]
        # From the last neuron to the first.
        parts.append(_back(graph.nodes, np.zeros((0, graph.outputs)), begin)[::-1])
    return np.concatenate([part.reshape(len(part), -1) for part in parts])


def _back(nodes, rows, sites):
    """Rows on the inputs of a chain; at each of its ReLUs the rows of its chosen neurons begin."""
    for node in reversed(nodes):
        if isinstance(node, Sum):
            total = np.zeros((len(rows), *node.in_shape))
            for branch in reversed(node.branches):
                back = _back(branch, _longer(rows, len(total)), sites)
                total = _longer(total, len(back)) + back
            rows = total
        elif isinstance(node, Relu):
            first, gate, chosen = sites.pop()
            places = chosen[(chosen >= first) & (chosen < first + gate.size)][::-1] - first
            new = np.zeros((len(places), gate.size))
            new[np.arange(len(places)), places] = 1.0
            rows = np.concatenate([rows * gate, new.reshape(-1, *gate.shape)])
        else:
            rows = node.transpose(rows)
    return rows


def _longer(rows, count):
    """The rows with as many zero rows after them as are missing."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]))])


def _flat(nodes):
    for node in nodes:
        yield node
        for branch in getattr(node, "branches", ()):
            yield from _flat(branch)


def _run(matrix, sides, end):
    """Maximise the last column subject to `matrix @ columns >= sides`, the others in [-1, 1].

    Returns:
        Status, columns, and multipliers of at least 0 a row, 0 if HiGHS has none.
    """
    nothing = np.zeros(len(matrix))
    left = end - time.monotonic()
    if left <= 0:
        return "failed", None, nothing
    kept = np.abs(matrix) > TINY  # the others HiGHS would drop, with a warning
    count = matrix.shape[1]
    widest = np.append(np.ones(count - 1), 4.0)  # normalised values never reach 4
    starts = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype("int32")
    job = {
        "cost": -(np.arange(count) == count - 1).astype("float64"),
        "lower": -widest,
        "upper": widest,
        "matrix": (starts, np.nonzero(kept)[1].astype("int32"), matrix[kept]),
        "row_lower": sides,
        "row_upper": np.full(len(matrix), np.inf),
        "integer": None,
        "start": None,
        "options": {
            "threads": 1,
            "solver": "simplex",
            "small_matrix_value": TINY,
            "primal_feasibility_tolerance": FEASIBILITY,
            "dual_feasibility_tolerance": FEASIBILITY,
        },
    }
    found = solve(job, left)
    names = {"kOptimal": "optimal", "kInfeasible": "infeasible"}
    status = names.get(found["status"], "failed")
    if found["duals"] is None:
        return status, found["columns"], nothing
    return status, found["columns"], np.maximum(found["duals"], 0.0)


def _checked(graph, lower, upper, pattern, constrained):
    for index, node in enumerate(nonlinear(graph.nodes)):
        if isinstance(node, MaxPool):
            raise ValueError(
                f"Max pooling has no sign: nonlinear node {index}, of windows {node.size} on "
                f"{node.in_shape}. `without_pooling` writes it as ReLUs."
            )
    lower, upper = (np.asarray(bound, "float64") for bound in (lower, upper))
    if not lower.shape == upper.shape == graph.in_shape:
        raise ValueError(
            f"`lower` and `upper` must have the shape {graph.in_shape} of one input. "
            f"Received: {lower.shape} and {upper.shape}"
        )
    if not np.all(np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)):
        raise ValueError("The box must be finite with lower <= upper.")
    pattern, constrained = np.asarray(pattern), np.asarray(constrained)
    neurons = sum(int(np.prod(node.in_shape)) for node in nonlinear(graph.nodes))
    if not (pattern.shape == constrained.shape == (neurons,) and constrained.dtype == bool):
        raise ValueError(
            f"`pattern` and the boolean `constrained` must have shape ({neurons},). "
            f"Received: {pattern.shape} and {constrained.shape} of {constrained.dtype}"
        )
    if not np.all(np.abs(pattern) == 1):
        raise ValueError("`pattern` must hold 1 and -1 alone.")
    return lower, upper, pattern, constrained

"""Bounds on domains: those of the float64 checker with the same multipliers, on every backend."""

import numpy as np
import pytest

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.leaves import Cuts
from keras_taps.verification.certificate.octahedron import largest_over_octahedron
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.search.boxes import covering
from keras_taps.verification.search.domain_engine import Domains
from tests.helpers import BACKEND, close
from tests.verification.helpers import limits_of
from tests.verification.searches import CUTS, loaded

pytestmark = pytest.mark.usefixtures("eager")

KINDS = ("leaky", "conv", "residual") if BACKEND == "torch" else ("leaky",)
BATCH, FORMS = 6, 2


def question(kind, seed):
    """Search, roots, cuts of each root, and domains with random multipliers."""
    search, rng = loaded(kind, seed), np.random.default_rng(seed)
    graph, roots, cuts, limits = search.graph, [], [], []
    centre = rng.normal(size=(BATCH, *graph.in_shape))
    radius = rng.uniform(0.05, 0.4, (BATCH, *[1] * len(graph.in_shape)))
    lower, upper = np.float32(centre - radius), np.float32(centre + radius)
    for i in range(BATCH):
        root = Checker(graph).root(lower[i], upper[i])
        starts = [rng.choice(len(root.layers)) for _ in range(CUTS)]
        members = np.array([rng.integers(*root.layers[layer], 3) for layer in starts])
        outer, inner = np.float32(rng.normal(size=(2, CUTS, 3)))
        limit = [
            largest_over_octahedron(root.octahedra(m[None]), a[None], b[None], root.kinks[m[0]])[0]
            for m, a, b in zip(members, outer, inner, strict=True)
        ]
        roots.append(root)
        cuts.append(Cuts(members, outer, inner))
        limits.append(limit)
    shape = BATCH, roots[0].neurons
    low, high = covering(*(np.stack([getattr(r, s) for r in roots]) for s in ("lower", "upper")))
    signs = 1.0 * rng.integers(-1, 2, shape) * ((low < 0) & (high > 0) & (rng.random(shape) < 0.4))
    slopes = np.where(rng.random(shape) < 0.2, np.nan, rng.uniform(roots[0].kinks, 1, shape))
    members, outer, inner = (np.stack(values) for values in zip(*cuts, strict=True))
    mix = rng.uniform(0.1, 1, (BATCH, FORMS))
    betas = signs * rng.uniform(0, 1, shape)
    domains = Domains(
        lower, upper, rng.normal(size=(BATCH, FORMS, 3)), rng.normal(size=(BATCH, FORMS)),
        low, high,
        *limits_of(signs), slopes, betas, mix / mix.sum(1, keepdims=True),
        rng.uniform(0, 0.3, (BATCH, CUTS)), members, outer, inner, np.array(limits),
    )  # fmt: skip
    return search, roots, cuts, domains


def agree(bounds, roots, cuts, domains, found, monkeypatch):
    """Whether bounds are those of the checker with the multipliers of `found`.

    The checker also bounds a form by the box of its features; where that is less, it says so.
    """
    scale, relaxed = np.abs(bounds).max(), 0
    for i, root in enumerate(roots):
        mix = found.mix[i].astype("float64")
        form = (mix @ domains.forms[i])[None], np.array([mix @ domains.offset[i]])
        limits = domains.floor[i : i + 1], domains.ceiling[i : i + 1]
        multipliers = (v[i : i + 1] for v in (found.slopes, found.betas))
        exact = root.upper_bounds(*form, limits, *multipliers, cuts[i], found.gammas[i : i + 1])[0]
        with monkeypatch.context() as context:
            context.setattr(root._walk, "back", False)
            alone = root.upper_bounds(*form)[0]
        np.testing.assert_allclose(min(bounds[i], alone), exact, rtol=1e-4, atol=1e-5 * scale)
        relaxed += exact < alone
    assert relaxed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_bounds_are_the_checkers(kind, seed, monkeypatch):
    """With splits, cuts and several forms; the optimiser only improves on where it starts."""
    search, roots, cuts, domains = question(kind, seed)
    quick = search.engine.quick(domains, 16)
    agree(quick, roots, cuts, domains, domains, monkeypatch)
    found = search.engine.domains(domains, 16, 10)
    agree(found.bounds, roots, cuts, domains, found, monkeypatch)
    assert np.all(found.bounds <= quick + 1e-4 * np.abs(quick).max())
    assert found.bounds.sum() < quick.sum() - 0.1
    close(found.mix.sum(1), 1.0)
    allowed = np.where(found.betas > 0, domains.floor, domains.ceiling)
    assert not np.any(found.betas[np.isinf(allowed)])
    for multipliers in (found.gammas, found.mix):
        assert np.all(multipliers >= 0)


@pytest.mark.parametrize("kind", KINDS)
def test_points(kind):
    """In the box, and with the values said."""
    search, _, _, domains = question(kind, 2)
    found = search.engine.domains(domains, 16, 10)
    assert np.all((found.points >= domains.lower) & (found.points <= domains.upper))
    outputs = search.graph(found.points)
    values = (np.einsum("bmo,bo->bm", domains.forms, outputs) + domains.offset).min(1)
    close(found.values, values, 1e-3)


def test_no_weight_makes_the_form_vanish():
    """Weights of 0 count as equal ones, and a bound of 0 for nothing is none."""
    search, _, _, domains = question("leaky", 3)
    even = search.engine.quick(domains._replace(mix=np.full((BATCH, FORMS), 0.5)), 16)
    close(search.engine.quick(domains._replace(mix=np.zeros((BATCH, FORMS))), 16), even)


def test_maximiser():
    """Activations and pre-activations where the relaxation is largest, and what they cost.

    They solve the layers' equations, the ends of the box give the first ones, and the Lagrangian
    there is the bound.
    """
    search, _, _, domains = question("leaky", 4)
    found = search.engine.domains(domains, 16, 10)
    first, relu, second, _, last = search.graph.nodes
    assert [type(n) for n in search.graph.nodes] == [Dense, Relu, Dense, Relu, Dense]
    size = first.out_shape[0]
    z, a = found.inner.astype("float64"), found.outer.astype("float64")
    close(z[:, size:], second(a[:, :size]), 1e-3)
    x = np.linalg.lstsq(first.kernel.T, (z[:, :size] - first.bias).T, rcond=None)[0].T
    middle, radius = (domains.upper + domains.lower) / 2, (domains.upper - domains.lower) / 2
    close(np.abs(x - middle), radius, 1e-3)
    forms = np.einsum("bm,bmo->bo", found.mix, domains.forms)
    offset = (found.mix * domains.offset).sum(1)
    at = np.arange(BATCH)[:, None, None], domains.members
    cut = (domains.outer * a[at] + domains.inner * z[at]).sum(-1)
    total = (forms * last(a[:, size:])).sum(1) + offset + (found.betas * z).sum(1)
    total += (found.gammas * (domains.limit - cut)).sum(1)
    close(total, found.bounds, 1e-3)
    # How much the bound depends on each activation: back through the same lines.
    taken = np.zeros((2, *z.shape))
    for side, coefficients in enumerate((domains.outer, domains.inner)):
        np.add.at(taken[side], at, found.gammas[..., None] * coefficients)
    behind = forms @ last.kernel.T - taken[0][:, size:]
    close(found.rows[:, size:], behind, 1e-3)
    low = np.maximum(domains.low, domains.floor)[:, size:]
    high = np.minimum(domains.high, domains.ceiling)[:, size:]
    crossing = (low < 0) & (high > 0)
    chord = (high - relu.slope * low) / np.where(crossing, high - low, 1)
    slope = np.where(behind > 0, chord, found.slopes[:, size:])
    slope = np.where(crossing, slope, np.where(low >= 0, 1.0, relu.slope))
    rows = behind * slope + (found.betas - taken[1])[:, size:]
    close(found.rows[:, :size], rows @ second.kernel.T - taken[0][:, :size], 1e-3)


def test_without_cuts_and_with_one_form(monkeypatch):
    """Shapes of nothing."""
    if BACKEND != "torch":
        pytest.skip("compiles again")
    search, roots, _, domains = question("leaky", 5)
    none = {name: getattr(domains, name)[:, :0] for name in ("members", "outer", "inner", "limit")}
    one = {name: getattr(domains, name)[:, :1] for name in ("forms", "offset", "mix")}
    domains = domains._replace(**none, **one, gammas=domains.gammas[:, :0])
    found = search.engine.domains(domains, 16, 10)
    agree(found.bounds, roots, [None] * BATCH, domains, found, monkeypatch)

"""Bounds on domains: those of the float64 checker with the same multipliers, on every backend."""

import numpy as np
import pytest

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.search.boxes import covering
from keras_taps.verification.search.domain_engine import Domains
from tests.helpers import BACKEND, close
from tests.verification.helpers import limits_of
from tests.verification.searches import loaded

pytestmark = pytest.mark.usefixtures("eager")

KINDS = ("leaky", "conv", "residual") if BACKEND == "torch" else ("leaky",)
BATCH, FORMS = 6, 2


def question(kind, seed):
    """Search, roots, and domains with random multipliers."""
    search, rng = loaded(kind, seed), np.random.default_rng(seed)
    graph = search.graph
    centre = rng.normal(size=(BATCH, *graph.in_shape))
    radius = rng.uniform(0.05, 0.4, (BATCH, *[1] * len(graph.in_shape)))
    lower, upper = np.float32(centre - radius), np.float32(centre + radius)
    roots = [Checker(graph).root(low, high) for low, high in zip(lower, upper, strict=True)]
    shape = BATCH, roots[0].neurons
    low, high = covering(*(np.stack([getattr(r, s) for r in roots]) for s in ("lower", "upper")))
    signs = 1.0 * rng.integers(-1, 2, shape) * ((low < 0) & (high > 0) & (rng.random(shape) < 0.4))
    slopes = np.where(rng.random(shape) < 0.2, np.nan, rng.uniform(roots[0].kinks, 1, shape))
    mix = rng.uniform(0.1, 1, (BATCH, FORMS))
    betas = signs * rng.uniform(0, 1, shape)
    domains = Domains(
        lower, upper, rng.normal(size=(BATCH, FORMS, 3)), rng.normal(size=(BATCH, FORMS)),
        low, high, *limits_of(signs), slopes, betas, mix / mix.sum(1, keepdims=True),
    )  # fmt: skip
    return search, roots, domains


def agree(bounds, roots, domains, found, monkeypatch):
    """Whether bounds are those of the checker with the multipliers of `found`.

    The checker also bounds a form by the box of its features; where that is less, it says so.
    """
    scale, relaxed = np.abs(bounds).max(), 0
    for i, root in enumerate(roots):
        mix = found.mix[i].astype("float64")
        form = (mix @ domains.forms[i])[None], np.array([mix @ domains.offset[i]])
        limits = domains.floor[i : i + 1], domains.ceiling[i : i + 1]
        multipliers = (v[i : i + 1] for v in (found.slopes, found.betas))
        exact = root.upper_bounds(*form, limits, *multipliers)[0]
        with monkeypatch.context() as context:
            context.setattr(root._walk, "back", False)
            alone = root.upper_bounds(*form)[0]
        np.testing.assert_allclose(min(bounds[i], alone), exact, rtol=1e-4, atol=1e-5 * scale)
        relaxed += exact < alone
    assert relaxed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_bounds_are_the_checkers(kind, seed, monkeypatch):
    """With splits and several forms; the optimiser only improves on where it starts."""
    search, roots, domains = question(kind, seed)
    quick = search.engine.quick(domains, 16)
    agree(quick, roots, domains, domains, monkeypatch)
    found = search.engine.domains(domains, 16, 10)
    agree(found.bounds, roots, domains, found, monkeypatch)
    assert np.all(found.bounds <= quick + 1e-4 * np.abs(quick).max())
    assert found.bounds.sum() < quick.sum() - 0.1
    close(found.mix.sum(1), 1.0)
    allowed = np.where(found.betas > 0, domains.floor, domains.ceiling)
    assert not np.any(found.betas[np.isinf(allowed)])
    assert np.all(found.mix >= 0)


@pytest.mark.parametrize("kind", KINDS)
def test_points(kind):
    """In the box, and with the values said."""
    search, _, domains = question(kind, 2)
    found = search.engine.domains(domains, 16, 10)
    assert np.all((found.points >= domains.lower) & (found.points <= domains.upper))
    outputs = search.graph(found.points)
    values = (np.einsum("bmo,bo->bm", domains.forms, outputs) + domains.offset).min(1)
    close(found.values, values, 1e-3)


def test_no_weight_makes_the_form_vanish():
    """Weights of 0 count as equal ones, and a bound of 0 for nothing is none."""
    search, _, domains = question("leaky", 3)
    even = search.engine.quick(domains._replace(mix=np.full((BATCH, FORMS), 0.5)), 16)
    close(search.engine.quick(domains._replace(mix=np.zeros((BATCH, FORMS))), 16), even)


def test_maximiser():
    """Activations and pre-activations where the relaxation is largest, and what they cost.

    They solve the layers' equations, the ends of the box give the first ones, and the Lagrangian
    there is the bound.
    """
    search, _, domains = question("leaky", 4)
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
    total = (forms * last(a[:, size:])).sum(1) + offset + (found.betas * z).sum(1)
    close(total, found.bounds, 1e-3)
    # How much the bound depends on each activation: back through the same lines.
    behind = forms @ last.kernel.T
    close(found.rows[:, size:], behind, 1e-3)
    low = np.maximum(domains.low, domains.floor)[:, size:]
    high = np.minimum(domains.high, domains.ceiling)[:, size:]
    crossing = (low < 0) & (high > 0)
    chord = (high - relu.slope * low) / np.where(crossing, high - low, 1)
    slope = np.where(behind > 0, chord, found.slopes[:, size:])
    slope = np.where(crossing, slope, np.where(low >= 0, 1.0, relu.slope))
    rows = behind * slope + found.betas[:, size:]
    close(found.rows[:, :size], rows @ second.kernel.T, 1e-3)


def test_one_form(monkeypatch):
    if BACKEND != "torch":
        pytest.skip("compiles again")
    search, roots, domains = question("leaky", 5)
    one = {name: getattr(domains, name)[:, :1] for name in ("forms", "offset", "mix")}
    domains = domains._replace(**one)
    found = search.engine.domains(domains, 16, 10)
    agree(found.bounds, roots, domains, found, monkeypatch)

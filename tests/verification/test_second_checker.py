"""Two checkers, one of them written from the documentation, agree on whole reports."""

import copy
from fractions import Fraction
from functools import partialmethod

import numpy as np
import pytest

from keras_taps import layers as kl
from keras_taps.domain import Domain
from keras_taps.networks import IntervalSequential, distance_net
from keras_taps.verification import certify, read_network, recheck
from keras_taps.verification.certificate.claims import Claims, Subject
from keras_taps.verification.certificate.report import file_of, files_of
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.graph.arrays import read_arrays
from keras_taps.verification.graph.unsafe import margin_forms
from keras_taps.verification.search.tighten import TighteningEngine
from tests.helpers import dense_network, numpy, randomise
from tests.verification import second_checker
from tests.verification.problems import EPS, tiny
from tests.verification.test_second_curves import allowed

pytestmark = pytest.mark.once


def leaky():
    layers = [kl.IntervalDense(6), kl.IntervalLeakyReLU(negative_slope=0.2), kl.IntervalDense(6)]
    layers += [kl.IntervalLeakyReLU(negative_slope=0.1), kl.IntervalDense(3)]
    return randomise(IntervalSequential(layers, input_shape=(3,)), 6)


def steep():
    """A network with more than its biases."""
    model = dense_network(3, (6, 5), seed=1)
    for variable in model.trainable_variables:
        variable.assign(variable.value * (4.0 if len(variable.shape) > 1 else 0.5))
    return model


def residual():
    branch = [kl.IntervalConv2D(2, 3, padding="same"), kl.IntervalBatchNormalization()]
    branch += [kl.IntervalReLU(), kl.IntervalConv2D(2, 1)]
    layers = [kl.IntervalConv2D(2, 2, strides=2), kl.IntervalBatchNormalization()]
    layers += [kl.IntervalReLU(), kl.IntervalResidual([branch, []]), kl.IntervalReLU()]
    layers += [kl.IntervalFlatten(), kl.IntervalDense(3)]
    return randomise(IntervalSequential(layers, input_shape=(4, 4, 1)), 2)


def pooled():
    layers = [kl.IntervalRescaling(2.0, -0.5), kl.IntervalConv2D(2, 2, padding="same")]
    layers += [kl.IntervalReLU(), kl.IntervalMaxPooling2D(2), kl.IntervalAveragePooling2D(2)]
    layers += [kl.IntervalFlatten(), kl.IntervalDense(3)]
    return randomise(IntervalSequential(layers, input_shape=(4, 4, 1)), 4)


def peaked():
    """Overlapping windows of three rows and columns, with padding."""
    layers = [kl.IntervalConv2D(2, 2), kl.IntervalReLU()]
    layers += [kl.IntervalMaxPooling2D(3, strides=1, padding="same"), kl.IntervalFlatten()]
    layers += [kl.IntervalDense(4), kl.IntervalReLU(), kl.IntervalDense(3)]
    return steeper(randomise(IntervalSequential(layers, input_shape=(4, 4, 1)), 2), 3.0)


def smooth():
    layers = [kl.IntervalDense(4), kl.IntervalActivation("sigmoid"), kl.IntervalDense(4)]
    layers += [kl.IntervalActivation("tanh"), kl.IntervalDense(3)]
    return steeper(randomise(IntervalSequential(layers, input_shape=(3,)), 2), 4.0)


def steeper(model, factor):
    for variable in model.trainable_variables:
        variable.assign(variable.value * (factor if len(variable.shape) > 1 else 1.0))
    return model


def sorting():
    network = distance_net((4, 4, 1), 3, width=6, depth=3, keep=0.7, mean=0.3, std=0.5)
    return randomise(network, 5)


BOUNDS = ["ibp", "attack", "crown-ibp", "crown", "alpha-crown"]
TREES = ["attack", "alpha-crown", "bab"]
CASES = {
    "tiny": (lambda: tiny()[0], EPS, BOUNDS, {}),
    "trees": (lambda: tiny()[0], EPS, TREES, {}),
    "steep": (steep, 0.2, ["attack", "bab"], {}),
    "batch norm": (lambda: dense_network(3, (4, 4), batch_norm=True), 0.05, BOUNDS, {}),
    "boxes with slopes": (leaky, 0.3, TREES, {}),
    "boxes by cases": (leaky, 0.3, TREES, {}),
    "leaky": (leaky, 0.4, ["attack", "bab"], {}),
    "residual": (residual, 0.01, BOUNDS, {}),
    "pooled": (pooled, 0.03, BOUNDS, {}),
    "features": (leaky, [0.1, 0.0, 0.3], BOUNDS, {"domain": ([-0.5, None, 0], 1.5)}),
    "each its own": (leaky, [0.1, 0.4, 0.05] * 4, BOUNDS, {}),
    "no bounds": (lambda: tiny()[0], EPS, TREES, {"domain": None}),
    "channels": (pooled, [[[0.01]], [[0.03]], [[0.02]], [[0.0]]], BOUNDS, {"domain": (-1, 2)}),
    "curves": (smooth, 0.2, [*BOUNDS, "bab"], {"count": 8}),
    "pooled trees": (peaked, 0.06, ["attack", "crown", "bab"], {}),
    "sorting": (sorting, 0.01, ["ibp", "attack"], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_they_agree(name, tmp_path, monkeypatch):
    make, eps, stages, options = CASES[name]
    options = {"count": 12, **options}
    count = options.pop("count")
    if name == "boxes by cases":
        given = partialmethod(TighteningEngine.tighten, affords=lambda done, left: 8.0)
        monkeypatch.setattr(TighteningEngine, "tighten", given)
    model = make()
    graph = read_network(model)
    domain = Domain.of(options.get("domain", (0, 1)))
    low, high = np.maximum(domain.low, -1), np.minimum(domain.high, 2)
    x = np.random.default_rng(0).random((count, *graph.in_shape))
    x = (low + x * (high - low)).astype("float32")
    y = numpy(model(x)).argmax(-1)
    y[3] = (y[3] + 1) % 3
    path = tmp_path / "report.jsonl"
    certify(model, x, y, eps, stages=stages, out=path, certificates=True, **options)
    ours = recheck(path, graph, x, y, eps, domain=domain)
    assert ours.holds
    assert set(ours.verdicts.values()) >= {"certified", "misclassified"}
    theirs = second_checker.Report(path)
    own = theirs.header["eps"] is None
    claims = Claims(graph, None if own else np.asarray(eps), x, y, domain)
    for record in theirs.records:
        index = record["index"]
        verdict, deployed, bound = theirs.look(record)
        assert verdict == record["verdict"] == ours.verdicts[index]
        assert deployed == (index in ours.deployed)
        if verdict == "certified":
            found = our_bounds(claims, record, path, x[index])
            assert bound <= found
            assert float(bound) == pytest.approx(found, rel=1e-6, abs=1e-9)
            if name == "curves":
                assert found <= outward(theirs).look(record)[2]
    proofs = [file_of(files_of(path), r["index"], r["verdict"]) for r in theirs.records]
    if stages == TREES and "domain" not in options:
        assert any("box_slopes" in np.load(file) for file in proofs)
    if name in ("curves", "pooled trees"):
        agree_on_changed_trees(theirs, claims, x, path)
    wanted = {"boxes by cases": "case_slopes", "curves": "tree0_points"}
    if name in wanted:
        assert any(wanted[name] in np.load(file) for file in proofs)


class Outward:
    """A curve whose lines are moved by all that the page allows ours."""

    def __init__(self, curve):
        self.curve = curve

    def __getattr__(self, name):
        return getattr(self.curve, name)

    def largest(self, side, slope, low, high):
        return self.curve.largest(side, slope, low, high) + allowed(slope, low, high)


def outward(report):
    """The report of a checker with such lines."""
    found = copy.copy(report)
    found.network = copy.copy(report.network)
    found.network.nodes = [
        ("curve", Outward(node[1]), node[2]) if node[0] == "curve" else node
        for node in report.network.nodes
    ]
    return found


def our_bounds(claims, record, path, x):
    file, eps = file_of(files_of(path), record["index"], record["verdict"]), claims.radius(record)
    proof = claims._read(record, eps, file)
    forms = margin_forms(record["label"], claims.graph.outputs)
    bounds, _ = claims._bounds(*Subject(record, x, eps, claims.domain).box, forms, proof)
    return np.max(bounds)


def without_last_leaf(a):
    for name in ("preorder", "slopes", "mix"):
        a[f"tree0_{name}"] = a[f"tree0_{name}"][:-1]


def without_splits(a):
    a["tree0_preorder"] = a["tree0_preorder"][-1:]
    a["tree0_points"] = np.zeros(0)
    for name in ("slopes", "mix"):
        a[f"tree0_{name}"] = a[f"tree0_{name}"][:1]
    a["tree0_betas"] = a["tree0_betas"][:0]


def of(name, change):
    def forge(arrays):
        arrays[name] = change(arrays[name])

    return forge


FORGERIES = {
    "slopes alone": lambda a: None,
    "levels": of("tree0_slopes", lambda s: 255 - s),
    "betas": of("tree0_betas", np.negative),
    "larger betas": of("tree0_betas", lambda b: 50 * b),
    "mix": of("tree0_mix", np.negative),
    "moved": of("tree0_points", lambda p: p + 0.25),
    "one point": of("tree0_points", lambda p: np.full_like(p, 0.125)),
    "one neuron": of("tree0_preorder", lambda p: np.where(p < 0, -1, p[0])),
    "a leaf less": without_last_leaf,
    "no splits": without_splits,
}


def agree_on_changed_trees(theirs, claims, x, path):
    """Of a changed tree both checkers say the same, and nothing that is false."""
    for record in theirs.records:
        file = file_of(files_of(path), record["index"], record["verdict"])
        honest = dict(np.load(file))
        if len(honest.get("tree0_preorder", ())) > 1:
            break
    x = x[record["index"]]
    if "slopes" in honest:  # out of range, so that the tree counts and not the whole box
        honest["slopes"] = np.full_like(honest["slopes"], 1e3)
    honest.setdefault("tree0_points", np.zeros(np.sum(honest["tree0_preorder"] != -1)))
    points = np.random.default_rng(1).uniform(*input_interval(x, claims.eps), (500, *x.shape))
    margins = claims.graph(points) @ margin_forms(record["label"], 3).T
    refused = set()
    for name, forge in FORGERIES.items():
        arrays = dict(honest)
        forge(arrays)
        np.savez(file, **arrays)
        try:
            bound = theirs.look(record)[2]
        except AssertionError:
            refused.add(name)
            with pytest.raises((ValueError, IndexError)):
                our_bounds(claims, record, path, x)
            continue
        ours = our_bounds(claims, record, path, x)
        assert margins.max() < bound <= ours
        assert float(bound) == pytest.approx(ours, rel=1e-6, abs=1e-9)
    assert refused - {"moved"} == {"one point", "one neuron", "a leaf less"}


@pytest.mark.parametrize(
    "make", [leaky, residual, pooled, smooth, sorting], ids=lambda make: make.__name__
)
def test_errors_of_float32(make, tmp_path):
    """The same numbers, but for what float64 rounds upward."""
    graph = read_network(make())
    graph.save(tmp_path / "network.npz")
    network = second_checker.Network(tmp_path / "network.npz")
    assert network.hash == graph.hash
    x = np.random.default_rng(1).random(graph.in_shape)
    lower, upper = input_interval(x, 0.05)
    claims, forms = Claims(graph, 0.05), margin_forms(1, 3)
    _, boxes = claims.checker.bounds_and_boxes(lower, upper, forms, np.zeros(2))
    ours = claims.deployed.margin_errors(lower, upper, boxes, forms)
    box = list(zip(map(Fraction, lower.ravel()), upper.ravel(), strict=True))
    box = [(low, Fraction(high)) for low, high in box]
    rows = [({i: Fraction(w) for i, w in enumerate(form)}, 0) for form in forms]
    walk = second_checker.Walk(network, box, "crown")
    theirs = second_checker.errors(network, box, walk.boxes, rows)
    assert np.all([float(e) for e in theirs] <= ours)
    np.testing.assert_allclose([float(e) for e in theirs], ours, rtol=1e-6)


def test_arrays_of_a_file_are_read_alike(tmp_path):
    np.savez(tmp_path / "a.npz", b=np.arange(6, dtype="<f4").reshape(2, 3), c=np.int64(3))
    kind, shape, values = second_checker.read_arrays(tmp_path / "a.npz")["b"]
    assert (kind, shape, values) == ("<f4", (2, 3), (0.0, 1.0, 2.0, 3.0, 4.0, 5.0))
    with pytest.raises(ValueError, match="should not have"):
        read_arrays(tmp_path / "a.npz", {})

"""Networks of every activation: bounded by the engine, confirmed by the checker, rechecked."""

import keras
import numpy as np
import pytest

from keras_taps.layers.activations import _KNOWN
from keras_taps.layers.curves import CURVES
from keras_taps.networks import convert
from keras_taps.verification import certify, recheck
from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.deployed import ROUGH
from keras_taps.verification.graph.curves import FUNCTIONS, Curve
from keras_taps.verification.graph.traverse import curves
from keras_taps.verification.graph.unsafe import margin_forms
from keras_taps.verification.search.engine import BoundEngine
from tests.helpers import BACKEND, randomise
from tests.verification.helpers import sample

pytestmark = pytest.mark.usefixtures("eager")

EPS = 0.02
# The other backends compile every network anew.
NAMES = _KNOWN if BACKEND == "torch" else ("silu", "relu6")


def network_of(name):
    kl = keras.layers
    layers = [kl.Conv2D(3, 3, strides=2, activation=name), kl.Flatten(), kl.Dense(6)]
    layers += [kl.Activation(name), kl.Dense(3)]
    network = convert(keras.Sequential([keras.Input((5, 5, 1)), *layers]))
    for number, layer in enumerate(network.layers):
        randomise(layer, number)
    return network


def labels_of(network, x):
    return keras.ops.convert_to_numpy(network(keras.ops.convert_to_tensor(x))).argmax(-1)


@pytest.mark.parametrize("name", NAMES)
def test_engine_and_checker_agree_and_hold(name):
    graph = read_network(network_of(name))
    engine = BoundEngine(build_network(graph), 2)
    centre = np.random.default_rng(0).uniform(0.3, 0.7, (2, *graph.in_shape))
    lower, upper = centre - EPS, centre + EPS
    forms, offset = np.stack([margin_forms(0, 3)] * 2), np.zeros((2, 2))
    boxes = engine.neuron_boxes(lower, upper)
    alpha, slopes = engine.alpha_crown(lower, upper, forms, offset, boxes, iterations=5)
    found = {
        "ibp": engine.ibp(lower, upper, forms, offset),
        "crown-ibp": engine.crown(lower, upper, forms, offset),
        "crown": engine.crown(lower, upper, forms, offset, boxes),
        "alpha-crown": alpha,
    }
    for i in range(2):
        points = sample(lower[i], upper[i], 1000)
        worst = (graph(points) @ forms[i].T).max(0)
        for method, bounds in found.items():
            given = slopes[i] if method == "alpha-crown" else None
            proved = Checker(graph).upper_bounds(
                lower[i], upper[i], forms[i], offset[i], method, given
            )
            assert np.all(proved >= worst)
            assert np.allclose(proved, bounds[i], rtol=2e-3, atol=2e-3), method


@pytest.mark.parametrize("name", NAMES[::3])
def test_certified_and_rechecked(name, tmp_path):
    network = network_of(name)
    x = np.random.default_rng(1).uniform(0.2, 0.8, (6, 5, 5, 1)).astype("float32")
    y = labels_of(network, x)
    out = tmp_path / "report.jsonl"
    stages = ["ibp", "attack", "crown-ibp", "crown", "alpha-crown"]
    report = certify(network, x, y, 0.002, stages=stages, out=out, certificates=True)
    certified = [record for record in report.records if record["verdict"] == "certified"]
    assert certified
    assert all(record["checked"] for record in certified)
    found = recheck(out, read_network(network), x, y)
    assert found.holds, found.rejected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_backends_compute_activations_as_well_as_is_assumed(name):
    x = np.concatenate([np.random.default_rng(0).normal(0, s, 4000) for s in (1e-3, 1, 5, 20)])
    x = x.astype("float32")
    real = Curve(x.shape, name)(x.astype("float64"))
    found = keras.ops.convert_to_numpy(keras.activations.get(name)(keras.ops.convert_to_tensor(x)))
    allowed = ROUGH * 2.0**-24 * (1 + np.abs(x) + np.abs(real))
    assert np.all(np.abs(found - real) <= allowed / 4)


@pytest.mark.once
def test_branch_and_bound_splits_smooth_activations(tmp_path):
    """What linear bounds leave open, with a proof that can be checked again.

    That every backend splits alike is in `tests/verification/search/test_splitting_curves.py`.
    """
    network = network_of("tanh")
    assert curves(read_network(network).nodes)
    x = np.random.default_rng(0).uniform(0.3, 0.7, (4, 5, 5, 1)).astype("float32")
    y, out = labels_of(network, x), tmp_path / "report.jsonl"
    stages = ["crown", "attack", "bab"]
    report = certify(network, x, y, 0.07, stages=stages, timeout=60, out=out, certificates=True)
    assert "unknown" not in [record["verdict"] for record in report.records]
    assert ("certified", "bab") in [(r["verdict"], r["stage"]) for r in report.records]
    found = recheck(out, read_network(network), x, y)
    assert found.holds, found.rejected
    (record,) = certify(network, x[:1], y[:1], 0.5, stages=["milp"], timeout=5).records
    assert record["error"].startswith("milp: no mixed integer program is exact for")


def test_branch_and_bound_splits_clips():
    network = network_of("relu6")
    assert not curves(read_network(network).nodes)
    x = np.random.default_rng(0).uniform(0.3, 0.7, (4, 5, 5, 1)).astype("float32")
    y = labels_of(network, x)
    found = {}
    for stages in (["crown"], ["attack", "bab"], ["attack", "milp"]):
        report = certify(network, x, y, 0.1, stages=stages, timeout=30)
        found[stages[-1]] = [record["verdict"] for record in report.records]
    assert found["bab"] == found["milp"]
    assert "unknown" not in found["bab"]


def test_every_curve_of_keras_can_be_verified():
    assert {name for name, known in FUNCTIONS.items() if not known.foreign} <= set(CURVES)

"""Claims at their edges: ties, the ends of a ball, numbers that underflow, other precisions."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification import certify
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.claims import Claims, Doubt, Subject, Undecided
from keras_taps.verification.certificate.deployed import DeployedNetwork
from keras_taps.verification.certificate.many_boxes import ManyBoxes
from keras_taps.verification.certificate.rounding import inner_interval, input_interval
from keras_taps.verification.graph.batch_norm import BatchNorm
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu


@given(
    st.floats(0, 1, width=32),
    st.one_of(
        st.floats(0, 1), st.sampled_from([2 / 255, 0.1, 5e-324, float(np.nextafter(0.125, 0))])
    ),
)
@pytest.mark.once
def test_the_inner_interval_is_the_largest_inside(x, eps):
    lower, upper = (Fraction(float(side[0])) for side in inner_interval(np.array([x]), eps))
    outer = [Fraction(float(side[0])) for side in input_interval(np.array([x]), eps)]
    exact, radius = Fraction(x), Fraction(eps)
    low, high = max(exact - radius, Fraction(0)), min(exact + radius, Fraction(1))
    assert outer[0] <= low <= lower <= exact <= upper <= high <= outer[1]
    # The next number further out is outside.
    assert lower == 0 or Fraction(float(np.nextafter(float(lower), -1))) < low
    assert upper == 1 or Fraction(float(np.nextafter(float(upper), 2))) > high


@pytest.mark.once
def test_a_counterexample_lies_inside_the_ball():
    eps = float(np.nextafter(0.125, 0))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.layers[0].set_weights([np.array([[0, 1]], "f"), np.array([0.625, 0], "f")])
    report = certify(
        model, np.array([[0.5]]), np.array([0]), eps, stages=("ibp", "attack", "crown")
    )
    assert report.verdicts[0] == "unknown"  # the largest margin is -1.4e-17


def looked_at(graph, x, predicted):
    """What becomes of the claim that a network gives an input a class."""
    record = {"index": 0, "label": 0, "predicted": predicted}
    try:
        Claims(graph, 0.1)._check_class(Subject(record, np.asarray(x, "float32"), 0.1))
    except Undecided:
        return "undecided"
    except Doubt:
        return "refuted"
    return "confirmed"


@pytest.mark.once
def test_only_the_class_of_real_arithmetic_is_confirmed():
    deep = [Dense(np.full((6, 6), 1.0), np.zeros(6)) for _ in range(12)]
    nodes = [node for dense in deep for node in (dense, Relu((6,)))]
    last = np.array([[1.0, 1.0 + 2.0**-20]] * 6)
    graph = Graph((*nodes, Dense(last, np.zeros(2))))
    x = np.full(6, 0.5)
    assert looked_at(graph, x, 1) == "confirmed"
    assert looked_at(graph, x, 0) == "undecided"  # the error of twelve layers is larger
    graph = Graph((Dense(np.array([[1.0, 2.0]]), np.zeros(2)),))
    assert looked_at(graph, [0.5], 0) == "refuted"
    assert looked_at(graph, [0.0], 0) == looked_at(graph, [0.0], 1) == "confirmed"  # a tie
    graph = Graph((Dense(np.array([[1e308, 1e308]]), np.full(2, 1e308)),))
    assert looked_at(graph, [1.0], 0) != "confirmed"


@pytest.mark.once
def test_huge_forms_of_outputs_that_underflow():
    rng = np.random.default_rng(0)
    for _ in range(200):
        kernel = (1 + rng.random(4)) * 1e-200 * rng.choice([-1, 1], 4)
        forms = (1 + rng.random(4)) * 1e300
        pairs = zip(map(Fraction, forms[:3]), map(Fraction, kernel[:3]), strict=True)
        forms[-1] = -float(sum(f * k for f, k in pairs) / Fraction(kernel[3]))
        graph = Graph((Dense(kernel[None], np.zeros(4)),))
        box = np.array([0.9e-200]), np.array([1e-200])
        row = sum(Fraction(f) * Fraction(k) for f, k in zip(forms, kernel, strict=True))
        exact = max(row * Fraction(float(side[0])) for side in box)
        for method in ("ibp", "crown-ibp", "crown"):
            found = Checker(graph).upper_bounds(*box, forms[None], np.zeros(1), method)
            assert not float(found[0]) < exact
        many = ManyBoxes(graph).bounds(box[0][None], box[1][None], forms[None], np.zeros(1))
        assert not float(many.values[0, 0]) < exact


@pytest.mark.once
@pytest.mark.parametrize(
    ("gamma", "mean", "variance", "epsilon"),
    [(1.0, 0.0, 0.0, 9.8e-43), (-1e-38, 1e25, 1e-20, 0.0), (1e-30, 1e30, 2.0**-90, 0.0)],
    ids=["variance", "gamma", "overflow"],
)
def test_batch_normalisation_at_the_ends_of_float32(gamma, mean, variance, epsilon):
    one = np.ones(1)
    norm = BatchNorm(gamma * one, one, mean * one, variance * one, epsilon, (1,))
    graph = Graph.of((norm, Dense(np.array([[1.0, -1.0]]), np.zeros(2))))
    box = np.array([0.5]), np.array([0.5])
    error = DeployedNetwork(graph).margin_errors(*box, [], np.array([[-1.0, 1.0]]))[0]
    with np.errstate(all="ignore"):  # flushed and in another order, as backends may compute it
        flushed = np.float32(0 if abs(gamma) < 2.0**-126 else gamma)
        root = np.float32(1) / np.sqrt(np.float32(variance) + np.float32(epsilon))
        own = np.float32(np.float32(0.5 - mean) * root) * flushed + np.float32(1)
        real = float((0.5 - mean) * gamma / np.sqrt(variance + epsilon) + 1)
    assert not 2 * abs(float(own) - real) > error
    assert error > 1e-6


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_only_a_float32_network_is_certified_as_deployed(policy):
    network = [keras.Input((2,)), keras.layers.Dense(2, dtype=policy)]
    model = keras.Sequential(network)
    model.layers[0].set_weights([np.array([[4.0, 0.0], [4.0, 0.0]]), np.zeros(2)])
    report = certify(model, np.full((1, 2), 0.5), np.array([0]), 0.1, stages=("ibp",))
    assert report.accuracies()["certified"] == 1
    assert report.accuracies()["certified_as_deployed"] == (policy == "float32")

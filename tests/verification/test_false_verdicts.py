"""Files made to draw a false verdict; what is true of them is known by exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from keras_taps.verification.cascade import certify as module
from keras_taps.verification.cascade import stages
from keras_taps.verification.cascade.certify import certify
from keras_taps.verification.cascade.judge import Judge
from keras_taps.verification.cascade.verify import verify
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.counterexamples import surely_reached
from keras_taps.verification.certificate.report import Report
from keras_taps.verification.exact.milp import exact_bound
from keras_taps.verification.graph.exact_values import exact_forms
from keras_taps.verification.graph.graph import FOLDS, Graph
from keras_taps.verification.graph.nodes import Conv, Dense, Relu, Reshape
from keras_taps.verification.graph.unsafe import Unsafe
from tests.helpers import dense_network, numpy
from tests.verification.formats.test_onnx_reader import model_of, read_model
from tests.verification.formats.test_vnnlib import read
from tests.verification.helpers import KINDS, random_box, random_graph

once = pytest.mark.once
USUAL = settings(max_examples=50, derandomize=False)
LINE = Graph((Dense(np.ones((1, 1)), np.zeros(1)),))


def one(graph, low, high, weight, offset, strict=False):
    """A graph of one input and output with the property `weight y + offset >= 0`."""
    sides = np.array([low], "float64"), np.array([high], "float64")
    return Unsafe(*sides, np.array([[weight]]), np.array([offset]), np.array([strict]))


# Constants of a file


CHAINS = {
    "Mul": lambda rng: ("Mul", rng.uniform(0.5, 2, 3)),
    "Div": lambda rng: ("Div", rng.uniform(0.5, 2, 3)),
    "Add": lambda rng: ("Add", rng.normal(size=3)),
    "Sub": lambda rng: ("Sub", rng.normal(size=3)),
    "mixed": lambda rng: (str(rng.choice(["Mul", "Div", "Add", "Sub"])), rng.uniform(0.5, 2, 3)),
}
EXACTLY = {
    "Mul": lambda x, c: x * c,
    "Div": lambda x, c: x / c,
    "Add": lambda x, c: x + c,
    "Sub": lambda x, c: x - c,
}


@once
@pytest.mark.parametrize("kind", CHAINS)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 200))
@settings(max_examples=15, derandomize=False)
def test_chains_of_constants_stay_within_the_bounds(kind, seed, length, tmp_path_factory):
    """Each fold rounds the weights; the checker must know of all of them."""
    rng = np.random.default_rng(seed)
    weights = {"w": rng.normal(size=(1, 3)).astype("float32")}
    nodes, exact = [("MatMul", ["h", "w"], {})], [Fraction(float(w)) for w in weights["w"][0]]
    for i in range(length):
        op, constant = CHAINS[kind](rng)
        weights[f"c{i}"] = constant.astype("float32")
        nodes.append((op, ["h", f"c{i}"], {}))
        constants = [Fraction(float(c)) for c in weights[f"c{i}"]]
        exact = [EXACTLY[op](x, c) for x, c in zip(exact, constants, strict=True)]
    network = read_model(model_of(nodes, weights, (1, 1)), tmp_path_factory.mktemp("chain"))
    bounds = Checker(network.graph).upper_bounds(
        np.ones(1), np.ones(1), np.concatenate([np.eye(3), -np.eye(3)]), np.zeros(6)
    )
    for i in range(3):
        assert -Fraction(bounds[3 + i]) <= exact[i] <= Fraction(bounds[i])


@once
def test_a_chain_whose_roundings_all_go_down(tmp_path):
    """Of the constants at random, each is the one that float64 loses most with."""
    own, folded, exact, weights = np.random.default_rng(0), 1.0, Fraction(1), {}
    for i in range(200):
        tried = [float(c) for c in own.uniform(0.9, 1.1, 16).astype("float32")]
        losses = [Fraction(folded) * Fraction(c) / Fraction(folded * c) for c in tried]
        best = tried[int(np.argmax([float(loss - 1) for loss in losses]))]
        weights[f"c{i}"] = np.array([best], "float32")
        folded, exact = folded * best, exact * Fraction(best)
    nodes = [("MatMul", ["h", "w"], {}), *(("Mul", ["h", f"c{i}"], {}) for i in range(200))]
    model = model_of(nodes, weights | {"w": np.ones((1, 1), "float32")}, (1, 1))
    graph = read_model(model, tmp_path).graph
    assert exact > Fraction(folded) * (1 + Fraction(50, 2**53))
    at = np.ones(1)
    (bound,) = Checker(graph).upper_bounds(at, at, np.ones((1, 1)), np.zeros(1))
    assert exact <= Fraction(bound)


@once
def test_a_node_takes_only_so_many_folds(tmp_path):
    nodes = [("MatMul", ["h", "w"], {})] + [("Mul", ["h", "c"], {})] * 9
    weights = {"w": np.ones((1, 3), "float32"), "c": np.full(3, 1.1, "float32")}
    graph = read_model(model_of(nodes, weights, (1, 1)), tmp_path).graph
    kinds = [type(node).__name__ for node in graph.nodes]
    assert kinds == ["Dense", *["Scale"] * (9 - FOLDS), "Dense"]


@once
def test_products_that_underflow_are_not_folded(tmp_path):
    tiny = {"w": np.full((1, 3), 1e-200), "t": np.full(3, 1e-200), "up": np.full(3, 1e200)}
    nodes = [("MatMul", ["h", "w"], {})] + [("Mul", ["h", n], {}) for n in ("t", "up", "up")]
    model = model_of(nodes, tiny, (1, 1), kind=TensorProto.DOUBLE)
    graph = read_model(model, tmp_path).graph
    at = np.ones(1)
    (bound,) = Checker(graph).upper_bounds(at, at, np.eye(3)[:1], np.zeros(1))
    assert bound >= 1 - 1e-9
    assert exact_forms(graph, at, np.eye(3)[:1], np.zeros(1))[0] == pytest.approx(1)


@once
def test_constants_that_the_file_computes_are_exact(tmp_path):
    """2^60 + 1 - 2^60 is 1, and a third of 3 is too."""
    weights = {
        "w": np.ones((1, 3), "float32"),
        "big": np.full(3, 2.0**60, "float32"),
        "one": np.ones(3, "float32"),
        "three": np.full(3, 3, "float32"),
    }
    constants = [
        helper.make_node("Add", ["big", "one"], ["sum"]),
        helper.make_node("Sub", ["sum", "big"], ["unit"]),
        helper.make_node("Div", ["unit", "three"], ["third"]),
        helper.make_node("Mul", ["third", "three"], ["whole"]),
        helper.make_node("Identity", ["third"], ["again"]),
        helper.make_node("Neg", ["again"], ["less"]),
    ]
    nodes = [("MatMul", ["h", "w"], {}), ("Mul", ["h", "whole"], {}), ("Add", ["h", "less"], {})]
    model = model_of(nodes, weights, (1, 1))
    for i, node in enumerate(constants):
        model.graph.node.insert(i, node)
    graph = read_model(model, tmp_path).graph
    np.testing.assert_array_equal(graph(np.ones((1, 1)))[0], np.full(3, 1 - 1 / 3))
    assert graph.unfolded == ()  # a third was rounded
    at = np.ones(1)
    bounds = Checker(graph).upper_bounds(at, at, np.array([[1.0, 0, 0], [-1.0, 0, 0]]), [0.0, 0.0])
    assert -Fraction(bounds[1]) <= Fraction(2, 3) <= Fraction(bounds[0])


@once
@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Sqrt", ["two"], {}, "would have to be rounded"),
        ("Exp", ["two"], {}, "would have to be rounded"),
        ("Cast", ["third"], {"to": TensorProto.FLOAT}, "the cast rounds"),
        ("Div", ["two", "none"], {}, "Div"),
    ],
)
def test_constants_that_would_be_rounded_are_refused(op, inputs, attributes, message, tmp_path):
    weights = {"w": np.ones((1, 3)), "two": np.full(3, 2.0), "third": np.full(3, 1 / 3)}
    weights |= {"none": np.zeros(3)}
    nodes = [("MatMul", ["h", "w"], {}), ("Mul", ["h", "c"], {})]
    model = model_of(nodes, weights, (1, 1), kind=TensorProto.DOUBLE)
    model.graph.node.insert(0, helper.make_node(op, inputs, ["c"], **attributes))
    with pytest.raises(ValueError, match=message):
        read_model(model, tmp_path)


@once
def test_outputs_smaller_than_the_noise_of_float32_are_read(tmp_path):
    weights = {
        "w": np.array([[8192, 2**-14, 8192]], "float32"),
        "v": np.array([[8192], [1.9 * 2**-14], [-8192]], "float32"),
    }
    nodes = [("MatMul", ["h", "w"], {}), ("Relu", ["h"], {}), ("MatMul", ["h", "v"], {})]
    graph = read_model(model_of(nodes, weights, (1, 1)), tmp_path).graph
    (value,) = exact_forms(graph, np.ones(1), np.ones((1, 1)), np.zeros(1))
    assert value == Fraction(2) ** -14 * Fraction(float(weights["v"][1, 0]))


# Bounds as they are written


STRICT = {
    "beyond float32": ("(assert (> X_0 1))(assert (< X_0 1.00000000001))", "sat"),
    "empty": ("(assert (>= X_0 1))(assert (< X_0 1))", "none"),
    "one point": ("(assert (>= X_0 1))(assert (<= X_0 1))", "sat"),
    "empty beyond float64": (
        "(assert (> X_0 0.10000000000000001))(assert (< X_0 0.10000000000000001))",
        "none",
    ),
    "a sliver beyond float64": (
        "(assert (> X_0 0.10000000000000001))(assert (< X_0 0.100000000000000011))",
        "sat",  # all real numbers between two neighbours are unsafe
    ),
}


def read_line(text, tmp_path):
    from keras_taps.verification.formats.onnx_reader import OnnxNetwork

    network = OnnxNetwork(LINE, (1,), np.arange(1))
    declared = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
    return read(text, tmp_path, declared, network)


@pytest.mark.parametrize("case", STRICT)
def test_bounds_of_inputs(case, tmp_path):
    bounds, verdict = STRICT[case]
    sets = read_line(bounds + "(assert (>= Y_0 0.01))", tmp_path)
    assert bool(sets) == (verdict != "none")
    if sets:
        found = verify(LINE, sets, stages=["attack", "strong-attack", "bab", "milp"], timeout=20)
        assert found.verdict == verdict


def test_strict_bounds_keep_their_counterexamples(tmp_path):
    (unsafe,) = sets = read_line(
        "(assert (> X_0 0))(assert (< X_0 1))(assert (> Y_0 0.5))", tmp_path
    )
    found = verify(LINE, sets, stages=["attack"])
    assert found.verdict == "sat"
    assert 0.5 < found.point[0] < 1
    assert not unsafe.contains(LINE, np.array([[1.0]]))[0]
    assert unsafe.upper[0] == 1  # proofs are about the closed box
    sets = read_line("(assert (> X_0 0))(assert (< X_0 1))(assert (>= Y_0 1))", tmp_path)
    assert verify(LINE, sets, timeout=20).verdict != "sat"


NUMBERS = st.decimals(-2, 2, places=22, allow_nan=False)


@once
@given(low=NUMBERS, high=NUMBERS, strict=st.tuples(st.booleans(), st.booleans()))
@USUAL
def test_boxes_hold_what_the_decimals_say(low, high, strict, tmp_path_factory):
    signs = [">" if strict[0] else ">=", "<" if strict[1] else "<="]
    text = f"(assert ({signs[0]} X_0 {low:f}))(assert ({signs[1]} X_0 {high:f}))"
    sets = read_line(text + "(assert (>= Y_0 0))", tmp_path_factory.mktemp("box"))
    low, high = Fraction(low), Fraction(high)
    assert bool(sets) == (low < high or (low == high and not any(strict)))
    for unsafe in sets:
        assert Fraction(unsafe.lower[0]) <= low
        assert high <= Fraction(unsafe.upper[0])
        inner = [Fraction(side[0]) for side in unsafe.meant[:2]]
        assert low < inner[0] if strict[0] else low <= inner[0]
        assert inner[1] < high if strict[1] else inner[1] <= high
        wider = np.nextafter(unsafe.meant[0][0], -9), np.nextafter(unsafe.meant[1][0], 9)
        assert Fraction(wider[0]) <= low if strict[0] else Fraction(wider[0]) < low
        assert high <= Fraction(wider[1]) if strict[1] else high < Fraction(wider[1])


@once
def test_offsets_of_outputs_are_rounded_down_for_counterexamples(tmp_path):
    (unsafe,) = read_line("(assert (<= 0 X_0 ))(assert (<= X_0 1))(assert (>= Y_0 0.1))", tmp_path)
    assert Fraction(unsafe.meant[2][0]) <= -Fraction(1, 10) <= Fraction(unsafe.offset[0])


# Weights that cancel, and what the exact solver says of them


def cancelling(large, small):
    """`large (large x) + small (small x) - large (large x)`, which is `small^2 x`."""
    first = Dense(np.array([[large, small, large]]), np.zeros(3))
    return Graph((first, Relu((3,)), Dense(np.array([[large], [small], [-large]]), np.zeros(1))))


CANCELLING = {
    "8192": (cancelling(8192.0, 1.4 * 2.0**-14), 7e-9),
    "1e6": (cancelling(1e6, 1e-3), 9e-7),
    "1e8": (cancelling(1e8, 1.0), 0.5),
}


@pytest.mark.parametrize("case", CANCELLING)
@pytest.mark.parametrize("names", [["milp"], ["bab"], ["ibp", "crown-ibp", "crown", "alpha-crown"]])
def test_weights_that_cancel(case, names):
    graph, limit = CANCELLING[case]
    unsafe = one(graph, 0, 1, 1.0, -limit)
    (value,) = exact_forms(graph, np.ones(1), unsafe.weights, unsafe.offset)
    assert value > 0
    found = verify(graph, [unsafe], stages=names, timeout=20)
    assert found.verdict in ("unknown", "sat")
    assert found.solver is None


@once
@pytest.mark.parametrize("large", [1.0, 8192.0, 3e5])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, derandomize=False)
def test_bounds_of_the_solver_hold_where_weights_cancel(large, seed):
    """Layers are multiplied together for it, and what this rounds is added to its bounds."""
    rng = np.random.default_rng(seed)
    # Clipped, because the solver refuses boxes of 1e7.
    first, last = (rng.normal(size=s).clip(-2, 2) * large for s in ((2, 4), (4, 1)))
    first, last = np.concatenate([first, first], 1), np.concatenate([last, -last])
    last[rng.integers(4)] += np.clip(rng.normal(), -2, 2)
    nodes = (Dense(first, rng.normal(size=8)), Dense(last, np.zeros(1)), Relu((1,), 0.1))
    graph = Graph((*nodes, Dense(np.ones((1, 1)), np.zeros(1))))
    low, high = -np.ones(2), np.ones(2)
    boxes = Checker(graph).bounds_and_boxes(low, high, np.ones((1, 1)), np.zeros(1))[1]
    bound = exact_bound(graph, low, high, np.ones(1), 0.0, boxes, timeout=20).bound
    for corner in ([-1, -1], [-1, 1], [1, -1], [1, 1]):
        values = exact_forms(graph, np.array(corner, "float64"), np.ones((1, 1)), np.zeros(1))
        assert values[0] <= Fraction(bound)


@once
def test_boxes_beyond_the_solver_are_refused():
    graph = cancelling(1e8, 1.0)
    low, high = np.zeros(1), np.ones(1)
    with pytest.raises(ValueError, match=r"boxes\[0\] reaches 1e\+08"):
        exact_bound(graph, low, high, np.ones(1), 0.0, [(np.zeros(3), np.full(3, 1e8))])


def test_the_word_of_the_solver_is_no_verdict(monkeypatch):
    """A solver that is always sure is believed only on request, and never as confirmed."""
    monkeypatch.setattr(stages, "exact_verdict", lambda *_, **__: ("certified", None, None))
    graph = Graph((Dense(np.ones((1, 1)), np.zeros(1)), Relu((1,)), *LINE.nodes))
    reached = one(graph, -1, 1, 1.0, -0.5, True)
    monkeypatch.setattr(Judge, "accept", lambda *_: False)
    found = verify(graph, [reached], stages=["milp"])
    assert (found.verdict, found.checked, found.solver) == ("unknown", False, "unsat")
    found = verify(graph, [reached], stages=["milp"], trust_solver=True)
    assert (found.verdict, found.checked, found.stage) == ("unsat", False, "milp")
    monkeypatch.undo()
    found = verify(graph, [reached], stages=["milp", "attack"], trust_solver=True)
    assert (found.verdict, found.checked) == ("sat", True)
    found = verify(graph, [one(graph, -1, 1, 1.0, -1.01)], stages=["milp"])
    assert (found.verdict, found.checked, found.stage) == ("unsat", True, "milp")


@once
def test_reports_count_what_is_confirmed(monkeypatch, tmp_path):
    monkeypatch.setattr(stages, "exact_verdict", lambda *_, **__: ("certified", None, None))
    monkeypatch.setattr(Judge, "accept", lambda *_: False)
    network = dense_network()
    x = np.random.default_rng(0).random((6, 6)).astype("float32")
    y = numpy(network(x)).argmax(-1)
    path = tmp_path / "report.jsonl"
    y = (y + 1) % 3
    monkeypatch.setattr(module, "own_outputs", lambda *_: lambda x: np.eye(3)[y])
    report = certify(network, x, y, 0.5, stages=["milp"], out=path, timeout=2)
    assert not report.unchecked
    shares, doubtful = report.accuracies(), report.solver_certified
    assert 0 < doubtful == round(6 * shares["unknown"])
    assert f"{doubtful} of the unknown inputs" in report.summary()
    forged = '"verdict": "certified", "stage": "milp"'
    text = path.read_text().replace('"verdict": "unknown", "stage": null', forged)
    text = text.replace(', "solver": "certified"', "")
    assert Report.load(path).solver_certified == doubtful
    path.write_text(text)
    with pytest.raises(ValueError, match="the checker has not confirmed it"):
        Report.load(path)


# Points whose value drowns in rounding


@once
def test_a_value_that_rounding_made_is_no_counterexample():
    """2^60 - 1.5 - 2^60 + 1 is 0 or more in float64, in whatever order, and -0.5."""
    last = Dense(np.ones((3, 1)), np.ones(1))
    graph = Graph((Dense(np.array([[2.0**60, -1.5, -(2.0**60)]]), np.zeros(3)), last))
    at, forms = np.ones(1), np.ones((1, 1))
    assert exact_forms(graph, at, forms, np.zeros(1)) == [Fraction(-1, 2)]
    assert not surely_reached(Checker(graph), at, forms, np.zeros(1))
    assert surely_reached(Checker(graph), at, forms, np.array([0.5]))
    assert not surely_reached(Checker(graph), at, forms, np.array([0.5]), np.array([True]))
    found = verify(graph, [one(graph, 1, 1, 1.0, 0.0)], timeout=20)
    assert found.verdict != "sat"


@once
def test_without_exact_numbers_rounding_decides_nothing():
    graph = Graph((Dense(np.ones((1, 1)), np.zeros(1)),), unfolded=())
    assert not surely_reached(Checker(graph), np.ones(1), np.ones((1, 1)), np.array([-1.0]))
    assert surely_reached(Checker(graph), np.ones(1), np.ones((1, 1)), np.array([-0.999]))


@once
def test_exact_values_of_a_padded_convolution_in_groups():
    """The next one has one output with or without the border, and sees the last pixel."""
    ones, last = np.ones((1, 1, 1, 2)), np.zeros((3, 3, 2, 1))
    last[2, 2] = 1.0
    graph = Graph(
        (
            Conv(ones, np.zeros(2), (2, 2, 2), padding=((1, 0), (1, 0)), groups=2),
            Conv(last, np.zeros(1), (3, 3, 2), (2, 2), ((0, 1), (0, 1))),
            Reshape((1, 1, 1), (1,)),
            Dense(np.ones((1, 1)), np.zeros(1)),
        )
    )
    at, form = np.ones((2, 2, 2)), -np.ones((1, 1))
    assert exact_forms(graph, at, form, np.zeros(1)) == [-2]
    assert not surely_reached(Checker(graph), at, form, np.zeros(1))


@once
@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1.0, 2.0**-500, 2.0**500]))
@USUAL
def test_exact_values_lie_within_rounding_of_float64(kind, seed, scale):
    graph, rng = random_graph(kind, seed), np.random.default_rng(seed)
    point = random_box(graph, seed)[0] * scale
    forms, offset = rng.normal(size=(2, 3)), rng.normal(size=2)
    exact = [float(value) for value in exact_forms(graph, point, forms, offset)]
    np.testing.assert_allclose(graph(point[None])[0] @ forms.T + offset, exact, rtol=1e-9)
    bounds = Checker(graph).upper_bounds(
        point, point, np.concatenate([forms, -forms]), np.concatenate([offset, -offset])
    )
    for value, above, below in zip(exact, bounds[:2], bounds[2:], strict=True):
        assert -below <= value <= above

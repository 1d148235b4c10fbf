"""Properties of one network: conjunctions, several boxes, and all four answers."""

import os
from pathlib import Path

import numpy as np
import pytest

from keras_taps.verification.cascade.verify import _Runner, verify
from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.formats.vnnlib import read_vnnlib
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.graph.unsafe import Unsafe
from tests.helpers import BACKEND

FOLDER = Path(os.environ.get("VNNLIB_DIR", "not set"))

# Outputs |a| and |b| of two inputs.
KERNEL = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
AFTER = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
GRAPH = Graph((Dense(KERNEL, np.zeros(4)), Relu((4,)), Dense(AFTER, np.zeros(2))))


def unsafe(weights, offset, low=-1.0, high=1.0):
    weights = np.array(weights, "float64")
    return Unsafe(np.full(2, low), np.full(2, high), weights, np.array(offset, "float64"))


STAGES = ["ibp", "attack", "crown-ibp", "milp"]  # each is compiled for each property
FAR = unsafe([[1, 0]], [-2.5])  # interval arithmetic bounds |a| by 2
ABOVE = unsafe([[1, 0]], [-1.5])  # |a| >= 1.5
BOTH = unsafe([[1, 0], [0, 1]], [-0.5, -0.5])  # |a| >= 0.5 and |b| >= 0.5
APART = unsafe([[1, 1], [-1, 0], [0, -1]], [-1.9, 0.6, 0.6])  # |a| + |b| >= 1.9, both <= 0.6
TIE = unsafe([[-1, 0]], [0.0])  # |a| <= 0: at one hyperplane alone


@pytest.mark.parametrize(
    ("sets", "verdict"),
    [
        ([ABOVE], "unsat"),
        ([BOTH], "sat"),
        ([APART], "unsat"),
        ([ABOVE, APART], "unsat"),
        ([ABOVE, BOTH], "sat"),
        ([TIE], "sat"),
        ([], "unsat"),
    ],
    ids=["above", "both", "apart", "two", "one of two", "tie", "none"],
)
def test_verdicts(sets, verdict):
    found = verify(GRAPH, sets, stages=STAGES)
    assert found.verdict == verdict
    assert (found.point is not None) == (verdict == "sat")
    if verdict == "sat":
        assert any(one.contains(GRAPH, found.point[None])[0] for one in sets)


def test_several_boxes():
    """A counterexample lies in the box of the set it reaches."""
    left = unsafe([[1, 0]], [-1.1], -0.5, 0.5)
    right = unsafe([[1, 0]], [-0.9], 0.25, 1.0)
    assert verify(GRAPH, [left], stages=["ibp"]).verdict == "unsat"
    found = verify(GRAPH, [left, right], stages=["ibp", "attack"])
    assert found.verdict == "sat"
    assert right.contains(GRAPH, found.point[None])[0]
    assert verify(GRAPH, [left, FAR], stages=["ibp"]).verdict == "unsat"


def test_conjunctions_are_not_taken_apart():
    """Each form is reached somewhere, both nowhere: relaxations alone cannot tell."""
    found = verify(GRAPH, [APART], stages=["ibp", "attack", "crown"])
    assert found.verdict in ("unknown", "unsat")
    assert verify(GRAPH, [APART], stages=["ibp", "milp"]).verdict == "unsat"


def test_few_inputs_are_split_first(monkeypatch):
    """Chosen by how many vary; Keras is not needed, and an open property says why."""
    found = verify(GRAPH, [APART, FAR])
    assert (found.verdict, found.stage, found.checked) == ("unsat", "input-split", True)
    assert verify(GRAPH, [BOTH], stages=["input-split"]).verdict == "sat"
    monkeypatch.setattr("keras_taps.verification.cascade.verify.MOST_NEURONS", 0)  # box by box
    assert verify(GRAPH, [APART, FAR], stages=["input-split"]).verdict == "unsat"
    assert verify(GRAPH, [BOTH], stages=["input-split"]).verdict == "sat"
    wide = Graph((Dense(np.ones((30, 1)), np.zeros(1)),))
    monkeypatch.setattr(_Runner, "_run", lambda *arguments: "not tried")
    for upper, split in ((np.ones(30), False), (np.eye(30)[0], True)):
        found = verify(wide, [Unsafe(np.zeros(30), upper, np.ones((1, 1)), np.zeros(1))])
        assert ("input-split" in dict(found.ended)) == split


def test_why_nothing_was_decided():
    found = verify(GRAPH, [BOTH], stages=["ibp", "crown"])
    assert [stage for stage, _ in found.ended] == ["ibp", "crown"]
    assert "1 of 1 sets open" in found.ended[0][1]
    assert verify(GRAPH, [FAR], stages=["ibp"]).ended == ()


def test_unknown_and_timeout():
    assert verify(GRAPH, [BOTH], stages=["ibp"]).verdict == "unknown"
    assert verify(GRAPH, [BOTH], timeout=1e-9).verdict == "timeout"


@pytest.mark.parametrize("stage", ["attack", "milp"])
def test_inputs_fixed_to_float64(stage):
    """No float32 number is 0.3: the counterexample is a float64 point all the same."""
    fixed = np.array([0.3, -0.9]), np.array([0.3, 1.0])
    sets = [Unsafe(*fixed, np.array([[1.0, 1.0]]), np.array([-1.2]))]  # |a| + |b| >= 1.2
    found = verify(GRAPH, sets, stages=[stage])
    assert found.verdict == "sat"
    assert found.point[0] == 0.3
    assert sets[0].contains(GRAPH, found.point[None])[0]


@pytest.mark.parametrize(("need", "verdict"), [(1.2, "sat"), (1.3, "unknown")])
def test_an_input_between_two_floats(need, verdict):
    """What is meant lies between neighbours: the forms must reach 0 at both and between them."""
    outer = np.array([0.3, -0.9]), np.array([np.nextafter(0.3, 1.0), 1.0])
    inner = np.array([outer[1][0], -0.9]), np.array([0.3, 1.0]), np.array([-need])
    one = Unsafe(*outer, np.array([[1.0, 1.0]]), np.array([-need]), None, inner)
    found = verify(GRAPH, [one], stages=["attack"])
    assert found.verdict == verdict
    assert verdict == "unknown" or one.contains(GRAPH, found.point[None])[0]


def test_what_is_checked():
    assert verify(GRAPH, [FAR], stages=["ibp"]).checked
    assert not verify(GRAPH, [FAR], stages=["alpha-crown"], check=False).checked
    beside = unsafe([[1, 0], [0, 1]], [-0.5, -0.5], -1.0, 0.9)  # the centre has a gradient
    assert verify(GRAPH, [beside], stages=["attack"]).checked


@pytest.mark.parametrize(
    "one",
    [
        unsafe(np.zeros((0, 2)), []),
        unsafe([[1, 0, 0]], [0.0]),
        unsafe([[1, 0]], [0.0, 1.0]),
        unsafe([[1, 0]], [0.0], 1.0, -1.0),
        unsafe([[1, 0]], [0.0], np.nan),
        unsafe([[1, np.inf]], [0.0]),
        Unsafe(np.zeros(3), np.ones(3), np.ones((1, 2)), np.zeros(1)),
    ],
)
def test_sets_that_do_not_fit(one):
    with pytest.raises(ValueError, match="unsafe set"):
        verify(GRAPH, [ABOVE, one])


def test_other_arguments():
    with pytest.raises(ValueError, match="timeout"):
        verify(GRAPH, [ABOVE], timeout=0)
    with pytest.raises(ValueError, match="stages"):
        verify(GRAPH, [ABOVE], stages=["magic"])


ROWS = [
    ("test_nano", "test_nano", "unsat"),
    ("test_tiny", "test_tiny", "unsat"),
    ("test_small", "test_small", "unsat"),
    ("test_sat", "test_prop", "sat"),
    ("test_unsat", "test_prop", "unsat"),
]


@pytest.mark.skipif(not (FOLDER / "test").is_dir(), reason=f"no VNNLIB benchmarks in {FOLDER}")
# The last two networks compile for 20 s on JAX.
@pytest.mark.parametrize(("network", "prop", "verdict"), ROWS[:3] if BACKEND == "jax" else ROWS)
def test_competition(network, prop, verdict):
    """The benchmark "test" of VNN-COMP, with the verdicts of its tools."""
    read = read_onnx(FOLDER / "test" / f"{network}.onnx")
    sets = read_vnnlib(FOLDER / "test" / f"{prop}.vnnlib", read)
    found = verify(read.graph, sets, timeout=30, stages=STAGES)
    assert found.verdict == verdict
    if verdict == "sat":
        assert any(one.contains(read.graph, found.point[None])[0] for one in sets)

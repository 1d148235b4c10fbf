"""VNNLIB 2.0 is read as the same sets as 1.0, and what is not supported is refused by its name."""

import gzip
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_taps.verification.formats.onnx_reader import OnnxNetwork
from keras_taps.verification.formats.vnnlib import read_property, read_vnnlib
from keras_taps.verification.formats.vnnlib_writer import write_vnnlib
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense
from keras_taps.verification.graph.unsafe import Unsafe, margin_forms
from tests.verification.formats.test_vnnlib import (
    BOX,
    DECLARED,
    IMAGE,
    assert_equal,
    forms_of,
    read,
)

pytestmark = pytest.mark.once

VERSION = "(vnnlib-version <2.0>)\n"
HEAD = VERSION + (
    "(declare-network N\n"
    "    (declare-input  X float32 [1, 2])\n    (declare-output Y float32 [1,3]))\n"
)
BOX_2 = "(assert (and (<= X[0,0] 1.0) (>= X[0,0] -1.0)))(assert (<= X[0,1] 0.5))\n" + (
    "(assert (>= X[0,1] 0.25))\n"
)


def network(shape=(2,), outputs=3, **more):
    size = math.prod(shape)
    graph = Graph((Dense(np.ones((size, outputs)), np.zeros(outputs)),))
    return OnnxNetwork(graph, shape, np.arange(size), **more)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("(<= Y[0,0] Y[0,2])", "(<= Y_0 Y_2)"),
        ("; a comment ( [\n (> Y [ 0 , 1 ] 3.0)", "(> Y_1 3)"),
        ("(or (and (>= Y[0,0] Y[0,1])) (< (- (+ Y[0,2] 0.1)) (* 2 Y[0,0])))",
         "(or (and (>= Y_0 Y_1)) (< (- (+ Y_2 0.1)) (* 2 Y_0)))"),
        ("(or (< X[0,0] 0.1) (and (>= X[0,0] 0.3) (<= Y[0,0] 1e-3)))",
         "(or (< X_0 0.1) (and (>= X_0 0.3) (<= Y_0 1e-3)))"),
        ("(== Y[0,1] 0.1)", "(and (>= Y_1 0.1) (<= Y_1 0.1))"),
        ("(!= (+ Y[0,0] Y[0,1]) 2.0)", "(or (> (+ Y_0 Y_1) 2) (< (+ Y_0 Y_1) 2))"),
        ("(== X[0,0] 0.1)", "(and (>= X_0 0.1) (<= X_0 0.1))"),
        ("(!= X[0,0] 0.1)", "(or (> X_0 0.1) (< X_0 0.1))"),
        ("(< X[0,0] -1.0)", "(< X_0 -1)"),
    ],
)  # fmt: skip
def test_same_sets_as_the_old_version(new, old, tmp_path):
    """Proofs and counterexamples: also bounds that float64 does not hold, and strict ones."""
    sets = read(f"{HEAD}{BOX_2}(assert {new})\n", tmp_path, "")
    others = read(f"{BOX}(assert {old})", tmp_path)
    assert_equal(sets, others)
    for one, other in zip(sets, others, strict=True):
        assert one.strict.tolist() == other.strict.tolist()
        for mine, its in zip(one.meant, other.meant, strict=True):
            np.testing.assert_array_equal(mine, its)


def test_tensors_of_an_image_and_a_scalar(tmp_path):
    """Row-major entries are those of the file, whose channels come first."""
    declared = "(declare-network n_1(declare-input in real [1,2,1,2])(declare-output o Real[3]))"
    bounds = "".join(
        f"(assert (== in[0,{c},0,{w}] {2 * c + w}))" for c in range(2) for w in range(2)
    )
    path = tmp_path / "image.vnnlib"
    path.write_text(f"; (vnnlib-version <1.0>)\n {VERSION}{declared}{bounds}(assert (>= o[2] 0.0))")
    found = read_property(path, IMAGE)
    assert found.sets[0].lower.tolist() == [[[0, 2], [1, 3]]]
    assert forms_of(found.sets) == [([[0, 0, 1]], [0])]
    assert (found.version, found.network) == ("2.0", "n_1")
    assert [v.shape for v in found.variables] == [(1, 2, 1, 2), (3,)]
    scalar = "(declare-network N (declare-input x float64 []) (declare-output y real [1]))"
    path.write_text(f"{VERSION}{scalar}(assert (and (<= x 1.0) (>= x 0.0) (>= y[0] 2.0)))")
    (unsafe,) = read_vnnlib(path, network((1,), 1, element_type="float64"))
    assert (unsafe.lower.tolist(), unsafe.upper.tolist()) == ([0], [1])


def declare(inside):
    return f"{VERSION}(declare-network N {inside})"


X, Y = "(declare-input X float32 [1,2])", "(declare-output Y float32 [1,3])"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "(declare-network M (declare-input A real [1])(declare-output B real [1]))",
         "network 'M' after network 'N': properties of several networks are not supported"),
        (declare("(equal-to M)" + X + Y), r"network 'N' is \(equal-to M\): .*several networks"),
        (declare("(isomorphic-to M)" + X + Y), "isomorphic-to M.*several networks"),
        (declare(X + '(declare-hidden H real [2] "h")' + Y), "H .*: hidden nodes are not supp"),
        (declare(X + X.replace("X", "Z") + Y), "'Z' is an input too many"),
        (declare(X + Y + Y.replace("Y", "Z")), "'Z' is an output too many"),
        (declare(Y + X), "'X' is an input too many, or too late"),
        (declare(X), "must declare one input and one output"),
        (declare(X + Y.replace("Y", "X")), "the name 'X' is used twice"),
        (declare(X.replace("float32", "int8") + Y), "type of 'X' must be one of real.*: int8"),
        (declare(X.replace("float32", "float64") + Y), "'X' is declared as float64, and the net"),
        (declare(X.replace("1,2", "2,1,2") + Y), r"shape \[2, 1, 2\], and the network has \[2\]"),
        (declare(X.replace("1,2", "1 2") + Y), "whole numbers with commas"),
        (declare(X.replace("1,2", "1,-2") + Y), r"expected \(declare-input NAME TYPE"),
        (declare(X[:-1] + ' "images")' + Y), "the input of the network is ''"),
        (declare(X + Y).replace("N", "-"), r"expected \(declare-network NAME"),
        (declare("(assert (<= 0 1))"), "expected declare-input or declare-output"),
        (HEAD + "(assert (<= X[0,2] 1.0))", r"line 5: X\[0,2\] is beyond the shape \[1, 2\]"),
        (HEAD + "(assert (<= X[0] 1.0))", r"X\[0\] has 1 indices, X the shape \[1, 2\]"),
        (HEAD + "(assert (<= X 1.0))", "X has 0 indices"),
        (HEAD + "(assert (<= X[0,-1] 1.0))", "unknown variable"),
        (HEAD + "(assert (<= X_0 1.0))", "unknown variable 'X_0'"),
        (HEAD + "(assert (<= -X[0,0] 1.0))", r"line 5: this \[ stands beside no name"),
        (HEAD + "(assert (<= X[0,0 1.0))", r"line 5: this \[ stands beside no name"),
        (HEAD + "(assert (<= Z[0,0] 1.0))", r"unknown variable 'Z\[0,0\]'"),
        (HEAD + "(assert (<= X[0,0] 1.0))", r"X\[0,0\] has no lower or no upper bound"),
        (HEAD + "(assert (<= X[0,0] Y[0,1]))", r"inputs and outputs: X\[0,0\], Y\[0,1\]"),
        (HEAD + "(assert (<= (* X[0,0] X[0,1]) 1.0))", "product of variables is not linear"),
        (HEAD + "(assert (= X[0,0] 1.0))", "expected and, or, <=, <, >=, >, == or !="),
        (HEAD + "(assert ((and) (<= X[0,0] 1.0)))", "expected and, or"),
        (HEAD + "(assert (<= X[0,0] 1e999))", "too large for float64"),
        (HEAD + "(assert (<= Y[0,0] 1.0))(declare-network M)", "`declare-network` after `assert`"),
        (HEAD + "(check-sat)", "unknown command check-sat"),
        (HEAD + "(declare-const X_0 Real)", "unknown command declare-const"),
        (HEAD + "(assert (<= Y[0,0] 1.0)); a\r(assert (<= Y[0,0] 0.0))\n", "carriage return"),
        (HEAD + BOX_2 + '(assert "(<= Y[0,0] 0.0)")', "expected and, or"),
        (HEAD + BOX_2 + "(assert |(<= Y[0,0] 0.0)|)", "this . is never closed"),
        (HEAD + BOX_2 + '(note "\\" (assert (<= Y[0,0] 0.0)) ")', "a backslash in quotes"),
        (HEAD + VERSION, r"unknown command vnnlib-version"),
        (HEAD.replace("2.0", "2.1"), r"line 1: expected \(vnnlib-version <2.0>\)"),
        (VERSION + "(assert (<= 0 1))", "`assert` before `declare-network`"),
        (VERSION, "no network is declared"),
        (HEAD.removeprefix(VERSION), r"unknown command declare-network.*vnnlib-version <2.0>"),
        (DECLARED + VERSION, "unknown command vnnlib-version"),
    ],
)  # fmt: skip
def test_refuses(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(text, tmp_path, "")


def test_declared_by_the_names_of_the_file(tmp_path):
    named = declare(X[:-1] + ' "images")' + Y[:-1] + ' "logits")') + BOX_2
    (tmp_path / "named.vnnlib").write_text(named)
    assert len(read_vnnlib(tmp_path / "named.vnnlib", network(names=("images", "logits")))) == 1


def written(tmp_path):
    """A property of an image with two boxes, and one with one: path, sets."""
    lower = np.array([[[0.1, -1.0], [0.0, 5e-324]]])
    upper = lower + 1
    rows = margin_forms(1, 3)
    one = [Unsafe(lower, upper, row[None], np.zeros(1)) for row in rows]
    linear = np.array([[0.1, -2.0, 1.0], [0.0, 1.0, 0.0]])
    two = [*one[:1], Unsafe(lower - 1, upper - 1, linear, np.array([0.3, -1.0]))]
    for name, sets in (("one", one), ("two", two)):
        path = tmp_path / f"{name}.vnnlib.gz"
        write_vnnlib(sets, path, (2, 1, 2), "2.0")
        yield path, sets


def test_round_trip(tmp_path):
    for path, sets in written(tmp_path):
        if path.name.startswith("one"):
            assert_equal(read_vnnlib(path, IMAGE), sets)
        else:  # 0.1 is made whole
            assert [len(s.offset) for s in read_vnnlib(path, IMAGE)] == [1, 2]
    with pytest.raises(ValueError, match="`version` must be one of"):
        write_vnnlib(sets, path, (2, 1, 2), "3.0")


OPERATORS = {
    "And": all, "Or": any, "Plus": sum, "Multiply": math.prod,
    "GreaterThan": operator.gt, "GreaterEqual": operator.ge, "LessThan": operator.lt,
    "LessEqual": operator.le, "Equal": operator.eq, "NotEqual": operator.ne,
}  # fmt: skip


def meaning(node, values):
    """What an expression of the reference parser is where its variables have these values."""
    kind = type(node).__name__
    if kind == "Var":
        return values[node.name][tuple(node.indices)]
    if kind == "Negate":
        return -meaning(node.expr, values)
    if kind == "Minus":
        return meaning(node.head, values) - sum(meaning(part, values) for part in node.rest)
    if kind in ("And", "Or", "Plus", "Multiply"):
        return OPERATORS[kind]([meaning(part, values) for part in node.args])
    if kind in OPERATORS:
        return OPERATORS[kind](meaning(node.lhs, values), meaning(node.rhs, values))
    return Fraction(node.lexeme)


def assert_same_points(query, sets, shape):
    """The assertions hold where a point is in one of our sets; numbers are exact here."""
    rng = np.random.default_rng(0)
    inputs = np.concatenate([side.ravel() for s in sets for side in (s.lower, s.upper)] or [[0]])
    inside = 0
    for _ in range(60):
        x = rng.choice([*inputs, *(inputs / 2), 0.25], shape)
        y = rng.choice([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0], 3)
        image = x.transpose(1, 2, 0) if x.ndim == 3 else x
        ours = any(
            np.all((s.meant[0] <= image) & (image <= s.meant[1]))
            and all((v > 0) | ((v == 0) & ~strict) for v, strict in zip(
                s.weights @ y + s.meant[2], s.strict, strict=True))
            for s in sets
        )  # fmt: skip
        of = {"X": np.vectorize(Fraction, otypes=[object])(x)[None], "Y": y[None]}
        assert ours == all(meaning(a.expr, of) for a in query.assertions)
        inside += ours
    return inside


@pytest.fixture(scope="module")
def reference():
    """The parser of the authors of the standard."""
    return pytest.importorskip("vnnlib", minversion="1.0.2")


def test_the_reference_parser_agrees(tmp_path, reference):
    """What we write is well-typed there and has the same meaning."""
    for path, sets in written(tmp_path):
        text = gzip.decompress(path.read_bytes()).decode()
        query = reference.parse_query_string(text)
        (declared,) = query.networks
        assert (declared.inputs[0].shape, declared.outputs[0].shape) == ([1, 2, 1, 2], [1, 3])
        assert_same_points(query, sets, (2, 1, 2))
    query = reference.parse_query_string(EXAMPLE)
    assert 0 < assert_same_points(query, read(EXAMPLE, tmp_path, ""), (2,)) < 60


PIECES = (*'()[],;-0.12XY \n"|<=', "Y[0,1]", "(and", "assert", "; ", "X[0,0]", "]-1.0")
NESTED = "(or (and (>= Y[0,0] Y[0,1]) (< (- 1.0 Y[0,2]) (* 2.0 Y[0,0]))) (<= Y[0,1] -2.0))"
EXAMPLE = f"{HEAD}{BOX_2}(assert {NESTED})\n"
CHANGE = st.tuples(st.integers(30, len(EXAMPLE)), st.integers(0, 9), st.sampled_from(PIECES))


@given(st.lists(CHANGE, min_size=1, max_size=2))
@settings(max_examples=60)
def test_damaged_files_are_refused_or_read_alike(reference, tmp_path_factory, changes):
    """Whatever both take for a file they take for the same one."""
    text = EXAMPLE
    for place, dropped, piece in changes:
        text = text[:place] + piece + text[place + dropped :]
    try:
        sets = read(text, tmp_path_factory.getbasetemp(), "")
        query = reference.parse_query_string(text)
    except (ValueError, reference.VNNLibException):
        return
    assert_same_points(query, sets, (2,))

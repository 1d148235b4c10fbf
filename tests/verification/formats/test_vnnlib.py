"""Properties are read as sets that contain every counterexample, and written without loss."""

import csv
import gzip
import os
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_taps.verification.formats.onnx_reader import OnnxNetwork, read_onnx
from keras_taps.verification.formats.vnnlib import read_vnnlib
from keras_taps.verification.formats.vnnlib_writer import write_vnnlib
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Reshape
from keras_taps.verification.graph.unsafe import Unsafe, margin_forms

pytestmark = pytest.mark.once

FILES = Path(os.environ.get("VNNLIB_DIR", "not set"))
ROWS = list(csv.DictReader((FILES / "verdicts.csv").open())) if FILES.is_dir() else []
needs_files = pytest.mark.skipif(not ROWS, reason="no competition files; set VNNLIB_DIR")

FLAT = OnnxNetwork(Graph((Dense(np.ones((2, 3)), np.zeros(3)),)), (2,), np.arange(2))
IMAGE = OnnxNetwork(
    Graph((Reshape((1, 2, 2), (4,)), Dense(np.ones((4, 3)), np.zeros(3)))),
    (2, 1, 2),
    np.array([0, 2, 1, 3]),
)
DECLARED = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))
BOX = "(assert (<= X_0 1))(assert (>= X_0 -1.0))(assert (<= X_1 5e-1))(assert (>= X_1 .25))\n"


def read(text, tmp_path, declared=DECLARED, network=FLAT):
    path = tmp_path / "property.vnnlib"
    path.write_text(declared + text)
    return read_vnnlib(path, network)


def forms_of(sets):
    return [(s.weights.tolist(), s.offset.tolist()) for s in sets]


def assert_equal(sets, others):
    assert len(sets) == len(others)
    for one, other in zip(sets, others, strict=True):
        for name in ("lower", "upper", "weights", "offset"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_box_and_forms(tmp_path):
    (unsafe,) = read(BOX + "; a comment (\n(assert (<= Y_0 Y_2))(assert (> Y_1 3))", tmp_path)
    assert unsafe.lower.tolist() == [-1, 0.25]
    assert unsafe.upper.tolist() == [1, 0.5]
    assert forms_of([unsafe]) == [([[-1, 0, 1], [0, 1, 0]], [0, -3])]


def test_disjuncts(tmp_path):
    """`or` of outputs, of boxes, and both nested; what is empty is left out."""
    sets = read(BOX + "(assert (or (and (>= Y_0 Y_1)) (and (>= Y_2 Y_1) (< Y_2 0))))", tmp_path)
    assert forms_of(sets) == [([[1, -1, 0]], [0]), ([[0, -1, 1], [0, 0, -1]], [0, 0])]
    text = BOX + "(assert (or (and (<= X_0 0) (<= Y_0 1)) (>= X_0 0) (>= X_0 2) (<= 2 1)))"
    sets = read(text, tmp_path)
    assert [(s.lower[0], s.upper[0]) for s in sets] == [(-1, 0), (0, 1)]
    assert forms_of(sets) == [([[-1, 0, 0]], [1]), ([], [])]
    assert sets[1].weights.shape == (0, 3)
    text = BOX + "(assert (or (<= Y_0 0) (<= Y_1 0)))(assert (or (<= Y_2 0) (and (or (>= Y_2 1)))))"
    assert len(read(text, tmp_path)) == 4
    assert read(BOX + "(assert (or))", tmp_path) == []
    assert read("(assert (>= X_0 1))(assert (<= X_0 0))" + BOX, tmp_path) == []


@pytest.mark.parametrize(
    ("formula", "weights", "offset"),
    [
        ("(>= (+ Y_0 (* 2 Y_1) -3) Y_2)", [1, 2, -1], -3),
        ("(<= (- Y_0) (- Y_1 Y_2 1))", [1, 1, -1], -1),
        ("(<= (* Y_0 (- 2) 0.25) 0)", [0.5, 0, 0], 0),
        ("(>= (+ (* 0.1 Y_0) (* -0.3 Y_1)) 0.2)", [1, -3, 0], -2),  # made whole
        ("(<= Y_0 (- Y_0 Y_1))", [0, -1, 0], 0),
    ],
)
def test_linear_forms(formula, weights, offset, tmp_path):
    (unsafe,) = read(f"{BOX}(assert {formula})", tmp_path)
    assert forms_of([unsafe]) == [([weights], [offset])]


def test_scaled_bounds(tmp_path):
    text = "(assert (<= (* 4 X_0) 2))(assert (<= (* -2 X_0) 1))(assert (and (<= X_1 1) (<= 0 X_1)))"
    (unsafe,) = read(text, tmp_path)
    assert unsafe.lower.tolist() == [-0.5, 0]
    assert unsafe.upper.tolist() == [0.5, 1]


@given(st.decimals(-(10**6), 10**6, allow_nan=False, places=20), st.integers(-300, 0))
@settings(max_examples=50)
def test_the_box_contains_decimals(tmp_path_factory, number, exponent):
    """Outward by at most one float64, and not at all for a number that float64 has."""
    token = f"{number:f}e{exponent}"
    text = f"(assert (<= X_0 {token}))(assert (>= X_0 {token}))(assert (<= Y_0 {token}))"
    folder = tmp_path_factory.getbasetemp()
    (unsafe,) = read(text + "(assert (and (<= X_1 0) (>= X_1 0)))", folder)
    lower, upper, real = unsafe.lower[0], unsafe.upper[0], Fraction(token)
    assert Fraction(lower) <= real <= Fraction(upper)
    assert Fraction(unsafe.offset[0]) >= real
    exact = Fraction(float(token)) == real
    assert (lower == upper) if exact else (np.nextafter(lower, np.inf) == upper)


def test_image_order(tmp_path):
    """X comes channels first; boxes have channels last."""
    declared = "".join(f"(declare-const X_{i} Real)" for i in range(4))
    text = "".join(f"(assert (and (>= X_{i} {i}) (<= X_{i} {i})))" for i in range(4))
    (unsafe,) = read(text, tmp_path, declared, IMAGE)
    assert unsafe.lower.tolist() == [[[0, 2], [1, 3]]]


def test_gzip(tmp_path):
    path = tmp_path / "property.vnnlib.gz"
    path.write_bytes(gzip.compress((DECLARED + BOX).encode()))
    assert len(read_vnnlib(path, FLAT)) == 1
    for broken in (b"no gzip", path.read_bytes()[:-20], path.read_bytes()[:20] + b"x" * 40):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"property\.vnnlib\.gz is not text or is damaged"):
            read_vnnlib(path, FLAT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(assert (<= X_0 1))", r"vnnlib: X_0 has no lower or no upper bound"),
        (BOX + "(assert (or (<= Y_0 1)\n (<= Y_5 1)))", "line 7: unknown variable 'Y_5'"),
        ("(declare-const X_2 Real)", "line 6: X_2: the network has 2 inputs"),
        ("\n(declare-const Y_3 Real)", "line 7: Y_3: the network has 3 outputs"),
        ("(declare-const Z Real)", "variables are X_i and Y_i. Received: Z"),
        ("(declare-const X_0 Int)", "expected .declare-const NAME Real"),
        (BOX + "(assert (<= (* Y_0 Y_1) 1))", "product of variables is not linear"),
        (BOX + "(assert (<= Y_0 1)", "line 7: this parenthesis is never closed"),
        (BOX + "\n)", r"line 8: '\)' outside of parentheses"),
        ("word", "line 6: 'word' outside"),
        ("(assert (<= X_0 Y_0))", "inputs and outputs: X_0, Y_0"),
        ("(assert (<= X_0 X_1))", "several inputs: X_0, X_1"),
        ("(assert (= X_0 1))", "expected and, or, <=, <, >= or >"),
        ("(assert (<= X_0 1 2))", "takes two operands"),
        ("(assert (<= X_0 ()))", "expected a number"),
        ("(assert (<= X_0 (/ 1 2)))", "expected a number"),
        ("(assert (<= X_0 1) (<= X_0 1))", "takes one formula"),
        ("(assert X_0)", "expected and, or"),
        ("(assume (<= X_0 1))", "unknown command assume"),
        ("()", "unknown command None"),
        ("(assert (<= X_0 nan))", "unknown variable 'nan'"),
        ("(assert (<= X_0 1e999))", "too large for float64"),
        ("(assert (<= X_0 1e999999999))", "unknown variable"),
        (BOX + "(assert (<= (* 0.1234567890123456789 Y_0) Y_1))", "too many digits"),
        ("(" * 200, "nested parentheses"),
        (BOX + '(set-info :source "never closed)', 'line 7: this " is never closed'),
        (BOX + "(set-info :source |never closed)", "this | is never closed".replace("|", r"\|")),
        (BOX + r'(set-info :source "\" (assert (<= Y_0 1)) ")', "a backslash in quotes"),
        (BOX + r"(set-info :source |\| (assert (<= Y_0 1)) |)", "a backslash in quotes"),
        (BOX + "(assert (<= Y_0 1)); a comment\r(assert (<= Y_0 0))\n", "a carriage return"),
        (BOX + "(assert (<= |Y_0| 1))", "unknown variable"),
        (BOX + '("assert" (<= Y_0 1))', "unknown command"),
        (BOX + "(assert (<= Y_0 \u0661))", "unknown variable"),
        (BOX + "(check-sat)(exit)\n(assert (<= Y_0 1))", "line 8: `assert` after `exit`"),
        ("(check-sat)(declare-const X_0 Real)", "`declare-const` after `check-sat`"),
        ("(assert (or (<= Y_0 0) (<= Y_1 0)))" * 20, "more than 100000 disjuncts"),
    ],
)
def test_refuses(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(text, tmp_path)


@pytest.mark.parametrize(
    "info",
    [
        '" ) (assert (<= Y_0 -1)) (set-info :x "',
        "| ) (assert (<= Y_0 -1)) (set-info :x |",
        '"a ""quoted"" ) (assert (<= Y_0 -1)) (set-info :x "',
        '";"',
        "|;|",
        '"two\nlines"',
    ],
)
def test_quotes_are_single_words(info, tmp_path):
    """An assertion in a string is not made, and one after a string with a semicolon is."""
    text = f"{BOX}(set-info :source {info}) (assert (>= Y_0 2))\n(check-sat)(get-model)(exit)"
    assert forms_of(read(text, tmp_path)) == [([[1, 0, 0]], [-2])]


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_vnnlib(tmp_path / "none.vnnlib", FLAT)


floats = st.floats(-1e3, 1e3)


@given(
    boxes=st.lists(st.lists(st.tuples(floats, floats), min_size=4, max_size=4), max_size=3),
    rows=st.lists(
        st.lists(floats | st.sampled_from([0, 1, -1]), min_size=4, max_size=4), max_size=3
    ),
    shared=st.booleans(),
)
@settings(max_examples=40)
def test_round_trip(tmp_path_factory, boxes, rows, shared):
    """Bit by bit, for one box or several, and any forms."""
    rows = np.array(rows, "float64").reshape(-1, 4)
    boxes = np.sort(np.array(boxes, "float64").reshape(-1, 4, 2), axis=-1)
    boxes = boxes.reshape(-1, 1, 2, 2, 2)
    rows = rows[np.any(rows[:, :3], axis=1)]
    boxes, forms = (boxes[:1], rows[:, None]) if shared else (boxes, [rows])
    sets = [
        Unsafe(box[..., 0], box[..., 1], form[:, :3], form[:, 3]) for box in boxes for form in forms
    ]
    assume(sets and (len(rows) or len(sets) == 1))  # equal sets without forms become one
    path = tmp_path_factory.getbasetemp() / "round.vnnlib"
    write_vnnlib(sets, path, (2, 1, 2))
    assert_equal(read_vnnlib(path, IMAGE), sets)


def test_writes_what_the_competition_writes(tmp_path):
    lower, upper = np.array([-1.0, 0.1]), np.array([1.0, 0.25])
    sets = [Unsafe(lower, upper, row[None], np.zeros(1)) for row in margin_forms(1, 3)]
    write_vnnlib(sets, tmp_path / "property.vnnlib", (2,))
    text = (tmp_path / "property.vnnlib").read_text()
    assert "(declare-const Y_2 Real)\n(assert (<= X_0 1))\n(assert (>= X_0 -1))\n" in text
    assert text.endswith("(assert (or\n    (and (>= Y_0 Y_1))\n    (and (>= Y_2 Y_1))\n))\n")
    assert_equal(read_vnnlib(tmp_path / "property.vnnlib", FLAT), sets)
    write_vnnlib(sets, tmp_path / "property.vnnlib.gz", (2,))
    assert_equal(read_vnnlib(tmp_path / "property.vnnlib.gz", FLAT), sets)


def test_refuses_to_write(tmp_path):
    unsafe = Unsafe(np.zeros(2), np.ones(2), np.eye(3), np.zeros(3))
    for sets, shape, message in [
        ([], (2,), "at least one set"),
        ([unsafe], (3,), "must fit `network_shape`"),
        (
            [Unsafe(np.zeros((1, 2, 2)), np.ones((1, 2, 2)), np.eye(3), np.zeros(3))],
            (1, 2, 2),
            "fit",
        ),
        ([Unsafe(np.zeros(2), np.full(2, np.inf), np.eye(3), np.zeros(3))], (2,), "finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_vnnlib(sets, tmp_path / "property.vnnlib", shape)


@needs_files
def test_competition_properties():
    """All rows parse, fast enough, as boxes of the network's shape."""
    assert len(ROWS) == 55
    networks = {name: read_onnx(FILES / name) for name in {row["onnx"] for row in ROWS}}
    start = time.perf_counter()
    for row in ROWS:
        network = networks[row["onnx"]]
        sets = read_vnnlib(FILES / row["vnnlib"], network)
        assert len(sets) == (1 if row["benchmark"] == "test" else 9)
        for unsafe in sets:
            assert unsafe.lower.shape == unsafe.upper.shape == network.graph.in_shape
            assert np.all(unsafe.lower <= unsafe.upper)
            assert unsafe.weights.shape == (len(unsafe.offset), network.graph.outputs)
    assert time.perf_counter() - start < 55  # seconds; a tenth of one each, beside other work

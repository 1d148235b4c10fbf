"""What a hostile hand can put in a report ends in one sentence, never in a verdict."""

import json

import numpy as np
import pytest

from keras_taps.verification import Graph, recheck
from keras_taps.verification.certificate.report import input_hash
from keras_taps.verification.certificate.schema import FORMAT
from keras_taps.verification.graph import storage
from keras_taps.verification.graph.batch_norm import BatchNorm
from keras_taps.verification.graph.nodes import Dense, MaxPool, Relu, Reshape, Scale

pytestmark = pytest.mark.once

ROBUST = Graph((Dense(np.array([[1.0, -1.0]]), np.array([1.0, 0.0])),))
EVEN = Graph((Dense(np.array([[1.0, -1.0]]), np.zeros(2)),))
HUGE = 10**400
X = np.full(1, 0.5, "<f4")


def write(folder, graph, verdict="certified", x=X, header=(), proof=None, **changed):
    """A report of one image; its path. `graph` writes itself, or is `(structure, arrays)`."""
    path, files = folder / "r.jsonl", folder / "r.files"
    files.mkdir()
    if isinstance(graph, Graph):
        graph.save(files / "network.npz")
        digest = graph.hash
    else:
        structure, arrays = graph
        named = {f"array_{i}": np.asarray(a, "<f8") for i, a in enumerate(arrays)}
        text = json.dumps({"format": storage.FORMAT, "nodes": structure}, sort_keys=True)
        np.savez(files / "network.npz", structure=text, **named)
        digest = storage.digest(structure, list(named.values()))
    kind = {"certified": "certificate", "falsified": "counterexample"}.get(verdict, "image")
    proof = proof or {"certified": {"method": "ibp"}, "falsified": {"point": 0 * x}}.get(
        verdict, {}
    )
    numbers = {"label": np.int64(changed.get("label", 0)), "eps": np.float64(0.1)}
    np.savez(files / f"{kind}-000000.npz", x=x, **numbers, **proof)
    head = {"format": FORMAT, "network": digest, "eps": 0.1, "domain": [0, 1], "count": 1}
    head |= {"stages": ["ibp"]}
    record = {"index": 0, "input": input_hash(x), "label": 0, "predicted": 0, "verdict": verdict}
    record |= {"stage": None if verdict == "unknown" else "ibp", "bound": None, "checked": False}
    record |= {"seconds": 0, "stage_seconds": {}}
    lines = {**head, **dict(header)}, {**record, **changed}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_an_honest_report_holds(tmp_path):
    assert recheck(write(tmp_path, ROBUST, checked=True, bound=-0.5, deployed=True)).holds


@pytest.mark.parametrize(
    ("verdict", "changed", "reason"),
    [
        ("unknown", {"deployed": True}, "as it is deployed"),
        ("falsified", {"deployed": True}, "as it is deployed"),
        ("unknown", {"checked": True}, "no checker confirms"),
        ("certified", {"seconds": HUGE}, "`seconds`"),
        ("certified", {"bound": HUGE}, "`bound`"),
        ("certified", {"bound": -HUGE}, "`bound`"),
        ("certified", {"stage_seconds": {"ibp": HUGE}}, "`stage_seconds`"),
        ("certified", {"header": {"eps": HUGE}}, "`eps`"),
        ("certified", {"header": {"timeout": HUGE}}, "`timeout`"),
    ],
)
def test_fields_are_refused(tmp_path, verdict, changed, reason):
    with pytest.raises(ValueError, match=reason):
        recheck(write(tmp_path, ROBUST, verdict, **changed))


@pytest.mark.parametrize("verdict", ["unknown", "falsified"])
def test_a_bound_below_0_is_a_claim(tmp_path, verdict):
    found = recheck(write(tmp_path, EVEN, verdict, bound=-5.0))
    assert not found.confirmed
    assert found.rejected


def node(kind, **fields):
    return {"kind": kind, **fields}


def dense(first):
    return node("Dense", kernel={"array": first}, bias={"array": first + 1})


def relu(*shape):
    return node("Relu", in_shape=list(shape), slope=0.0)


def conv(shape):
    places = {"kernel": {"array": 0}, "bias": {"array": 1}, "padding": [[0, 0], [0, 0]]}
    ones = {"strides": [1, 1], "dilation": [1, 1], "groups": 1}
    return node("Conv", in_shape=shape, **places, **ones)


def pool(side, size):
    ones = {"strides": [1, 1], "padding": [[0, 0], [0, 0]]}
    return node("MaxPool", in_shape=[side, side, 1], size=[size, size], **ones)


def nested(depth):
    chain = [relu(1)]
    for _ in range(depth):
        chain = [node("Sum", in_shape=[1], branches=[chain])]
    return [*chain, dense(0)]


LAST = [np.array([[1.0, -1.0]]), np.array([1.0, 0.0])]
NORM = {name: {"array": i} for i, name in enumerate(("gamma", "beta", "mean", "variance"))}
FLAT = node("Reshape", in_shape=[4, 3, 1], out_shape=[12])
IMAGE = np.zeros((3, 3, 1), "<f4")
NETWORKS = {
    "kernel of height 0": (
        [conv([3, 3, 1]), FLAT, dense(2)],
        [np.zeros((0, 1, 1, 1)), np.zeros(1), np.ones((12, 2)), np.zeros(2)],
        IMAGE,
    ),
    "epsilon": (
        [node("BatchNorm", **NORM, epsilon=HUGE, in_shape=[1]), dense(4)],
        [*np.ones((4, 1)), *LAST],
        X,
    ),
    "windows": (
        [
            pool(999, 500),
            pool(500, 500),
            node("Reshape", in_shape=[1, 1, 1], out_shape=[1]),
            dense(0),
        ],
        LAST,
        np.zeros((999, 999, 1), "<f4"),
    ),
    "nothing": ([node("Reshape", in_shape=[1], out_shape=[1])], [], X),
    "depth": (nested(51), LAST, X),
    "depth of thousands": (nested(300), LAST, X),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_refused(tmp_path, name):
    structure, arrays, x = NETWORKS[name]
    with pytest.raises(ValueError, match=r"network\.npz' is damaged"):
        recheck(write(tmp_path, (structure, arrays), x=x))


def test_sums_up_to_the_limit_are_checked(tmp_path):
    assert recheck(write(tmp_path, (nested(50), LAST))).confirmed == [0]


NORMED = (BatchNorm(np.ones(2), np.zeros(2), np.zeros(2), np.ones(2), 0.0, (2,)),)


@pytest.mark.parametrize("after", [(), NORMED])
@pytest.mark.parametrize("label", [0, 1])
def test_a_class_that_float64_cannot_tell(tmp_path, after, label):
    """10^17 + 1 - 10^17 is class 1; with a root there is no exact arithmetic that says so."""
    graph = Graph.of((Dense(np.array([[0, 1e17], [0, 1.0], [0, -1e17]]), np.zeros(2)), *after))
    given = {"label": label, "predicted": label}
    found = recheck(write(tmp_path, graph, "unknown", x=np.ones(3, "<f4"), **given))
    told = label == 1 and not after
    assert (found.confirmed, found.without) == (([0], []) if told else ([], [0]))


def test_a_factor_beyond_float32_is_not_deployed(tmp_path):
    last = Dense(np.array([[-1e-7, 0.0]]), np.array([1e-9, 0.0]))
    scale = Scale(np.array([1e39, 1.0]), np.zeros(2), (2,))
    graph = Graph((last, scale, Dense(np.eye(2), np.array([1e33, 0.0]))))
    found = recheck(write(tmp_path, graph))
    assert (found.confirmed, found.deployed) == ([0], [])


def test_labels_without_images_compare_nothing(tmp_path):
    with pytest.raises(ValueError, match="`y` must come with `x`"):
        recheck(write(tmp_path, ROBUST), y=[1])


WIDE = Graph((Dense(np.ones((1, 4)), np.zeros(4)), Relu((4,)), Dense(np.ones((4, 2)), np.zeros(2))))
POOLED = Graph(
    (MaxPool((2**14, 1, 1), (2**14, 1), (1, 1)), Reshape((1, 1, 1), (1,)), EVEN.nodes[0])
)
LEAF = {
    "slopes": np.zeros((0, 0), "u1"),
    "betas": np.zeros(9, "<f4"),
    "mix": np.ones((0, 1), "<f4"),
}
ROOT = {"group": np.int64(0), "neurons": np.arange(40, dtype="<i4"), **LEAF}
DEEP = np.tile(np.arange(40, dtype="<i4"), 2**14)
LARGE = {
    "slopes": (WIDE, X, {"method": "alpha-crown", "slopes": np.zeros((2**20, 4), "<f4")}, "shape"),
    "windows": (POOLED, np.ones((2**14, 1, 1), "<f4"), {"method": "bab"}, "in a kernel"),
    "tree": (
        WIDE,
        X,
        {"method": "bab", **{f"tree0_{k}": v for k, v in {**ROOT, "preorder": DEEP}.items()}},
        "`betas` must have 14 entries at least",
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_would_take_memory_is_refused_first(tmp_path, name):
    graph, x, proof, reason = LARGE[name]
    assert reason in recheck(write(tmp_path, graph, x=x, proof=proof)).rejected[0]


def test_a_long_text_is_not_parsed(tmp_path):
    path = write(tmp_path, ROBUST)
    np.savez_compressed(
        path.with_name("r.files") / "network.npz", structure=np.str_("[" * 2**22 + " ")
    )
    with pytest.raises(ValueError, match="a text may take"):
        recheck(path)


def test_one_output_has_no_classes(tmp_path):
    found = recheck(write(tmp_path, Graph((Dense(np.ones((1, 1)), np.zeros(1)),))))
    assert "one output" in found.rejected[0]


@pytest.mark.parametrize(
    "error", [MemoryError, RecursionError, ZeroDivisionError, OverflowError, IndexError, ValueError]
)
def test_what_fails_in_a_record_is_no_proof_and_no_end(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error("deep inside")

    path = write(tmp_path, ROBUST)
    monkeypatch.setattr("keras_taps.verification.certificate.claims.Claims.check", fail)
    found = recheck(path)
    assert "cannot be checked" in found.rejected[0]
    assert not found.confirmed


def test_a_network_that_no_checker_takes(tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError("deep inside")

    path = write(tmp_path, ROBUST)
    monkeypatch.setattr("keras_taps.verification.certificate.claims.Checker", fail)
    with pytest.raises(ValueError, match=r"network of .*r\.jsonl' cannot be checked"):
        recheck(path)

"""The cascade over a test set: right verdicts, and the same ones after any interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_taps as kt
from keras_taps.layers import IntervalDense
from keras_taps.networks import IntervalSequential
from keras_taps.verification import (
    STAGES,
    Report,
    certify,
    input_interval,
    merge_reports,
    recheck,
)
from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.certificate.report import files_of
from tests.helpers import BACKEND, conv_network, dense_network, images, numpy
from tests.verification.problems import COUNT, EPS, tiny, truth, without_times

OPTIONS = {"batch_size": 8, "certificates": True}


@pytest.fixture(scope="module")
def problem():
    return tiny()


@pytest.fixture(scope="module")
def whole(problem, tmp_path_factory):
    """Report of one uninterrupted run with all stages."""
    out = tmp_path_factory.mktemp("certify") / "whole.jsonl"
    return certify(*problem, EPS, stages=STAGES, out=out, **OPTIONS)


def test_verdicts_are_right(problem, whole):
    """Against mixed-integer programming on the whole problem; all kinds of verdicts occur."""
    assert whole.verdicts.tolist() == truth(*problem)
    assert set(whole.verdicts) == {"certified", "falsified", "misclassified"}


def test_records(problem, whole):
    _, x, y = problem
    for record in whole.records:
        assert record["label"] == y[record["index"]]
        assert (record["predicted"] == record["label"]) == (record["verdict"] != "misclassified")
        if record["verdict"] == "certified":
            assert record["bound"] < 0
            assert record["checked"]
        assert record["seconds"] == pytest.approx(sum(record["stage_seconds"].values()))
    assert {r["index"] for r in whole.records} == set(range(len(x)))
    assert len({r["input"] for r in whole.records}) == len(x)


def test_counterexamples(problem, whole):
    """In the real box, and wrong in float64 as in the model's own precision."""
    network, x, _ = problem
    graph = read_network(network)
    for record in whole.records:
        if record["verdict"] != "falsified":
            continue
        files = whole.path.with_name("whole.files")
        with np.load(files / f"counterexample-{record['index']:06d}.npz") as file:
            point = file["point"]
        lower, upper = input_interval(x[record["index"]], EPS)
        assert np.all((point >= lower) & (point <= upper))
        for logits in (
            graph(point[None])[0],
            numpy(network(ops.convert_to_tensor(point[None])))[0],
        ):
            assert np.delete(logits, record["label"]).max() >= logits[record["label"]]


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_resumed_after_a_cut_in_the_middle_of_a_line(problem, whole, tmp_path, share):
    if BACKEND == "jax" or (BACKEND == "tensorflow" and share > 0.5):
        pytest.skip("each run compiles again")
    out, text = tmp_path / "cut.jsonl", whole.path.read_text()
    out.write_text(text[: text.index("\n") + int(share * (len(text) - text.index("\n")))])
    shutil.copytree(files_of(whole.path), files_of(out))
    known = len(Report.load(out).records)
    assert 0 < known < COUNT
    progress = []
    resumed = certify(
        *problem, EPS, stages=STAGES, out=out, **OPTIONS,
        progress=lambda report, total: progress.append((len(report.records), total)),
    )  # fmt: skip
    assert without_times(resumed.records) == without_times(whole.records)
    assert without_times(Report.load(out).records) == without_times(whole.records)
    assert progress[-1] == (COUNT, COUNT)
    assert progress[0][0] == known


def test_nothing_is_left_to_do(problem, whole):
    before = Report.load(whole.path).records
    again = certify(*problem, EPS, stages=STAGES, out=whole.path, **OPTIONS)
    assert again.records == before
    assert Report.load(whole.path).accuracies() == whole.accuracies()


def test_more_images_are_added(problem, tmp_path):
    network, x, y = problem
    options = {"stages": "ibp, crown-ibp", "out": tmp_path / "grows.jsonl", "batch_size": 8}
    first = certify(network, x[:8], y[:8], EPS, timeout=5, **options)
    whole = certify(network, x, y, EPS, timeout=9, **options)
    decided = [record for record in first.records if record["verdict"] != "unknown"]
    assert whole.records[: len(decided)] == decided != []
    assert whole.header["timeout"] == 9
    assert len(whole.records) == len({r["index"] for r in whole.records}) == COUNT
    assert whole.verdicts[:8].tolist() == first.verdicts.tolist()
    with pytest.raises(ValueError, match=f"is about {COUNT} inputs"):
        certify(network, x[:8], y[:8], EPS, timeout=9, **options)
    with pytest.raises(ValueError, match="other images, labels or radii"):
        certify(network, x[::-1], y[::-1], EPS, timeout=9, **options)


def test_shards_make_the_whole(problem, tmp_path):
    options = {"stages": ["ibp"], "batch_size": 8}
    shards = [certify(*problem, EPS, shard=f"{i}/3", **options) for i in (1, 2, 3)]
    assert [len(shard.records) for shard in shards] == [7, 7, 6]
    merged = merge_reports(shards)
    one = certify(*problem, EPS, **options)
    assert without_times(merged.records) == without_times(one.records)
    assert merged.header["count"] == COUNT
    assert "20 of 20 inputs" in merged.summary()
    with pytest.raises(ValueError, match="share inputs"):
        merge_reports([shards[0], *shards])


@pytest.mark.parametrize(
    ("changed", "name"), [({"eps": 0.1}, "eps"), ({"seed": 1}, "seed"), ({"shard": "1/2"}, "shard")]
)
def test_a_report_about_something_else_is_refused(problem, whole, changed, name):
    before = whole.path.read_bytes()
    options = {"eps": EPS, "stages": STAGES, "out": whole.path, **OPTIONS, **changed}
    with pytest.raises(ValueError, match=f"is about another {name}"):
        certify(*problem, **options)
    assert whole.path.read_bytes() == before


def test_a_report_about_another_model_is_refused(problem, whole):
    _, x, y = problem
    other = dense_network(inputs=3, hidden=(4, 3), seed=4)
    with pytest.raises(ValueError, match="is about another network"):
        certify(other, x, y, EPS, stages=STAGES, out=whole.path, **OPTIONS)


def test_network_beside_the_report_is_the_one_it_is_about(problem, tmp_path):
    """Also where files of an earlier report are left over."""
    network, x, y = problem
    out = tmp_path / "report.jsonl"
    certify(dense_network(inputs=3, hidden=(2,)), x[:2], y[:2], EPS, stages=["ibp"], out=out)
    out.unlink()
    certify(network, x[:2], y[:2], EPS, stages=["ibp"], out=out)
    stored = kt.verification.Graph.load(out.with_name("report.files") / "network.npz")
    assert stored.hash == read_network(network).hash


def test_certificates_asked_for_later_are_made(problem, tmp_path):
    network, x, y = problem
    options = {"stages": STAGES[:5], "out": tmp_path / "report.jsonl"}
    certify(network, x, y, EPS, **options)
    before = recheck(options["out"])
    assert before.without
    report = certify(network, x, y, EPS, certificates=True, **options)
    after = recheck(options["out"])
    assert set(after.confirmed) >= set(before.without)
    assert not after.without
    assert len(report.records) == len(x)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "report.files").glob("*.npz")}
    certify(network, x, y, EPS, certificates=True, **options)
    for path, stamp in stamps.items():  # proved once
        assert path.name == "network.npz" or path.stat().st_mtime_ns == stamp


def test_files_of_a_deleted_report_go_with_the_next(problem, tmp_path):
    network, x, y = problem
    options = {"stages": ["attack"], "out": tmp_path / "report.jsonl"}
    certify(network, x, y, EPS, **options)
    assert list((tmp_path / "report.files").glob("counterexample-*"))
    options["out"].unlink()
    certify(network, x, y, EPS, **{**options, "stages": ["ibp"]})
    assert [path.name for path in (tmp_path / "report.files").glob("*.*z")] == ["network.npz"]


def test_without_the_checker_the_summary_says_so(problem):
    report = certify(*problem, EPS, stages=["ibp"], check=False)
    certified = sum(report.verdicts == "certified")
    assert certified == report.unchecked > 0
    assert f"{certified} certified inputs rest on floating-point" in report.summary()


def test_timeouts_are_unknown(problem):
    report = certify(*problem, EPS, timeout=1e-9)
    assert set(report.verdicts) == {"unknown", "misclassified"}
    assert report.accuracies()["certified"] == 0
    for record in report.records:
        why = "natural: the time was over, 2 classes open, bound inf"
        assert record.get("error") == (why if record["verdict"] == "unknown" else None)


def test_radius_as_text(problem):
    network, x, y = problem
    report = certify(network, x[:1], y[:1], " 2 / 255", stages=["ibp"])
    assert report.header["eps"] == 2 / 255
    for wrong in ("2/0", "two", "2/1", -0.1, np.nan):
        with pytest.raises(ValueError, match="eps"):
            certify(network, x, y, wrong)


def identity(values, bias=(0.0, 0.0)):
    """Network of two pixels: one Dense layer."""
    network = IntervalSequential([IntervalDense(2)], input_shape=(2,))
    network.set_weights([np.array(values, "float32"), np.array(bias, "float32")])
    return network


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_ties_are_not_robust(eps):
    """Equal logits, at the image itself or at a corner of the box alone."""
    flat = identity(np.zeros((2, 2)))
    x = np.full((1, 2), 0.5, "float32")
    assert certify(flat, x, np.array([0]), eps, stages=["ibp", "attack"]).verdicts == ["falsified"]
    if eps:
        # Logit 0 leads by x_0 - x_1, which is 0 where the box touches the diagonal.
        x = np.array([[1.0, 0.75]], "float32")
        report = certify(identity(np.eye(2)), x, np.array([0]), 0.125, stages=["ibp", "attack"])
        assert report.verdicts == ["falsified"]


def test_a_network_without_activations():
    x = np.array([[1.0, 0.2], [0.5, 0.6]], "float32")
    report = certify(identity(np.eye(2)), x, np.array([0, 1]), 0.1)
    assert report.verdicts.tolist() == ["certified", "falsified"]


def test_models_users_have(problem, tmp_path):
    """A path, a model of certified training and a stock model: the same graph."""
    network, x, y = problem
    model = kt.TAPSModel(network, eps=0.1)
    model.save(tmp_path / "taps.keras")
    stock = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="relu"),
            keras.layers.Dense(3, activation="relu"),
            keras.layers.Dense(3),
        ]
    )
    stock.set_weights(network.get_weights())
    hashes = {
        certify(m, x[:1], y[:1], EPS, stages=["ibp"]).header["network"]
        for m in (network, model, stock, tmp_path / "taps.keras", str(tmp_path / "taps.keras"))
    }
    assert len(hashes) == 1


def test_what_is_refused(problem, tmp_path):
    network, x, y = problem
    (tmp_path / "text.keras").write_text("no model")
    cases = [
        ((network, x, None, 0.1), {}, "`y` must hold the labels"),
        ((network, x, y[:-1], 0.1), {}, "same length"),
        ((network, x * 255, y, 0.1), {}, r"\[0, 1\]"),
        ((network, x[:, :2], y, 0.1), {}, "shape"),
        ((network, x, y + 3, 0.1), {}, "label|classes"),
        ((network, x, y, 0.1), {"stages": ["ibp", "magic"]}, "stages"),
        ((network, x, y, 0.1), {"stages": []}, "stages"),
        ((network, x, y, 0.1), {"stages": "ibp, magic"}, "stages"),
        ((network, x, y, 0.1), {"timeout": 0}, "timeout"),
        ((network, x, y, 0.1), {"shard": "3/2"}, "shard"),
        ((network, x, y, 0.1), {"shard": "0/2"}, "shard"),
        ((network, x, y, 0.1), {"batch_size": 0}, "batch_size"),
        ((tmp_path / "text.keras", x, y, 0.1), {}, "cannot be loaded"),
        ((3, x, y, 0.1), {}, "Keras model"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            certify(*arguments, **options)
    with pytest.raises(FileNotFoundError, match="no model file"):
        certify(tmp_path / "none.keras", x, y, 0.1)


SCRIPT = """
import sys, time
from keras_taps.verification import certify
from keras_taps.verification.cascade.writer import ReportWriter
from tests.verification.problems import EPS, tiny

add = ReportWriter.add
def slow(self, records):
    add(self, records)
    time.sleep(0.2)  # so that the kill comes between two blocks
ReportWriter.add = slow
certify(*tiny(), EPS, stages=["ibp", "crown-ibp"], batch_size=1, out=sys.argv[1])
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the file is the same on every backend")
def test_killed_and_resumed(problem, tmp_path):
    out = tmp_path / "killed.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], env=environment)
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if out.exists() and out.read_text().count("\n") > 2:
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    known = len(Report.load(out).records)
    assert 0 < known < COUNT
    options = {"stages": ["ibp", "crown-ibp"], "batch_size": 1}
    resumed = certify(*problem, EPS, out=out, **options)
    straight = certify(*problem, EPS, **options)
    assert without_times(resumed.records) == without_times(straight.records)
    assert all(json.loads(line) for line in out.read_text().splitlines())


def test_images_and_convolutions():
    """With batch norm; whatever is certified survives samples."""
    network, (x, _) = conv_network(), images(3)
    y = numpy(network(ops.convert_to_tensor(x))).argmax(1)
    report = certify(network, x, y, 0.002, stages=["ibp", "crown-ibp"], batch_size=3)
    graph = read_network(network)
    assert report.accuracies()["natural"] == 1
    for i in np.flatnonzero(report.verdicts == "certified"):
        lower, upper = input_interval(x[i], 0.002)
        points = lower + np.random.default_rng(0).random((500, 6, 6, 1)) * (upper - lower)
        assert np.all(graph(points).argmax(1) == y[i])

"""Certification with branch and bound: proofs on file, interruptions, pooling by maxima."""

import numpy as np
import pytest

from keras_taps.layers import (
    IntervalConv2D,
    IntervalDense,
    IntervalFlatten,
    IntervalMaxPooling2D,
    IntervalReLU,
)
from keras_taps.networks import IntervalSequential
from keras_taps.verification import Report, certify, recheck
from tests.helpers import BACKEND, numbers, numpy, randomise
from tests.verification.problems import EPS, tiny, truth, without_times

OPTIONS = {"stages": ["bab"], "batch_size": 8, "certificates": True}


@pytest.fixture(scope="module")
def problem():
    return tiny()


@pytest.fixture(scope="module")
def whole(problem, tmp_path_factory):
    return certify(*problem, EPS, out=tmp_path_factory.mktemp("bab") / "r.jsonl", **OPTIONS)


def certified(report):
    return [r["index"] for r in report.records if r["verdict"] == "certified"]


def test_branch_and_bound_alone(problem, whole):
    assert whole.verdicts.tolist() == truth(*problem)
    assert not whole.unchecked
    for record in Report.load(whole.path).records:
        assert record["stage"] in ("bab", "natural")
        assert record["seconds"] == pytest.approx(sum(record["stage_seconds"].values()))
    found = recheck(whole.path)
    assert set(certified(whole)) < set(found.confirmed)
    assert (found.rejected, found.without) == ({}, [])


@pytest.mark.parametrize("name", ["preorder", "mix", "slopes"])
def test_changed_proofs(whole, tmp_path, name):
    """A tree without its splits, its forms or its slopes proves nothing, or is no tree."""
    path = tmp_path / "r.jsonl"
    path.write_text(whole.path.read_text())
    folder, spoiled = tmp_path / "r.files", []
    folder.mkdir()
    for file in whole.path.with_name("r.files").glob("*.npz"):
        with np.load(file) as content:
            proof = dict(content)
        if "tree0_preorder" in proof:
            array = proof[f"tree0_{name}"]
            proof[f"tree0_{name}"] = array[:-1] if name != "mix" else 0 * array
            spoiled.append(int(file.stem[-6:]))
        np.savez(folder / file.name, **proof)
    assert spoiled
    assert sorted(recheck(path).rejected) == sorted(spoiled)


def test_resumed_after_an_interruption(problem, whole, tmp_path, monkeypatch):
    if BACKEND != "torch":
        pytest.skip("each run compiles again")

    monkeypatch.setattr("keras_taps.verification.cascade.stages.TOGETHER", 3)
    wrong = whole.verdicts.tolist().count("misclassified")

    def interrupt(report, total):
        if len(report.records) > wrong:
            raise KeyboardInterrupt

    out = tmp_path / "r.jsonl"
    with pytest.raises(KeyboardInterrupt):
        certify(*problem, EPS, out=out, progress=interrupt, **OPTIONS)
    assert wrong < len(Report.load(out).records) <= wrong + 3 < len(whole.records)
    again = certify(*problem, EPS, out=out, **OPTIONS)
    assert without_times(again.records) == without_times(whole.records)
    assert sorted(recheck(out).confirmed) == sorted(recheck(whole.path).confirmed)


@pytest.mark.parametrize("timeout", [float("inf"), 1e-6])
def test_timeouts(problem, timeout):
    if BACKEND != "torch":
        pytest.skip("each run compiles again")
    network, x, y = problem
    report = certify(network, x[:6], y[:6], EPS, timeout=timeout, **{**OPTIONS, "stages": ["bab"]})
    wanted = truth(network, x[:6], y[:6])
    assert all(a in (b, "unknown") for a, b in zip(report.verdicts, wanted, strict=True))
    if timeout > 1:
        assert report.verdicts.tolist() == wanted


def test_pooling(tmp_path):
    """The search runs on another graph, which `recheck` derives anew."""
    if BACKEND != "torch":
        pytest.skip("compiles long; the rewriting has tests of its own")
    layers = [
        IntervalConv2D(2, 2),
        IntervalMaxPooling2D(2),
        IntervalReLU(),
        IntervalFlatten(),
        IntervalDense(4),
        IntervalReLU(),
        IntervalDense(3),
    ]
    network = randomise(IntervalSequential(layers, input_shape=(5, 5, 1)), 1)
    x = numbers(12, 5, 5, 1, low=0.0)
    y = numpy(network(x)).argmax(-1)
    options = {"batch_size": 8, "certificates": True, "timeout": 60}
    out = tmp_path / "r.jsonl"
    report = certify(network, x, y, 0.2, stages=["crown", "alpha-crown", "bab"], out=out, **options)
    exact = certify(network, x, y, 0.2, stages=["attack", "milp"], **options)
    assert report.verdicts.tolist() == exact.verdicts.tolist()
    branched = [r["index"] for r in report.records if r["stage"] == "bab"]
    assert set(branched) & set(certified(report))
    found = recheck(out)
    assert not found.rejected
    assert set(certified(report)) <= set(found.confirmed)

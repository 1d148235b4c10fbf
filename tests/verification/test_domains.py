"""Domains and radii of each feature in what is proved: boxes, verdicts, reports and forgeries."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_taps as kt
from keras_taps.domain import Domain
from keras_taps.networks import mlp
from keras_taps.verification import certified_radius, certify, read_network, recheck
from keras_taps.verification.certificate.report import Report, files_of
from keras_taps.verification.certificate.rounding import inner_interval, input_interval
from tests.helpers import numbers, numpy, randomise

pytestmark = pytest.mark.once

EPS = np.array([0.05, 0.0, 0.3, 0.1])
DOMAIN = ([-2, -2, None, -1], [2, 2, None, 3])
LOW, HIGH = np.array([-2, -2, -np.inf, -1]), np.array([2, 2, np.inf, 3])
STAGES = ["ibp", "attack", "crown-ibp", "alpha-crown", "bab"]
FLOATS = st.floats(-50, 50, width=32)


@given(FLOATS, st.floats(0, 40), FLOATS, st.floats(0.125, 40, width=32))
def test_boxes_hold_what_they_must_and_no_more(x, eps, low, width):
    """The outer box holds the real one, the inner one lies in it; arrays are as their numbers."""
    domain = Domain.of((low, low + width))
    low, high = (Fraction(side) for side in (domain.low, domain.high))
    x = np.float32(min(max(x, domain.low), domain.high))
    true = (
        max(Fraction(float(x)) - Fraction(eps), low),
        min(Fraction(float(x)) + Fraction(eps), high),
    )
    boxes = []
    for own in (eps, np.array([eps, 0.0])):
        each = Domain.of(([domain.low, None], [domain.high, None])) if np.ndim(own) else domain
        point = np.full(np.shape(own) or (1,), x)
        outer, inner = input_interval(point, own, each), inner_interval(point, own, each)
        boxes.append([side[0] for side in (*outer, *inner)])
        assert Fraction(outer[0][0]) <= true[0] <= Fraction(inner[0][0]) <= Fraction(float(x))
        assert Fraction(outer[1][0]) >= true[1] >= Fraction(inner[1][0]) >= Fraction(float(x))
    assert boxes[0] == boxes[1]


def case():
    """A network on four features, and inputs of its domain, some at its ends."""
    network = randomise(mlp((4,), 3, width=8), 3)
    x = np.clip(numbers(40, 4, low=-2.5, high=3.5), LOW, HIGH).astype("float32")
    x[0, 0], x[1, 3] = 2, -1
    y = numpy(network(x)).argmax(-1)
    y[5] = (y[5] + 1) % 3
    return network, x, y


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    network, x, y = case()
    out = tmp_path_factory.mktemp("domains") / "report.jsonl"
    certify(network, x, y, EPS, domain=DOMAIN, stages=STAGES, out=out, certificates=True)
    return network, x, y, out


def test_verdicts_are_true_and_are_derived_again(honest):
    """Proofs are tried with points of the real box, counterexamples lie in it and break."""
    network, x, y, out = honest
    report = Report.load(out)
    assert report.header["eps"] == EPS.tolist()
    assert report.header["domain"] == [[-2, -2, None, -1], [2, 2, None, 3]]
    assert {"certified", "falsified", "misclassified"} <= set(report.verdicts)
    assert "eps 0 to 0.3, inputs in [-inf to -1, 2 to inf]" in report.summary()
    rng = np.random.default_rng(0)
    for i, verdict in enumerate(report.verdicts):
        low, high = np.maximum(x[i] - EPS, LOW), np.minimum(x[i] + EPS, HIGH)
        if verdict == "certified":
            share = rng.random((1000, 4))
            share[:500] = share[:500] > 0.5
            points = low + share * (high - low)
            assert np.all(numpy(network(points.astype("float32"))).argmax(-1) == y[i])
        elif verdict == "falsified":
            point = report.counterexample(i)
            assert np.all((point >= low - 1e-12) & (point <= high + 1e-12))
            assert read_network(network)(point[None])[0].argmax() != y[i]
    with pytest.raises(ValueError, match=r"inputs in .*Received: domain=\[0, 1\].*say so"):
        recheck(out, read_network(network), x, y, EPS)  # no domain is that of pixels
    found = recheck(out, read_network(network), x, y, EPS, domain=DOMAIN)
    assert found.holds
    assert found.compared == ("network", "images", "labels", "eps", "domain")
    assert found.accuracies()["certified"] == report.accuracies()["certified"]


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def forged(honest, folder, **changed):
    """Path of a copy whose header says something else."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(honest[3].parent, folder)
    path = folder / honest[3].name
    header, *records = lines_of(path)
    header = {name: value for name, value in {**header, **changed}.items() if value is not ...}
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *records)))
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"domain": [-3, 4]},
        {"domain": [None, None]},
        {"domain": [[-2, -2, -2, -1], [2, 2, 3.5, 3]]},  # holds all images and cuts more of a box
        {"domain": [[-2, -2, None, -1], [2, 2, None, 2.5]]},
        {"domain": [20, 21]},  # of which boxes are empty
        {"domain": [[-2, -2, None], 3]},
        {"domain": [0, 1]},
        {"domain": [2, -2]},
        {"domain": [-2.1, 3]},  # not of float32
        {"domain": [-2, "3"]},
        {"domain": [-2, True]},
        {"domain": [-2, float("nan")]},
        {"domain": None},
        {"domain": ...},
        {"domain": [[[[[[[[[[[0]]]]]]]]]], 1]},
        {"eps": 0.01},
        {"eps": [0.05, 0.0, 0.3, 0.09]},
        {"eps": [0.05, 0.0, 0.3]},
        {"eps": [[0.05], [0.0], [0.3], [0.1]]},
        {"eps": [0.05, 0.0, 0.3, -0.1]},
        {"eps": [0.05, [0.0], 0.3, 0.1]},
        {"eps": [0.05, None, 0.3, 0.1]},
        {"eps": [0.05, True, 0.3, 0.1]},
        {"eps": []},
        {"eps": 1e300},
        {"format": "keras_taps certification report 2"},
        {"format": "keras_taps certification report 2", "eps": 0.05, "domain": ...},
        {"format": "keras_taps certification report 1"},
    ],
    ids=repr,
)
def test_another_domain_or_radius_in_the_header(honest, tmp_path, changed):
    """It is refused, and without the receiver's own nothing is confirmed of another box."""
    network, x, y, _ = honest
    path = forged(honest, tmp_path / "a", **changed)
    with pytest.raises(ValueError, match=r"The report|report: |inputs in"):
        recheck(path, read_network(network), x, y, EPS, domain=DOMAIN)
    try:
        found = recheck(path, read_network(network), x, y, domain="report")
    except ValueError:
        return
    if "eps" in changed or changed["domain"] in ([20, 21], [0, 1]):
        assert not found.holds
    outside = [reason for reason in found.rejected.values() if "has values outside" in reason]
    assert changed.get("domain") != [20, 21] or len(outside) == len(x)


def test_the_radius_of_a_file_is_that_of_the_header(honest, tmp_path):
    network, x, y, _ = honest
    path = forged(honest, tmp_path / "a")
    file = next(files_of(path).glob("certificate-*.npz"))
    with np.load(file) as content:
        kept = dict(content)
    for eps in (np.float64(0.05), EPS / 2, EPS[None], EPS.astype("float32")):
        np.savez(file, **{**kept, "eps": eps})
        assert len(recheck(path, read_network(network), x, y, domain=DOMAIN).rejected) == 1


def test_reports_of_version_2_are_read_and_gone_on_with(tmp_path):
    network, x, y = case()
    x = np.abs(x) / 4
    out = tmp_path / "report.jsonl"
    options = {"stages": STAGES[:2], "certificates": True, "out": out}
    certify(network, x[:20], y[:20], 0.05, **options)
    header, *records = lines_of(out)
    assert header["domain"] == [0, 1]
    old = {**header, "format": header["format"][:-1] + "2", "domain": [5, 6]}  # free in version 2
    for before in (old, {k: v for k, v in old.items() if k != "domain"}):
        out.write_text("".join(json.dumps(line) + "\n" for line in (before, *records)))
        assert recheck(out, read_network(network), x[:20], y[:20], 0.05, domain=(0, 1)).holds
    assert len(certify(network, x, y, 0.05, **options).records) == len(x)
    assert lines_of(out)[0]["format"] == header["format"]
    with pytest.raises(ValueError, match="is about another domain"):
        certify(network, x, y, 0.05, domain=None, **options)


def test_radii_in_units_of_each_feature(tmp_path):
    """The factor that is found is certified, and one a little larger is not known to be."""
    network, x, y = case()
    options = {"domain": DOMAIN, "stages": ["crown"]}
    found = certified_radius(network, x[:8], y[:8], 4.0, 0.01, eps=EPS, **options)
    assert found[5] == -1
    some = np.flatnonzero((found > 0) & (found < 4))
    assert len(some)
    for i in some[:3]:
        for factor, certified in ((found[i], 1), (found[i] + 0.02, 0)):
            report = certify(network, x[i : i + 1], y[i : i + 1], factor * EPS, **options)
            assert report.accuracies()["certified"] == certified
    with pytest.raises(ValueError, match="`eps` must be above 0 somewhere"):
        certified_radius(network, x, y, eps=np.zeros(4), **options)
    with pytest.raises(ValueError, match="`high` must be a number in "):
        certified_radius(network, x, y, 9.0, domain=(-4, 4))


def test_a_model_knows_its_domain_where_it_is_attacked_and_certified(tmp_path):
    network, x, y = case()
    model = kt.TAPSModel(network, eps=EPS, domain=DOMAIN)
    model.compile()
    model.save(tmp_path / "model.keras")
    report = certify(tmp_path / "model.keras", x, y, EPS, stages=["ibp"])
    assert report.header["domain"] == model.domain.to_config()
    images = kt.pgd_attack(model, x, y, EPS, steps=5)[0]
    assert np.all(images >= np.maximum(x - EPS, LOW) - 1e-6)
    assert np.all(images <= np.minimum(x + EPS, HIGH) + 1e-6)
    assert np.all(images[:, 1] == x[:, 1])
    assert not np.array_equal(images, x)
    with pytest.raises(ValueError, match=r"`x` must hold values in \[0, 1\].*domain=\(low, high\)"):
        kt.pgd_attack(network, x, y, 0.1)
    with pytest.raises(ValueError, match=r"`x` must hold values in \[0, 1\].*domain=\(low, high\)"):
        certify(network, x, y, 0.1)


def test_tiny_and_huge_inputs_without_bounds(tmp_path):
    """What is claimed of them is confirmed again, and a box of no width is certified."""
    network = mlp((3,), 3, width=4)
    certifier = kt.Certifier(network, domain=None, stages=["ibp", "attack", "alpha-crown"])
    for number, scale in enumerate((1e-30, 1e10, 3e38)):
        x = np.clip(numbers(4, 3) * scale, -3e38, 3e38).astype("float32")
        y = numpy(network(x)).argmax(-1)
        for eps, verdict in ((0, "certified"), ([0, scale * 0.01, 0], None), (scale, None)):
            out = tmp_path / f"{number}-{np.size(eps)}-{np.max(eps)}.jsonl"
            report = certifier.certify(x, y, eps, out=out, certificates=True)
            assert verdict is None or set(report.verdicts) == {verdict}
            found = recheck(out, x=x, y=y, eps=eps, domain=None)
            assert not found.rejected
            assert len(found.confirmed) == 4

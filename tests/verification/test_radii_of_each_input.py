"""A radius for each input: verdicts, reports, what a receiver gives, and what forgers try."""

import json

import numpy as np
import pytest

import keras_taps as kt
from keras_taps.verification import certified_radius, certify, merge_reports, read_network, recheck
from keras_taps.verification.certificate.report import Report, file_of, files_of
from tests.helpers import numpy, randomise
from tests.verification.problems import tiny, truth

pytestmark = pytest.mark.once

STAGES = ["ibp", "attack", "alpha-crown", "bab"]
RADII = [0.02, 0.08, 0.3]
COUNT = 10
EPS = np.resize(RADII, COUNT)
UNITS = {"certificates": True, "stages": STAGES, "batch_size": 8}


class Case:
    """Inputs with a radius each, an honest report, and what is true at every radius."""

    def __init__(self, folder):
        self.network, x, y = tiny()
        self.x, self.y, self.graph = x[:COUNT], y[:COUNT], read_network(self.network)
        self.path = folder / "each.jsonl"
        self.report = certify(self.network, self.x, self.y, EPS, out=self.path, **UNITS)
        self.lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        self.truth = {eps: truth(self.network, self.x, self.y, eps) for eps in RADII}

    def forge(self, records=None, header=None, files=None):
        """Path of the report with other lines, and other radii in the files of some indices."""
        own = {**self.lines[0], **(header or {})}
        lines = [own, *(self.lines[1:] if records is None else records)]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for index, eps in (files or {}).items():
            file = self.file(index)
            with np.load(file) as content:
                arrays = dict(content)
            np.savez(file, **{**arrays, "eps": np.float64(eps)})
        return self.path

    def file(self, index):
        return file_of(files_of(self.path), index, self.report.verdicts[index])

    def judge(self, eps=EPS):
        """What is confirmed is true at the receiver's radius; without one at that it names."""
        try:
            found = recheck(self.path, self.graph, self.x, self.y, eps)
        except ValueError as error:
            return str(error)
        for index, verdict in found.verdicts.items():
            named = found.eps[index] if isinstance(found.eps, dict) else found.eps
            own = named if eps is None else float(np.resize(eps, COUNT)[index])
            assert verdict == self.truth[own][index]
        return found


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("radii"))


@pytest.fixture
def honest(case):
    """Files are given back."""
    kept = {path: path.read_bytes() for path in (case.path, *files_of(case.path).iterdir())}
    yield case
    for path, content in kept.items():
        path.write_bytes(content)


def test_each_is_certified_at_its_own(honest, tmp_path):
    report, network = honest.report, honest.network
    wanted = [honest.truth[eps][i] for i, eps in enumerate(EPS)]
    assert report.verdicts.tolist() == wanted
    assert {"certified", "falsified", "misclassified"} == set(wanted)
    assert report.header["eps"] is None
    assert [record["eps"] for record in Report.load(honest.path)._sorted()] == EPS.tolist()
    assert "eps 0.02 to 0.3 for each input its own" in report.summary()
    for i in np.flatnonzero(report.verdicts == "falsified"):
        assert np.all(np.abs(report.counterexample(i) - honest.x[i]) <= EPS[i])
    found = honest.judge()
    assert found.holds
    assert found.eps == dict(enumerate(EPS))
    assert found.compared == ("network", "images", "labels", "eps", "domain")
    assert recheck(honest.path, eps=EPS[:, None]).holds  # as the report says it has them
    # The same call goes on; shards are merged; other radii are refused, and so is one for all.
    parts = [
        certify(network, honest.x, honest.y, EPS, shard=f"{i}/2", stages=STAGES) for i in (1, 2)
    ]
    assert merge_reports(parts).verdicts.tolist() == wanted
    cut = honest.forge(honest.lines[1:4])
    assert certify(network, honest.x, honest.y, EPS, out=cut, **UNITS).verdicts.tolist() == wanted
    with pytest.raises(ValueError, match="other images, labels or radii"):
        certify(network, honest.x, honest.y, EPS[::-1], out=cut, **UNITS)
    with pytest.raises(ValueError, match=r"another eps: it has one of its own .* Received: 0\.08"):
        certify(network, honest.x, honest.y, 0.08, out=cut, **UNITS)
    kt.plots.margin_histogram(report)


def test_rows_of_radii_and_factors(tmp_path):
    """One radius for each input and feature, and attacks and factors that know them."""
    network = randomise(kt.networks.mlp((2, 2, 1), 3, width=6), 3)
    x = np.random.default_rng(0).random((5, 2, 2, 1)).astype("float32")
    y = numpy(network(x)).argmax(-1)
    eps = np.random.default_rng(1).choice([0.0, 0.05, 0.2], (5, 2, 1, 1))
    options = {"stages": STAGES[:3], "batch_size": 8}
    out = {"out": tmp_path / "a.jsonl", "certificates": True}
    report = certify(network, x, y, eps, **options, **out)
    for i in range(2):
        one = certify(network, x[i : i + 1], y[i : i + 1], eps[i], stages=STAGES[:3])
        assert one.verdicts[0] == report.verdicts[i]
    assert recheck(tmp_path / "a.jsonl", read_network(network), x, y, eps).true
    found = recheck(tmp_path / "a.jsonl", read_network(network), x, y, eps / 2)
    assert all(np.all(eps[i] == 0) for i in found.confirmed)
    for attack in (kt.pgd_attack, kt.attacks.attack_suite):
        images, robust = attack(network, x, y, eps, steps=3, batch_size=2)[:2]
        assert np.all(np.abs(images - x) <= eps + 1e-6)
        assert np.all(robust | (report.verdicts != "certified"))
    assert kt.attacks.adversarial_accuracy(network, x, y, eps, steps=3) <= 1
    units = np.full((5, 1, 1, 1), 0.05)
    units[2] = 0.1
    options = {"stages": ["ibp"], "tolerance": 0.01}
    factors = certified_radius(network, x, y, 4.0, eps=units, **options)
    for i in (1, 2):
        alone = certified_radius(network, x[i : i + 1], y[i : i + 1], 4.0, eps=units[i], **options)
        assert factors[i] == alone[0]


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        (EPS[:7], "one radius for each of 10 inputs"),
        (-EPS, r"in \[0, 1\]"),
        (EPS * np.nan, r"in \[0, 1\]"),
        ([0.1, *[[0.2]] * 9], r"in \[0, 1\]"),
    ],
)
def test_what_is_refused(case, eps, message):
    for ask in (
        lambda: certify(case.network, case.x, case.y, eps),
        lambda: certified_radius(case.network, case.x, case.y, eps=eps),
        lambda: kt.pgd_attack(case.network, case.x, case.y, eps),
        lambda: recheck(case.path, case.graph, case.x, case.y, eps),
    ):
        with pytest.raises(ValueError, match=f"`eps` .*{message}"):
            ask()
    with pytest.raises(ValueError, match="each of the 3 inputs, or for each of their 3 features"):
        certify(case.network, case.x[:3], case.y[:3], EPS[:3])


@pytest.mark.parametrize("eps", [*RADII, EPS[::-1], np.full(COUNT, 0.08), [0.08, 0.08, 0.08]])
def test_a_record_holds_at_the_radius_of_the_receiver_alone(case, eps):
    found = case.judge(eps)
    wanted = EPS if np.shape(eps) == (3,) else np.resize(eps, COUNT)
    agree = {i for i in range(COUNT) if EPS[i] == (0.08 if np.shape(eps) == (3,) else wanted[i])}
    assert set(found.confirmed) == agree
    assert set(found.rejected) == set(range(COUNT)) - agree
    assert all("it is about eps" in reason for reason in found.rejected.values())


def test_radii_of_forgers(honest):
    """In the lines alone and in the files too: nothing false is confirmed, nor anything smaller."""
    records, n = honest.lines[1:], COUNT
    own = {record["index"]: record["eps"] for record in records}
    exchanged = {i: own[(i + 1) % n] for i in own}
    forgeries = [
        *(dict.fromkeys(own, eps) for eps in RADII),  # every claim at the same radius
        exchanged,
        {i: eps * 0.5 for i, eps in own.items()},
        {i: [eps] * 3 for i, eps in own.items()},
        {i: [[eps]] for i, eps in own.items()},  # more axes than an input
        {i: [eps, 0.0, 0.0] for i, eps in own.items()},
        {i: [eps, eps] for i, eps in own.items()},  # which fits nothing
    ]
    for radii in forgeries:
        changed = [{**record, "eps": radii[record["index"]]} for record in records]
        plain = all(np.ndim(eps) == 0 for eps in radii.values())
        for files in (None, radii) if plain else (None,):
            honest.forge(changed, files=files)
            found = honest.judge()
            assert not found.holds
            smaller = [i for i in found.confirmed if not np.all(np.equal(radii[i], own[i]))]
            assert not smaller
            if set(np.ravel(list(radii.values()))) <= set(RADII) and plain:
                assert not honest.judge(None).holds or files  # true at what it names
        honest.forge(files=own)
    assert honest.judge().holds


@pytest.mark.parametrize(
    ("header", "change"),
    [
        ({"eps": 0.02}, {}),  # of header and record
        ({"eps": 0.02}, {"eps": ...}),
        ({"eps": 0.3}, {"eps": ...}),
        ({"eps": EPS.tolist()}, {"eps": ...}),  # fits no input
        ({}, {"eps": ...}),
        ({}, {"eps": None}),
        ({}, {"eps": -0.1}),
        ({}, {"eps": float("nan")}),
        ({}, {"eps": float("inf")}),
        ({}, {"eps": True}),
        ({}, {"eps": "0.1"}),
        ({}, {"eps": []}),
        ({"format": "keras_taps certification report 2"}, {}),
    ],
    ids=repr,
)
def test_where_the_radius_stands(honest, header, change):
    """In the header or in each record, and it is a radius; else it is refused with a sentence."""
    records = [
        {name: value for name, value in {**record, **change}.items() if value is not ...}
        for record in honest.lines[1:]
    ]
    honest.forge(records, header)
    for eps in (EPS, None):
        found = honest.judge(eps)
        assert isinstance(found, str) or not found.holds

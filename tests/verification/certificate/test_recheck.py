"""Proofs are repeated from the files beside a report, and no changed file passes for one."""

import json
import shutil

import numpy as np
import pytest

from keras_taps.verification import Graph, Task, certify, read_network, recheck
from keras_taps.verification.cascade.evidence import Evidence
from keras_taps.verification.certificate.claims import Claims
from keras_taps.verification.certificate.deployed import Arithmetic, DeployedNetwork
from keras_taps.verification.certificate.report import Report, input_hash
from keras_taps.verification.certificate.schema import FORMAT
from keras_taps.verification.certificate.tree import Tree
from keras_taps.verification.graph.nodes import Dense, Relu
from tests.helpers import dense_network
from tests.verification import second_checker
from tests.verification.problems import COUNT, EPS, tiny

STAGES = ["attack", "crown", "alpha-crown"]  # no IBP: many proofs need linear relaxation


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out = tmp_path_factory.mktemp("recheck") / "report.jsonl"
    return certify(*tiny(), EPS, stages=STAGES, batch_size=8, out=out, certificates=True)


@pytest.fixture
def copy(original, tmp_path):
    """Path of a copy of the report with its files, and one of the folder."""
    shutil.copytree(original.path.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "report.jsonl", tmp_path / "report.files"


def of(report, verdict):
    return [r["index"] for r in report.records if r["verdict"] == verdict]


def change(file, **changed):
    with np.load(file) as content:
        kept = {name: content[name] for name in content.files}
    kept.update(changed)
    np.savez(file, **{name: value for name, value in kept.items() if value is not None})


def test_confirms_everything(original):
    seen = []
    found = recheck(original.path, progress=lambda done, total: seen.append((done, total)))
    assert sorted(found.confirmed) == list(range(COUNT))
    assert found.holds
    assert seen[-1] == (COUNT, COUNT)
    network, x, y = tiny()
    mine = recheck(original.path, read_network(network), x, y)
    assert mine.holds
    assert mine.confirmed == found.confirmed
    shares = original.accuracies()
    assert mine.accuracies() == {name: shares[name] for name in mine.accuracies()}


def test_missing_files_are_reported(original, copy):
    path, folder = copy
    index = of(original, "certified")[0]
    (folder / f"certificate-{index:06d}.npz").unlink()
    found = recheck(path)
    assert found.without == [index]
    assert found.true
    assert not found.holds
    for index in of(original, "misclassified"):
        (folder / f"image-{index:06d}.npz").unlink()
    assert recheck(path, x=tiny()[1], y=tiny()[2]).without == found.without


def test_images_and_labels_that_differ_a_little_are_rejected(original):
    """The proofs would hold for them too, or nearly: what was claimed is about others."""
    _, x, y = tiny()
    near = np.where(x > 0.5, x - 1e-6, x + 1e-6).astype("float32")
    for given, labels, reason in (
        (near, y, "the image is another in the data"),
        (near, None, "the image is another in the data"),
        (x, np.asarray(y) + 1, "the label is another in the data"),
    ):
        found = recheck(original.path, x=given, y=labels)
        assert not found.confirmed
        assert set(found.rejected) == set(range(COUNT))
        assert set(found.rejected.values()) == {reason}
    found = recheck(original.path, x=x[:2], y=y[:2])
    assert sorted(found.confirmed) == [0, 1]
    assert set(found.rejected.values()) == {"there is no such image in the data"}


def certificate(folder, index):
    return folder / f"certificate-{index:06d}.npz"


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.full(3, 0.5, "float32")},
        {"label": np.int64(2)},
        {"eps": np.float64(EPS / 2)},
        {"method": np.str_("magic")},
        {"x": None},
        {"x": np.full(3, np.nan, "float32")},
        {"slopes": np.full((2, 99), 0.5, "float32"), "method": "alpha-crown"},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_changed_certificates_are_rejected(original, copy, changed):
    path, folder = copy
    for index in of(original, "certified"):
        change(certificate(folder, index), **changed)
    found = recheck(path)
    assert sorted(found.rejected) == sorted(of(original, "certified"))
    assert len(found.confirmed) + len(found.rejected) == COUNT


def test_weaker_methods_prove_less(original, copy):
    """IBP in place of CROWN: some bounds fail, and what is confirmed IBP does prove."""
    path, folder = copy
    for index in of(original, "certified"):
        change(certificate(folder, index), method="ibp")
    found = recheck(path)
    assert found.rejected
    assert all("the largest bound is" in reason for reason in found.rejected.values())
    ibp = certify(*tiny(), EPS, stages=["ibp"], batch_size=8)
    proved = {index for index, verdict in found.verdicts.items() if verdict == "certified"}
    assert proved <= set(of(ibp, "certified"))


def test_bad_slopes_fail_or_prove(original, copy):
    """Any slopes give true bounds; the worst ones prove less than the optimised."""
    path, folder = copy
    for index in of(original, "certified"):
        with np.load(certificate(folder, index)) as content:
            method = str(content["method"])
        if method == "alpha-crown":
            change(certificate(folder, index), slopes=np.zeros((2, 7), "float32"))
    found = recheck(path)
    assert sorted([*found.confirmed, *found.rejected]) == list(range(COUNT))


def test_truncated_files_are_rejected(original, copy):
    path, folder = copy
    index = of(original, "certified")[0]
    file = certificate(folder, index)
    file.write_bytes(file.read_bytes()[:-50])
    assert "cannot be used" in recheck(path).rejected[index]


@pytest.mark.parametrize("shift", [0.5, -1e-3])
def test_changed_counterexamples_are_rejected(original, copy, shift):
    """Outside the box, or the image itself, which is classified correctly."""
    path, folder = copy
    index = of(original, "falsified")[0]
    file = folder / f"counterexample-{index:06d}.npz"
    with np.load(file) as content:
        point, x = content["point"], content["x"]
    change(file, point=(point + shift if shift > 0 else x).astype("float32"))
    reason = recheck(path).rejected[index]
    assert ("outside the box" if shift > 0 else "not surely 0") in reason


def test_verdicts_that_were_changed(original, copy):
    """A certified verdict without a certificate is no proof."""
    path, _ = copy
    index = of(original, "falsified")[0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        if line["index"] == index:
            line |= {"verdict": "certified", "stage": "crown"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert recheck(path).without == [index]


def test_network_of_another_model(copy):
    path, folder = copy
    read_network(dense_network(inputs=3, hidden=(4, 3), seed=9)).save(folder / "network.npz")
    with pytest.raises(ValueError, match="The report is about network"):
        recheck(path)
    with pytest.raises(ValueError, match="The report is about network"):
        recheck(path, Graph.load(folder / "network.npz"))


def test_damaged_or_missing(copy):
    path, folder = copy
    network = folder / "network.npz"
    network.write_bytes(network.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        recheck(path)
    network.unlink()
    with pytest.raises(FileNotFoundError, match="network"):
        recheck(path)
    path.write_text("text\n")
    with pytest.raises(ValueError, match="not a certification report"):
        recheck(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no report"):
        recheck(path)


DIAMOND = Graph(
    (
        Dense(np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([-1.0, 0.0])),
        Relu((2,)),
        Dense(np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), np.array([0.6, 0.0, 0.0])),
    )
)
"""Around (0.5, 0.5), eps 0.25: the second output is at most 0.5, but 0.75 by the chords."""


def split_tree():
    """Both neurons split: four linear pieces, each at most 0.5."""
    tree = Tree(0, [0, 1])
    for neuron in (0, 1):
        for node in tree.open_nodes:
            tree.split(node, neuron)
    for node in tree.open_nodes:
        tree.close(node, np.zeros(2, "uint8"), np.zeros(2), np.ones(1))
    return tree


def branched(folder, tree):
    """A report with one certificate, a tree; its path and the file of the certificate."""
    x, out = np.full(2, 0.5, "float32"), folder / "report.jsonl"
    task = Task.around(x, 0, 0.25, 3)
    task.trees, task.method = [tree], "bab"
    task.decide("certified", "bab")
    Evidence(out, DIAMOND, fresh=True).write(task, x, 0, 0.25, True)
    record = {"index": 0, "input": input_hash(x), "label": 0, "predicted": 0}
    record |= {"verdict": "certified", "stage": "bab", "checked": False, "bound": None}
    record |= {"seconds": 0.0, "stage_seconds": {}}
    header = {"format": FORMAT, "network": DIAMOND.hash, "eps": 0.25, "domain": [0, 1], "count": 1}
    Report({**header, "stages": ["bab"]}, [record]).save(out)
    return out, certificate(folder / "report.files", 0)


def test_trees_are_confirmed(tmp_path):
    path, file = branched(tmp_path, split_tree())
    assert recheck(path).confirmed == [0]
    change(file, method=np.str_("alpha-crown"))
    assert "0.15, not below 0" in recheck(path).rejected[0]


def test_slopes_beside_trees(tmp_path):
    path, file = branched(tmp_path, split_tree())
    change(file, slopes=np.full((2, 2), np.nan, "float32"))
    assert recheck(path).confirmed == [0]
    change(file, slopes=np.zeros((2, 3), "float32"))
    assert "cannot be used" in recheck(path).rejected[0]


def test_a_multiple_of_a_form_proves_no_more_of_it(tmp_path):
    """Float32 may be wrong by more than the bound, whatever the factor of the form."""
    path, file = branched(tmp_path, split_tree())
    mix = np.load(file)["tree0_mix"]
    for factor in (1.0, 1e-3, 1e30):
        change(file, tree0_mix=(mix * factor).astype("float32"))
        claims = Claims(DIAMOND, 0.25)
        claims.deployed = DeployedNetwork(DIAMOND, Arithmetic(unit=2.0**-6))
        (record,) = Report.load(path).records
        assert claims.check(record, file) is False
        theirs = second_checker.Report(path).look(record)
        assert theirs[0] == "certified"
        assert -0.1 <= theirs[2] < 0
    claims.deployed = DeployedNetwork(DIAMOND)
    assert claims.check(record, file)


def test_reports_of_version_3(tmp_path):
    """Their trees have arrays for what is checked no more, which say nothing without it."""
    path, file = branched(tmp_path, split_tree())
    path.write_text(path.read_text().replace(FORMAT, FORMAT[:-1] + "3", 1))
    for count in (0, 1):  # of any number of multipliers: a bound holds without them
        none = {"counts": np.full(4, count, "int32"), "cuts": np.zeros(4 * count, "int32")}
        none |= {"values": np.ones(4 * count, "float32")}
        none = {f"tree0_gamma_{name}": array for name, array in none.items()}
        change(file, **none, tree0_rebased=np.zeros(7, bool))
        assert recheck(path).confirmed == [0]
    for name, array, what in (
        ("tree0_rebased", np.arange(7) == 1, "boxes derived again in parts"),
        ("cut_members", np.array([[0, 1]]), "multi-neuron constraints"),
    ):
        change(file, **{name: array})
        assert f"{what}, which this version does not check" in recheck(path).rejected[0]


@pytest.mark.parametrize(
    ("name", "changed", "reason"),
    [
        ("preorder", lambda a: a[:-1], "ends before"),
        ("preorder", lambda a: np.append(a, np.int32(-1)), "goes on after"),
        ("preorder", lambda a: np.where(a >= 0, np.int32(77), a), "is none"),
        ("preorder", lambda a: np.array([-1], "int32"), "`betas` must have 0"),
        ("slopes", lambda a: a[:-1], "byte for each leaf"),
        ("betas", lambda a: a[:-1], "`betas` must have"),
        ("betas", lambda a: np.float32(1e3) + 0 * a, "not below 0"),
        ("mix", lambda a: 0 * a, "not below 0"),
        ("mix", lambda a: -a, "not below 0"),
        ("mix", lambda a: a * np.float32(np.nan), "not finite"),
        ("mix", lambda a: np.repeat(a, 2, 1), "has 1 forms, not 2"),
        ("neurons", lambda a: a + 1, "is none"),
        ("neurons", lambda a: a[::-1] * 1000, "is none"),
        ("group", lambda a: a + 50, "no group"),
        ("group", lambda a: a * 0 - 1, "no group"),
        ("preorder", lambda a: None, "The tree lacks preorder"),
    ],
)
def test_changed_trees_are_rejected(tmp_path, name, changed, reason):
    path, file = branched(tmp_path, split_tree())
    with np.load(file) as content:
        array = content[f"tree0_{name}"]
    change(file, **{f"tree0_{name}": changed(array)})
    assert reason in recheck(path).rejected[0]

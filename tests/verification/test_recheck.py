"""Proofs are repeated from the files beside a report, and no changed file passes for one."""

import json
import shutil

import numpy as np
import pytest

from keras_taps.verification import Graph, certify, read_network, recheck
from tests.helpers import dense_network
from tests.verification.problems import EPS, tiny

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
    proved = of(original, "certified") + of(original, "falsified")
    assert sorted(found.confirmed) == sorted(proved)
    assert not found.rejected
    assert not found.without
    assert seen[-1] == (len(proved), len(proved))
    graph = read_network(tiny()[0])
    assert recheck(original.path, graph).confirmed == found.confirmed


def test_missing_files_are_reported(original, copy):
    path, folder = copy
    index = of(original, "certified")[0]
    (folder / f"certificate-{index:06d}.npz").unlink()
    assert recheck(path).without == [index]


def certificate(folder, index):
    return folder / f"certificate-{index:06d}.npz"


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.full(3, 0.5, "float32")},
        {"label": 2},
        {"eps": EPS / 2},
        {"method": "magic"},
        {"x": None},
        {"x": np.full(3, np.nan, "float32")},
        {"slopes": np.full((2, 99), 0.5), "method": "alpha-crown"},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_changed_certificates_are_rejected(original, copy, changed):
    path, folder = copy
    for index in of(original, "certified"):
        change(certificate(folder, index), **changed)
    found = recheck(path)
    assert sorted(found.rejected) == sorted(of(original, "certified"))
    assert sorted(found.confirmed) == sorted(of(original, "falsified"))


def test_weaker_methods_prove_less(original, copy):
    """IBP in place of CROWN: some bounds fail, and what is confirmed IBP does prove."""
    path, folder = copy
    for index in of(original, "certified"):
        change(certificate(folder, index), method="ibp")
    found = recheck(path)
    assert found.rejected
    assert all("the largest bound is" in reason for reason in found.rejected.values())
    ibp = certify(*tiny(), EPS, stages=["ibp"], batch_size=8)
    assert set(found.confirmed) - set(of(original, "falsified")) == set(of(ibp, "certified"))


def test_bad_slopes_fail_or_prove(original, copy):
    """Any slopes give true bounds; the worst ones prove less than the optimised."""
    path, folder = copy
    for index in of(original, "certified"):
        with np.load(certificate(folder, index)) as content:
            method = str(content["method"])
        if method == "alpha-crown":
            change(certificate(folder, index), slopes=np.zeros((2, 7)))
    found = recheck(path)
    assert sorted([*found.confirmed, *found.rejected]) == sorted(
        of(original, "certified") + of(original, "falsified")
    )


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
    change(file, point=point + shift if shift > 0 else x)
    reason = recheck(path).rejected[index]
    assert ("outside the box" if shift > 0 else "below 0") in reason


def test_verdicts_that_were_changed(original, copy):
    """A certified verdict without a certificate is no proof."""
    path, _ = copy
    index = of(original, "falsified")[0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        if line["index"] == index:
            line["verdict"] = "certified"
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

"""What is proved of the real network is searched on until it is proved of the float32 network."""

import numpy as np
import pytest

from keras_taps.verification import certify, read_network, recheck
from keras_taps.verification.cascade import deployer
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.deployed import Arithmetic, DeployedNetwork
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.exact.milp import exact_bound
from keras_taps.verification.graph.unsafe import margin_forms
from keras_taps.verification.search.branch_and_bound import SIZES, BranchAndBound
from tests.helpers import numpy
from tests.verification.problems import EPS, tiny
from tests.verification.test_second_checker import pooled

pytestmark = pytest.mark.once

STAGES = ["ibp", "crown", "alpha-crown", "bab"]
CASES = {
    "dense": (lambda: tiny()[0], EPS, 20),
    "wide": (lambda: tiny()[0], 0.15, 20),
    "pooled": (pooled, 0.1, 7),
}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Rounding so coarse that it matters for many inputs of small networks."""
    arithmetic = Arithmetic(unit=1e-3)
    monkeypatch.setattr(DeployedNetwork.__init__, "__defaults__", (arithmetic,))


def problem(name):
    make, eps, count = CASES[name]
    network = make()
    x = np.random.default_rng(0).random((count, *network.input_shape[1:])).astype("float32")
    return network, x, numpy(network(x)).argmax(-1), eps


def certified(report):
    """Whether each certified input is proved as deployed, by index."""
    return {r["index"]: r["deployed"] for r in report.records if r["verdict"] == "certified"}


def has_room(graph, x, label, eps, slack=0.0):
    """Whether the largest margins leave room for rounding and `slack`, by exact programs."""
    box, forms = input_interval(x, eps), margin_forms(label, graph.outputs)
    _, boxes = Checker(graph).bounds_and_boxes(*box, forms, np.zeros(len(forms)))
    error = DeployedNetwork(graph).margin_errors(*box, boxes, forms)
    largest = [exact_bound(graph, *box, form, 0.0, boxes).value for form in forms]
    return bool(np.all(largest + error < -slack))


@pytest.mark.parametrize("name", CASES)
def test_deployed_wherever_there_is_room(name, tmp_path, monkeypatch):
    """A proof of the reals is never lost, and every claim is repeated by whoever receives it."""
    given = problem(name)
    network, x, y, eps = given
    graph, out = read_network(network), tmp_path / "report.jsonl"
    found = certify(*given, out=out, certificates=True, stages=STAGES)
    monkeypatch.setattr(deployer, "SHARE", 0.0)
    before = certify(*given, stages=STAGES)
    assert found.verdicts.tolist() == before.verdicts.tolist()
    assert (
        found.accuracies()["certified_as_deployed"] > (before.accuracies()["certified_as_deployed"])
    )
    deployed = certified(found)
    for i, holds in deployed.items():  # within a thousandth a search may end without a proof
        about = graph, x[i], int(y[i]), eps
        assert has_room(*about) if holds else not has_room(*about, slack=1e-3)
    assert not all(deployed.values())
    again = recheck(out, graph, x, y, eps)
    assert again.holds
    assert sorted(again.deployed) == sorted(i for i, holds in deployed.items() if holds)


def test_the_search_has_limits(monkeypatch):
    """A tenth of the time, and so many domains; what it leaves is certified all the same."""
    given = problem("wide")
    asked = []
    solve = BranchAndBound.solve

    def counted(self, tasks, timeout=np.inf, budget=None, account="bab", most=np.inf):
        before = self.nodes
        solve(self, tasks, timeout, budget, account, most)
        if most < np.inf:
            asked.append((len(tasks), budget, self.nodes - before))

    monkeypatch.setattr(BranchAndBound, "solve", counted)
    whole = certified(certify(*given, timeout=50, stages=STAGES))
    assert {budget for _, budget, _ in asked} == {5.0}
    asked.clear()
    monkeypatch.setattr(deployer, "DOMAINS", 1)
    few = certified(certify(*given, stages=STAGES))
    assert list(few) == list(whole)
    assert sum(few.values()) <= sum(whole.values())
    assert all(nodes <= count * SIZES[-1] for count, _, nodes in asked)


def test_only_where_it_is_asked_for():
    """Not without branch and bound among the stages."""
    given = problem("dense")
    found = certify(*given, stages=STAGES[:2])
    assert not all(certified(found).values())
    assert {r["stage"] for r in found.records} <= {*STAGES[:2], None}

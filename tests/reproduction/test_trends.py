"""Each finding of the paper is a difference of rows, and our numbers say whether it holds."""

import math

import pytest

from keras_taps.reproduction import TARGETS
from keras_taps.reproduction.results import reference
from keras_taps.reproduction.trends import CLAIMS, trend_table, trends
from tests.reproduction.helpers import content, record

pytestmark = pytest.mark.once


def rows(**certified):
    """Records of Table 2 with these certified accuracies."""
    settings = {"ibp": "IBP loss only", "taps": "TAPS loss only (part of the test set)"}
    return [
        record(
            settings.get(name, name.replace("w", "w=")), certified=value, natural=90.0, count=100
        )
        for name, value in certified.items()
    ]


def test_the_best_row_counts():
    first, second, *_ = trends(content(rows(ibp=60.0, w1=65.0, w5=70.0, taps=72.0)))
    assert (first["ours"], first["ours_best"], first["holds"]) == (10.0, "w=5", "yes")
    assert first["paper"] == pytest.approx(93.62 - 93.15)
    assert first["noise"] == pytest.approx(100 * math.sqrt(2 * 0.7 * 0.3 / 100))
    assert (second["ours"], second["holds"]) == (-2.0, "too close")


def test_nearly_equal():
    attacks = [
        record(setting, certified=value, count=10_000)
        for setting, value in (("1 steps, 1 restart", 70.0), ("20 steps, 1 restart", 70.2))
    ]
    (close,) = trends(content(attacks, target="table4"))
    assert close["holds"] == "yes"
    attacks[0]["certified"] = 60.0
    (far,) = trends(content(attacks, target="table4"))
    assert far["holds"] == "no"


def test_less_is_better():
    errors = {bound: {"mean_abs_error": 0.1} for bound in ("IBP", "SABR", "PGD")}
    errors["TAPS"] = {"mean_abs_error": 0.02}
    for error in errors.values():
        error |= {"mean_error": 0.0, "std_error": 0.0, "fraction_margin_below_0": 0.5}
    own = record(method="TAPS", eps="0.05", errors=errors, exact_robust_accuracy=0.9)
    found = trends(content([own], target="figure1"))
    assert [each["ours"] for each in found] == [pytest.approx(0.08)] * 3
    assert [each["paper"] for each in found] == [pytest.approx(v - 0.0135) for v in
                                                 (0.8667, 0.2757, 0.19)]  # fmt: skip


def test_splits():
    own = [
        record("0 ReLUs", eps="0.1", taps_by_split={"1": 80.0, "2": 80.0}),
        record("1 ReLUs", eps="0.1", taps_by_split={"1": 90.0, "2": 88.0}),
        record("2 ReLUs", eps="0.1", taps_by_split={"1": 91.0, "2": 92.0}),
    ]
    (found,) = trends(content(own, target="figure11"))
    assert (found["ours"], found["holds"]) == ("1 of 2", "partly")


@pytest.mark.parametrize("name", CLAIMS)
def test_the_paper_has_its_findings(name):
    """The names of rows and quantities are those of the targets, and the signs are the paper's."""
    target = TARGETS[name]
    names = {(row.setting.split(" (")[0] or row.method) for row in target.rows}
    for claim in CLAIMS[name]:
        assert {*claim.worse, *claim.better} & names
        assert set(claim.better) & names
    known = [row for row in target.rows if reference(target, row.key)]
    if target.kind == "accuracies":
        own = [
            {**dict(zip(("dataset", "eps", "method", "setting"), row.key, strict=True)),
             "seed": 0, "count": 10**9, **reference(target, row.key)}
            for row in known
        ]  # fmt: skip
        for trend in trends(content(own, target=name)):
            assert trend["ours"] == trend["paper"]
            assert abs(trend["paper"]) < 0.5 if "nearly" in trend["claim"] else trend["paper"] > 0


def test_table():
    head, cells = trend_table(content(rows(ibp=60.0, w5=70.0)))
    assert head[-1] == "holds"
    assert cells[0][1:] == ["0.3", "+0.47", "+10 ± 6.5 (w=5)", "yes"]
    assert trend_table(content([], target="table13")) == (head, [])

"""Each finding of the paper is a difference of rows, and our numbers say whether it holds."""

import math

import numpy as np
import pytest

from keras_taps.reproduction import TARGETS
from keras_taps.reproduction.claims import CLAIMS
from keras_taps.reproduction.results import packed, reference
from keras_taps.reproduction.trends import difference, row_name, trend_table, trends
from tests.reproduction.helpers import content, record

pytestmark = pytest.mark.once


def rows(seeds=(0, 1), **certified):
    """Records of Table 2 with these certified accuracies, of 10 000 images."""
    names = {"ibp": "IBP loss only", "inf": "w=inf (part of the test set)"}
    measured = {"natural": 90.0, "count": 10**4}
    return [
        record(names.get(name, name.replace("w", "w=")), certified=value, seed=seed, **measured)
        for name, value in certified.items()
        for seed in seeds
    ]


def test_verdicts():
    found = trends(content(rows(ibp=60.0, w5=70.0, w20=69.5, inf=75.0)))
    assert [each["holds"] for each in found] == ["yes", "in doubt", "no"]
    assert [each["ours"] for each in found] == [10.0, 0.5, -5.0]
    assert found[0]["paper"] == pytest.approx(93.62 - 93.15)
    assert found[0]["doubt"] == pytest.approx(200 * math.sqrt((0.21 + 0.24) / 10**4), rel=1e-3)


def test_one_seed_tells_nothing_of_others():
    found = trends(content(rows(seeds=[0], ibp=60.0, w5=70.0, w20=69.5)))
    assert [each["holds"] for each in found] == ["one seed: yes", "in doubt"]
    assert [each["seeds"] for each in found] == [1, 1]


def test_seeds_that_disagree_leave_doubt():
    """The spread of the difference is in the noise, also where the rows go up and down together."""
    apart = [*rows([0], ibp=60.0, w5=64.0), *rows([1], ibp=60.0, w5=84.0)]
    (found,) = trends(content(apart))
    assert (found["ours"], found["holds"]) == (14.0, "in doubt")
    assert found["doubt"] == pytest.approx(12.7 * 10, abs=0.1)  # by Student's t
    together = [*rows([0], ibp=60.0, w5=64.0), *rows([1], ibp=80.0, w5=84.0)]
    (found,) = trends(content(together))
    assert (found["ours"], found["holds"]) == (4.0, "yes")


@pytest.mark.parametrize("one", [0.0, 100.0])
def test_few_images_prove_nothing(one):
    own = [{**each, "count": 4} for each in rows(ibp=75.0 if one else 25.0, w5=one)]
    (found,) = trends(content(own))
    assert found["holds"] == "in doubt"


@pytest.mark.parametrize(
    ("one", "count", "holds"),
    [(80.0, 10**6, "yes"), (80.0, 1000, "in doubt"), (60.0, 1000, "no"), (70.0, 8, "in doubt")],
)
def test_nearly_equal(one, count, holds):
    """Closeness has to be shown: few images are not a reason to believe it."""
    attacks = [
        record(setting, certified=value, count=count, seed=seed)
        for setting, value in (("1 steps, 1 restart", one), ("20 steps, 1 restart", 80.2))
        for seed in (0, 1)
    ]
    (found,) = trends(content(attacks, target="table4"))
    assert found["holds"] == holds


def test_verdicts_are_compared_image_by_image():
    """Networks that hold on the same images differ by little but their number."""
    one = np.arange(1000) < 800
    other = np.roll(one, 3)
    own = [
        record(setting, certified=80.0, count=1000, held={"certified": packed(held)}, seed=seed)
        for setting, held in (("1 steps, 1 restart", one), ("20 steps, 1 restart", other))
        for seed in (0, 1)
    ]
    (found,) = trends(content(own, target="table4"))
    assert found["doubt"] == pytest.approx(200 * math.sqrt(7 / 1002 / 1000), rel=1e-6)
    assert found["holds"] == "yes"
    for each in own[:2]:
        del each["held"]
    (found,) = trends(content(own, target="table4"))
    assert found["holds"] == "in doubt"


def test_a_collapse_is_more_than_a_difference():
    settings = {
        "1 ReLU, multi estimator": 90.0,
        "1 ReLU, single estimator (training collapses)": 88.0,
    }
    own = [
        record(setting, natural=natural, count=1000, seed=seed)
        for setting, natural in settings.items()
        for seed in (0, 1)
    ]
    (found,) = trends(content(own, target="table3"))
    assert found["holds"] == "no"


def test_errors():
    errors = {bound: {"mean_abs_error": 0.1} for bound in ("IBP", "SABR", "PGD")}
    errors["TAPS"] = {"mean_abs_error": 0.02}
    for error in errors.values():
        error |= {"mean_error": 0.0, "std_error": 0.3, "fraction_margin_below_0": 0.5}
    own = record(method="TAPS", eps="0.05", errors=errors, exact_robust_accuracy=0.9, count=100)
    found = trends(content([own], target="figure1"))
    assert [each["ours"] for each in found] == [pytest.approx(0.08)] * 3
    assert {each["holds"] for each in found} <= {"one seed: yes", "in doubt"}
    variance = 0.3**2 - 0.1**2 + 0.3**2 - 0.02**2
    assert found[0]["doubt"] == pytest.approx(2 * math.sqrt(variance / 100))
    assert [each["paper"] for each in found] == [pytest.approx(v - 0.0135) for v in
                                                 (0.8667, 0.2757, 0.19)]  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_are_in_the_papers_numbers(name):
    """Every claim names rows of its target, and has the sign of the paper where there is one."""
    target = TARGETS[name]
    for eps in dict.fromkeys(row.eps for row in target.rows):
        paper = {
            row_name(row.method, row.setting): reference(target, row.key)
            for row in target.rows
            if row.eps == eps
        }
        for claim in CLAIMS[name]:
            assert {claim.better, claim.worse} <= set(paper)
            theirs = difference(claim, paper)
            if theirs is None:  # drawn in the paper, without a number
                assert name == "figure8"
            elif claim.close:
                assert abs(theirs) < 1
            else:
                assert theirs > claim.by


def test_table():
    head, cells = trend_table(content(rows(ibp=60.0, w5=70.0)))
    assert head[-1] == "holds"
    assert cells[0][1:] == ["0.3", "+0.47", "+10 ± 1.3", "2", "yes"]
    assert trend_table(content([], target="table13")) == (head, [])

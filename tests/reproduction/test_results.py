"""From records to means, rows and tables."""

import math

import pytest

from keras_taps.reproduction import TARGETS
from keras_taps.reproduction.results import (
    correlations,
    long_rows,
    reference,
    summary,
)
from keras_taps.reproduction.tables import images_text, remarks, table_of, tables_of
from tests.reproduction.helpers import content, record

pytestmark = pytest.mark.once


def test_means_over_seeds():
    records = [record("w=5", seed=seed, natural=n, count=9) for seed, n in enumerate((90, 94))]
    (row,) = summary(content(records))
    assert row["seeds"] == 2
    assert row["figures"] == {"natural": (92, math.sqrt(8))}


def test_rows_stand_beside_the_paper():
    target = TARGETS["table2"]
    rows = long_rows(target, content([record("w=5", natural=96.0, certified=90.0)]))
    assert [(row["quantity"], row["mean"], row["paper"]) for row in rows] == [
        ("natural", 96.0, 97.94),
        ("certified", 90.0, 93.62),
    ]
    head, cells = table_of(target, content([record("w=5", natural=96.0)]))
    assert len(head) == len(cells[0])
    assert cells[0][head.index("natural") : head.index("natural") + 2] == ["96.00", "97.94"]
    assert cells[0][head.index("certified")] == "-"


def test_deviations_of_the_paper():
    target = TARGETS["table15"]
    own = record("3 repeats", eps="0.1", natural=98.0)
    _, cells = table_of(target, content([own, {**own, "seed": 1, "natural": 99.0}]))
    assert "98.50 ± 0.71" in cells[0]
    assert "99.22 ± 0.03" in cells[0]


def test_references_of_figures():
    key = ("mnist", "0.05", "PGD", "")
    found = reference(TARGETS["figure1"], key)
    assert found["IBP: mean_error"] == 13.7488
    assert found["exact_robust_accuracy"] == 74.82
    found = reference(TARGETS["figure11"], ("mnist", "0.3", "TAPS", "1 ReLUs"))
    assert found["taps, 1 ReLUs in the test"] == pytest.approx(93.71)


def test_correlations():
    records = [
        record(taps=t, certified=2 * t - 90, adversarial=95.0, model=t) for t in (90, 92, 94)
    ]
    other = record(dataset="cifar10", taps=50, certified=40, model="other")
    found = correlations([*records, records[0], other])
    assert set(found) == {"mnist"}
    assert found["mnist"]["networks"] == 3  # each once, in however many tables it is
    assert found["mnist"]["corr_taps_cert"] == pytest.approx(1)
    assert found["mnist"]["corr_taps_adv"] is None
    assert found["mnist"]["taps_minus_cert_mean"] == pytest.approx(-0.02)
    head, cells = table_of(TARGETS["table10"], content(records, correlations=found))
    assert len(cells) == 6
    assert all(len(row) == len(head) for row in cells)
    assert cells[0][-2:] == ["1.0000", "0.9139"]
    rows = long_rows(TARGETS["table10"], content(records, correlations=found))
    (row,) = [row for row in rows if row["quantity"] == "corr_taps_cert"]
    assert (row["dataset"], row["mean"], row["paper"]) == ("mnist", pytest.approx(1), 0.9139)


def test_what_the_paper_remarks_on_its_own_run_is_no_name_of_ours():
    own = content([record("w=inf (part of the test set)", natural=96.0)])
    head, ((*cells,),) = table_of(TARGETS["table2"], own)
    assert cells[head.index("setting")] == "w=inf"
    assert cells[head.index("natural") + 1].endswith("*")
    assert remarks(own) == "* In the paper: w=inf: part of the test set."
    assert not remarks(content([record("w=5")]))


def test_a_page_has_a_table_for_each_statistic():
    error = {"mean_error": 0.1, "mean_abs_error": 0.1, "std_error": 0.2}
    error["fraction_margin_below_0"] = 0.5
    own = record(
        eps="0.05", errors={"IBP": error, "STAPS": error}, exact_robust_accuracy=0.9, count=9
    )
    tables = tables_of(TARGETS["figure1"], content([own]))
    assert len(tables) == 5
    head, ((*cells,),) = tables["mean error"]
    assert head[-3:] == ["IBP", "paper", "STAPS"]  # the paper has no bounds by STAPS
    assert cells[-3:] == ["0.1000", "0.8667", "0.1000"]
    assert tables["exact robust accuracy"][1][0][-2:] == ["90.00", "87.14"]
    assert list(tables_of(TARGETS["table2"], content([record("w=5", natural=96.0)]))) == [""]


def test_images():
    own = [record(count=9), record(count=8, open=1), record(count=9)]
    assert images_text(content(own)) == "8 or 9 test images, 1 exact margins left open"

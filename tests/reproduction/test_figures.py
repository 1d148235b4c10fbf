"""Figures draw what the results hold, beside the paper's numbers."""

import pytest

from keras_taps.reproduction import TARGETS, figures
from keras_taps.reproduction.results import correlations
from tests.reproduction.helpers import content, record

pytestmark = pytest.mark.once

SHARES = {"natural": 96.0, "adversarial": 90.0, "certified": 88.0, "certified_ibp": 80.0}
HISTOGRAM = {"mean_error": 0.1, "std_error": 0.2}
HISTOGRAM["histogram"] = {"low": 0.0, "high": 1.0, "counts": [1, 2, 3]}


def test_every_target_names_a_figure_that_exists():
    for target in TARGETS.values():
        assert not target.figure or callable(getattr(figures, target.figure))


def test_weights():
    records = [record(setting, **SHARES) for setting in ("IBP loss only", "w=5")]
    own, paper = figures.weights(content(records, quantities=["natural", "certified"])).axes
    assert [line.get_label() for line in own.lines] == ["natural", "certified, complete"]
    assert list(paper.lines[1].get_ydata()) == [93.15, 93.62]


def test_splits():
    records = [
        record(f"{split} ReLUs", eps=eps, **SHARES, certified_crown_ibp=85.0)
        for eps in ("0.1", "0.3")
        for split in (0, 1)
    ]
    quantities = ["natural", "certified", "certified_ibp"]
    axes = figures.splits(content(records, quantities=quantities)).axes
    assert [axis.get_title() for axis in axes] == [
        "eps 0.1, ours", "eps 0.1, paper", "eps 0.3, ours", "eps 0.3, paper",
    ]  # fmt: skip
    assert [len(axis.lines) for axis in axes] == [4, 3, 4, 3]
    assert list(axes[1].lines[0].get_xdata()) == list(range(7))


def test_connector():
    records = [record(f"c={c}", taps=90.0, natural=95.0) for c in (0, 0.5, 1)]
    (axis,) = figures.connector(content(records, quantities=["taps", "natural"])).axes
    assert list(axis.lines[0].get_xdata()) == [0, 0.5, 1]


def test_split_matrix():
    records = [record(f"{k} ReLUs", taps_by_split={"1": 90.0, "2": 91.0}) for k in (0, 1)]
    own, paper = figures.split_matrix(content(records)).axes
    assert len(own.lines) == 3  # two networks, and the split that one was trained for
    assert len(paper.lines) == 13


def test_goodness():
    records = [
        record(taps=90.0 + i, certified=88.0 + i, adversarial=91.0 + i, model=i) for i in range(3)
    ]
    axes = figures.goodness(content(records, correlations=correlations(records))).axes
    assert "correlation 1.0000" in axes[0].get_legend().get_texts()[0].get_text()


def test_approximation_and_differences():
    errors = dict.fromkeys(("IBP", "PGD", "SABR", "TAPS", "STAPS"), HISTOGRAM)
    differences = {"TAPS against IBP": HISTOGRAM, "STAPS against SABR": HISTOGRAM}
    records = [
        record(method=method, errors=errors, differences=differences) for method in ("IBP", "TAPS")
    ]
    drawn = content(records)
    assert len(figures.approximation(drawn).axes) == 8
    assert len(figures.differences(drawn).axes) == 2
    title = figures.approximation({**drawn, "seeds": [4, 5]}).get_suptitle()
    assert "seed 4 of 2 seeds" in title

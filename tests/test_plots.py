"""Figures draw what they are given and leave pyplot alone."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_taps import plots
from keras_taps.tuning import ParetoFront


def test_training_curves_take_rows_and_histories():
    rows = [{"epoch": 1, "eps": 0.0, "loss": 2.0}, {"epoch": 2, "eps": 0.1, "loss": 1.0}]
    figure = plots.training_curves({"rows": rows, "history": {"eps": [0.1], "loss": [1.0]}})
    radius = figure.axes[0]
    assert [list(line.get_ydata()) for line in radius.lines] == [[0.0, 0.1], [0.1]]


def test_training_curves_take_what_fit_returns():
    history = keras.callbacks.History()
    history.history = {"eps": [0.0, 0.1], "loss": [2.0, 1.0]}
    for single in (history, history.history):
        (line,) = plots.training_curves(single).axes[0].lines
        assert list(line.get_ydata()) == [0.0, 0.1]


def test_notebooks_show_figures_without_pyplot():
    figure = plots.training_curves({"rows": {"eps": [0.0, 0.1]}})
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_margin_bounds_tell_certified_from_open_and_attacked():
    images = np.zeros((3, 4, 4, 1))
    bounds = np.array([[-1.0, -2.0], [1.0, -1.0], [2.0, 2.0]])
    attacked = np.array([[-2.0, -3.0], [-1.0, -2.0], [1.0, -1.0]])
    figure = plots.margin_bounds(images, [0, 1, 2], {"net": bounds}, {"net": attacked}, 0.1)
    assert [axis.get_title() for axis in figure.axes[3:]] == ["certified", "open", "attacked"]


def report(**counts):
    records = [
        {"verdict": verdict, "stage": stage, "bound": bound}
        for (verdict, stage, bound), count in (
            (("certified", "ibp", -1.0), counts.get("ibp", 0)),
            (("certified", "crown", -0.1), counts.get("crown", 0)),
            (("certified", "bab", -0.01), counts.get("bab", 0)),
            (("falsified", "attack", 500.0), counts.get("attack", 0)),
            (("unknown", None, 0.5), counts.get("unknown", 0)),
            (("misclassified", "natural", None), counts.get("natural", 0)),
        )
        for _ in range(count)
    ]
    header = {"eps": 0.1, "stages": ["ibp", "attack", "crown", "bab"]}
    return SimpleNamespace(header=header, records=records)


def test_certification_stacks_every_input():
    mixed = report(ibp=4, crown=2, attack=2, unknown=1, natural=1)
    (axis,) = plots.certification({"mixed": mixed, "easy": report(ibp=3)}).axes
    ends = {}
    for bar in axis.patches:
        ends[round(bar.get_y(), 3)] = max(
            ends.get(round(bar.get_y(), 3), 0), bar.get_x() + bar.get_width()
        )
    np.testing.assert_allclose(list(ends.values()), 100)
    labels = [container.get_label() for container in axis.containers]
    assert labels[:3] == ["certified: ibp", "certified: crown", "unknown"]
    assert labels[3:] == ["falsified: attack", "misclassified"]
    assert [text.get_text() for text in plots.certification(mixed).axes[0].get_yticklabels()] == [
        "eps 0.1"
    ]


def test_stages_that_decide_are_told_apart():
    """Of several models each has its bar, and a stage the same shade in all of them."""
    models = {"IBP": report(ibp=4, crown=1), "TAPS": report(ibp=1, bab=3, unknown=1)}
    (axis,) = plots.certification(models).axes
    labels = [container.get_label() for container in axis.containers]
    assert labels == [
        "certified: ibp",
        "certified: crown",
        "certified: branch and bound",
        "unknown",
    ]
    colours = [container[0].get_facecolor() for container in axis.containers]
    assert len(set(colours)) == len(labels)
    assert [text.get_text() for text in axis.get_yticklabels()] == ["IBP", "TAPS"]


def test_a_report_without_records_can_be_drawn():
    assert not plots.certification(report()).axes[0].patches
    assert not plots.margin_histogram(report(natural=2)).axes[0].patches


def test_margin_histogram_counts_bounds_far_out():
    (axis,) = plots.margin_histogram(report(ibp=4, crown=2, attack=2, unknown=1)).axes
    heights = sum(bar.get_height() for bar in axis.patches)
    assert heights == 9
    assert "2 bounds beyond" in axis.get_title()
    edges = [bar.get_x() for bar in axis.patches]
    assert min(edges) <= -1
    assert np.min(np.abs(edges)) < 1e-12  # no bar holds proved and open bounds


def test_certified_curve_is_sorted_by_radius():
    shares = {"natural": 0.9, "adversarial": 0.8, "certified": 0.7}
    (axis,) = plots.certified_curve({0.2: {**shares, "certified": 0.1}, 0.1: shares}).axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert curves["certified"] == [[0.1, 70.0], [0.2, 10.0]]


def test_pareto_names_the_trials_of_the_front():
    rows = [
        {"trial": 4, "natural": 0.9, "certified": 0.5},
        {"trial": 7, "natural": 0.8, "certified": 0.6},
        {"trial": 9, "natural": 0.7, "certified": 0.4},
    ]
    (axis,) = plots.pareto(ParetoFront(rows, ("natural", "certified"))).axes
    assert sorted(text.get_text().strip() for text in axis.texts) == ["4", "7"]


@pytest.mark.parametrize("fronts", [[], {}])
def test_pareto_without_a_front(fronts):
    with pytest.raises(ValueError, match="must be a ParetoFront"):
        plots.pareto(fronts)

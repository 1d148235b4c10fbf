"""Fronts against brute force."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_taps import plots
from keras_taps.files import read_csv
from keras_taps.tuning import ParetoFront, dominated, hypervolume, scalarise

pytestmark = pytest.mark.once

GRID = 8
POINTS = st.lists(st.tuples(st.integers(0, GRID), st.integers(0, GRID)), max_size=12)


def beats(a, b):
    return a[0] >= b[0] and a[1] >= b[1] and a != b


@given(POINTS)
def test_dominated(points):
    assert dominated(points) == [any(beats(other, point) for other in points) for point in points]


@given(POINTS, st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_hypervolume(points, reference):
    """Count the cells of a grid that lie below a point and above the reference."""
    cells = np.zeros((GRID, GRID), bool)
    for x, y in points:
        cells[reference[0] : x, reference[1] : y] = True
    assert hypervolume(points, reference) == pytest.approx(cells.sum())
    scaled = [(x / GRID, y / GRID) for x, y in points]
    assert 0 <= hypervolume(scaled) <= 1


@given(POINTS)
def test_only_the_front_counts(points):
    front = [p for p, beaten in zip(points, dominated(points), strict=True) if not beaten]
    assert hypervolume(front) == hypervolume(points)


def test_every_part_of_a_front_is_the_best_for_some_weight():
    """Also the middle one, which no weighted mean would choose."""
    points = [(0.9, 0.1), (0.45, 0.4), (0.1, 0.9)]
    found = {
        max(points, key=lambda point: scalarise(*point, weight))
        for weight in np.linspace(0, 1, 101)
    }
    assert found == set(points)
    for weight in (0.0, 0.3, 1.0):
        assert scalarise(1, 1, weight) == 1
        # Better in both is better, whatever the weight.
        assert scalarise(0.6, 0.5, weight) > scalarise(0.5, 0.4, weight)
    with pytest.raises(ValueError, match="`weight`"):
        scalarise(0.5, 0.5, 2)


ROWS = [
    {"trial": "0", "status": "completed", "val_natural_accuracy": 0.9, "val_taps_accuracy": 0.5},
    {"trial": "1", "status": "failed", "error": "TrainingDiverged: ..."},
    {"trial": "2", "status": "completed", "val_natural_accuracy": 0.8, "val_taps_accuracy": 0.6},
    {"trial": "3", "status": "completed", "val_natural_accuracy": 0.8, "val_taps_accuracy": 0.4},
]


def test_front_of_trials():
    front = ParetoFront(ROWS)
    assert front.measures == ("val_natural_accuracy", "val_taps_accuracy")
    assert [row.get("dominated") for row in front.trials] == [False, None, False, True]
    assert [row["trial"] for row in front.front] == ["2", "0"]
    assert front.hypervolume() == pytest.approx(0.8 * 0.6 + 0.1 * 0.5)
    assert "dominated" not in ROWS[0]
    certified = [{**row, "val_certified_accuracy": 0.3} for row in ROWS if "error" not in row]
    assert ParetoFront(certified).measures[1] == "val_certified_accuracy"


def test_files(tmp_path):
    front = ParetoFront(ROWS)
    front.save(tmp_path / "trials.json")
    content = json.loads((tmp_path / "trials.json").read_text())
    assert content["trials"] == front.trials
    assert content["hypervolume"] == front.hypervolume()
    assert "backend" in content
    numbers = ParetoFront([{"val_natural_accuracy": 0.5, "val_taps_accuracy": 0.25}])
    numbers.save(tmp_path / "trials.csv")
    text = (tmp_path / "trials.csv").read_text().replace("False", "0")
    (tmp_path / "trials.csv").write_text(text)
    assert read_csv(tmp_path / "trials.csv")[0]["val_taps_accuracy"] == 0.25
    assert {path.name for path in tmp_path.iterdir()} == {"trials.csv", "trials.json"}
    with pytest.raises(ValueError, match=r"'\.csv' or '\.json'"):
        front.save(tmp_path / "trials.txt")


def test_no_front_without_both_quantities():
    with pytest.raises(ValueError, match="Accepted: val_natural_accuracy, val_taps_accuracy"):
        ParetoFront(ROWS, ("val_natural_accuracy", "val_certified_accuracy"))
    with pytest.raises(ValueError, match="0 trials"):
        ParetoFront([])


def test_figure():
    one, two = ParetoFront(ROWS), ParetoFront(ROWS[:1])
    (axis,) = plots.pareto({"taps": one, "ibp": two}).axes
    lines = {line.get_label(): 100 * np.array([one.point(r) for r in f.front])
             for line, f in zip(axis.lines, (one, two), strict=True)}  # fmt: skip
    assert list(lines) == ["taps: 0.530", "ibp: 0.450"]
    for line, points in zip(axis.lines, lines.values(), strict=True):
        np.testing.assert_allclose(line.get_xydata(), points)
    hollow = axis.collections[0].get_offsets()
    np.testing.assert_allclose(hollow, [[80, 40]])
    assert axis.get_ylabel() == "TAPS accuracy, an estimate, in %"
    assert len(plots.pareto(one).axes) == 1

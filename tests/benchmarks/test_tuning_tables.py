"""The section of searches says what the files hold, and notices a stale picture."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import tuning_tables
from provenance import provenance, write_json
from tables_format import NOT_MEASURED

pytestmark = pytest.mark.once

CONFIG = {"recipe": {"network": "cnn3", "width": 2, "epochs": 3}, "certify_count": 10,
          "timeout": 5, "seed": 0, "limit": 400}  # fmt: skip


def trial(number, method, natural, certified, relus=1):
    return {
        "trial": str(number),
        "method": method,
        "classifier_relus": relus,
        "val_natural_accuracy": natural,
        "val_taps_accuracy": certified + 0.02,
        "val_certified_accuracy": certified,
        "train_seconds": 20.0,
        "certify_seconds": 4.0,
    }


def record(study, trials):
    fronts = {"ibp": {"hypervolume": 0.81234, "trials": ["ibp/0"]}}
    common = {"config": CONFIG, "backend": "jax", "this_session_s": 9.0}
    names = {"study": study, "trials": trials, "fronts": fronts}
    return {**common, **names, "provenance": provenance()}


@pytest.fixture
def results(tmp_path):
    grid = [
        record("grid-winf", [trial(0, "taps", 0.9, 0.6)]),
        record("grid-w5", [trial(0, "taps", 0.95, 0.7)]),
        record("grid-w0", [trial(0, "taps", 0.8, 0.65, relus=0)]),
    ]
    failed = {"trial": "2", "method": "ibp", "error": "nan"}
    rows = [trial(0, "ibp", 0.9, 0.7), trial(1, "ibp", 0.8, 0.6), failed]
    compared = {"same_values": True, "same_best_trial": False, "largest_difference": 0.01}
    write_json(tmp_path / "tuning_grid.json", {"records": grid})
    write_json(tmp_path / "tuning_fronts.json", {"records": [record("fronts", rows)]})
    write_json(
        tmp_path / "tuning_workers.json",
        {"records": [record("one-process", rows), record("two", rows)], "comparison": compared},
    )
    return tmp_path


def test_rows(results):
    found = tuning_tables.section(results)
    rows = [line for line in found.splitlines() if line.startswith(("| 0", "| 1", "| ibp"))]
    assert rows == [
        "| 0 | any | 80.0 | - | 67.0 | 65.0 | - | 20 | 4 |",
        "| 1 | 5 | 95.0 | - | 72.0 | 70.0 | - | 20 | 4 |",
        "| 1 | inf | 90.0 | - | 62.0 | 60.0 | - | 20 | 4 |",
        "| ibp | 3 | 1 | 0.8123 | 90.0 | - | 72.0 | 70.0 | - | 20 | 4 |",
    ]
    assert "CNN3 of width 2, 3 epochs of 400 images a trial" in found
    goodness = "Over 3 trials TAPS accuracy"
    assert found.count(goodness) == 1  # two complete trials of the fronts are too few
    assert "the correlation 1.000 with certified accuracy, and lies 2.00 points" in found
    assert "The most is certified at a weight of 5 with 1 ReLUs after the split." in found
    assert "best trials differ" in found
    assert "more than 1 points" in found


def test_without_results(tmp_path):
    assert tuning_tables.section(tmp_path) == NOT_MEASURED
    assert tuning_tables.stale_pictures(tmp_path, tmp_path) == []


def test_the_picture_knows_its_trials(results, tmp_path):
    images = tmp_path / "images"
    assert tuning_tables.stale_pictures(results, images) == [images / tuning_tables.PICTURE]
    tuning_tables.pictures(results, images)
    assert tuning_tables.stale_pictures(results, images) == []

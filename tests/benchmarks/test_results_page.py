"""The page of the reproduced tables shows what the files hold, and notices stale pictures."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import results_page
from provenance import write_json
from tables_format import NOT_MEASURED

from tests.reproduction.helpers import content, record

pytestmark = pytest.mark.once

SHARES = {"natural": 96.5, "adversarial": 90.0, "certified": 88.0, "count": 1000}
TIMES = {"mean_certify_seconds": 0.5, "train_seconds": 60.0}


@pytest.fixture
def results(tmp_path):
    """A folder with the results of one target."""
    rows = [
        record(
            setting, **SHARES, **TIMES, model=setting, provenance={"versions": {"keras": version}}
        )
        for setting, version in (("IBP loss only", "3.14"), ("w=5", "3.15"))
    ]
    rows[1]["diverged"] = "the loss is nan"
    found = content(
        rows,
        quantities=["natural", "certified"],
        scale="cpu",
        scale_text="Smaller.",
        backend="jax",
        command="keras-taps reproduce table2 --scale cpu",
        left_out=["mnist 0.3 TAPS w=20"],
        failed={"w=1": "the loss is inf"},
        rows=3,
        done=2,
    )
    path = tmp_path / "reproduction" / "cpu" / "table2.json"
    path.parent.mkdir(parents=True)
    write_json(path, found)
    return tmp_path


def test_page(results):
    page = results_page.page(results)
    assert page == results_page.page(results)
    assert "| mnist | 0.3 | TAPS | w=5 | 96.50 | 97.94 | 90.00 | 94.01 | 88.00 | 93.62 |" in page
    assert "`keras-taps reproduce table2 --scale cpu --seeds 0 --backend jax`" in page
    assert "Not at this scale: mnist 0.3 TAPS w=20." in page
    assert "diverged, the epochs before are shown: TAPS w=5." in page
    assert "w=1: the loss is inf" in page
    assert "keras 3.14, keras 3.15." in page
    assert "Not complete" in page  # two records of three
    assert page.index("- **table2** (cpu scale)") < page.index("## table2") < page.index("## How")


def test_without_results(tmp_path):
    assert NOT_MEASURED in results_page.page(tmp_path)


def test_pictures(results, tmp_path):
    images = tmp_path / "images"
    (picture,) = results_page.stale_pictures(results, images)
    assert picture == images / "results" / "cpu-table2.png"
    results_page.pictures(results, images)
    assert results_page.stale_pictures(results, images) == []

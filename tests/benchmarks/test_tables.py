"""The page of results is the same for the same results, and `--check` notices a stale one."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import short_training
import tables
from provenance import provenance, write_json


@pytest.fixture
def results(tmp_path):
    """A folder with made-up results."""
    common = {"configuration": "IBP", "first_step_s": 1.0, "minimum_s": 0.4, "baseline_mib": 50}
    steps = [
        {**common, "implementation": "jax", "median_s": 0.5, "peak_mib": 300},
        {**common, "implementation": "eager-torch", "median_s": 1.0, "peak_mib": 200},
    ]
    settings = {"width": 2, "batch": 8, "attack_steps": 2, "rounds": 1}
    content = {
        "provenance": provenance(),
        "settings": settings,
        "results": [{**step, "quartiles_s": [0.4, 0.6]} for step in steps],
    }
    write_json(tmp_path / "training_step.json", content)
    figures = {"warmup_step_s": 0.1, "main_step_s": 0.87, "pgd": 80.0, "ibp": 60.0, "taps": 70.0}
    record = {"backend": "jax", "method": "taps", **figures, "provenance": provenance()}
    records = [{**record, "seed": s, "natural": 90.0 + 2 * s} for s in (0, 1)]
    content = {
        "reference": short_training.REFERENCE,
        "records": records,
        "timings": [record | {"seed": 0}],
    }
    (tmp_path / "README.md").write_text("a {} b {} c".format(*tables.MARKERS))
    write_json(tmp_path / "short_training_mnist.json", content)
    return tmp_path


def test_ratios_and_deviations(results):
    page = tables.page(results)
    assert page == tables.page(results)
    assert "| IBP | keras_taps, JAX | 0.500 | 0.400 to 0.600 | 0.400 | 0.50 |" in page
    assert "| TAPS | keras_taps, JAX | 2 | 91.0 ± 1.4 | 80.0 ± 0.0 |" in page
    assert "| TAPS | authors' code | 1 | 94.7 | 86.0 | 65.6 | 83.9 | 1.74 | 409 | 13.38 |" in page
    assert "| 70.0 ± 0.0 | 0.870 | 204 | - |" in page  # no IBP row to compare with


def test_page_without_results_says_so(tmp_path):
    assert tables.page(tmp_path).count(tables.NOT_MEASURED) == 6


def test_check_notices_a_stale_page(results, tmp_path):
    readme = tmp_path / "README.md"
    options = [
        "--results",
        str(results),
        "--output",
        str(tmp_path / "page.md"),
        "--readme",
        str(readme),
    ]
    with pytest.raises(SystemExit) as stop:
        tables.main([*options, "--check"])
    assert stop.value.code == 1
    tables.main(options)
    tables.main([*options, "--check"])

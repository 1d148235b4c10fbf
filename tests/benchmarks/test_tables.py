"""The page of results is the same for the same results, and `--check` notices a stale one."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import short_settings
import tables
import training_step_tables
from provenance import provenance, read_json, write_json

pytestmark = pytest.mark.once


@pytest.fixture
def results(tmp_path):
    """A folder with made-up results."""
    common = {"first_step_s": 1.0, "minimum_s": 0.4, "baseline_mib": 50}
    steps = [
        {**common, "implementation": "jax", "median_s": 0.5, "peak_mib": 300},
        {**common, "implementation": "eager-torch", "median_s": 1.0, "peak_mib": 200},
    ]
    measurement = {
        "configuration": {"name": "cnn7-2-mnist-ibp"},
        "provenance": provenance(),
        "results": [{**step, "quartiles_s": [0.4, 0.6]} for step in steps],
        "ceiling": {"seconds": 0.35, "gflop": 7.0, "products": []},
    }
    write_json(tmp_path / "training_step.json", {"measurements": [measurement]})
    figures = {"warmup_step_s": 0.1, "main_step_s": 0.87, "pgd": 80.0, "ibp": 60.0, "taps": 70.0}
    record = {"backend": "jax", "method": "taps", **figures, "provenance": provenance()}
    records = [{**record, "seed": s, "natural": 90.0 + 2 * s} for s in (0, 1)]
    proofs = [
        {**record, "seed": s, "certified": 70.0 + 2 * s, "unknown": 2.0, "images": 1000 - 150 * s}
        for s in (0, 1)
    ]
    content = {
        "certified": proofs,
        "reference": short_settings.REFERENCE,
        "records": records,
        "timings": [record | {"seed": 0}],
    }
    (tmp_path / "README.md").write_text("a {} b {} c".format(*tables.MARKERS))
    write_json(tmp_path / "short_training_mnist.json", content)
    return tmp_path


def test_ratios_and_deviations(results):
    page = tables.page(results)
    assert page == tables.page(results)
    assert (
        "| cnn7-2-mnist-ibp | keras_taps, JAX | 0.500 | 0.400 to 0.600 | 0.400 | 0.50 | 0.70 | 1.0 "
        "| 300 | 250 | 1.50 |" in page
    )
    assert "| cnn7-2-mnist-ibp | products alone, 7.0 GFLOP | 0.350 | - | - | 0.35 | 1.00 |" in page
    assert "| TAPS | keras_taps, JAX | 2 | 91.0 ± 1.4 | 80.0 ± 0.0 |" in page
    assert (
        "| TAPS | authors' code | 1 | 94.7 | 86.0 | 65.6 | 83.9 | - | - | 1.74 | 409 | 13.38 |"
        in page
    )
    assert (
        "| 70.0 ± 0.0 | 71.0 ± 1.4 of 850 | 2.0 ± 0.0 | 0.870 | 204 | - |" in page
    )  # no IBP row to compare with


def test_runs_beside_the_paper_and_costs_beside_ibp(results):
    shares = {f"{name}_accuracy": 0.5 for name in tables.RUN_FIGURES}
    run = {**shares, "backend": "jax", "count": 9, "eps": 0.1, "seed": 0, "selection": "last"}
    write_json(results / "runs" / "mnist-0.1-cnn3-colt.json", {**run, "versions": {}})
    costs = {"backend": "jax", "network": "cnn3", "batch": 8, "training_mib": 512}
    costs |= {"provenance": provenance()}
    validated = {"evaluation_s": 2.0, "evaluation_mib": 1024}
    plain = {**costs, **validated, "case": "ibp-cnn3", "method": "ibp", "step_s": 0.5}
    other = {**costs, "case": "colt-0-cnn3", "method": "colt", "step_s": 1.0}
    write_json(results / "other_systems.json", [other, plain])
    page = tables.page(results)
    row = "| mnist-0.1-cnn3-colt | jax | 50.0 | 50.0 | 50.0 | 50.0 | - | - | 99.2 | 97.1 |"
    assert row in page
    assert "| `colt-0-cnn3` | JAX | cnn3 | 8 | 1.000 | 2.00 | 0.5 | - | - |" in page
    assert "| `ibp-cnn3` | JAX | cnn3 | 8 | 0.500 | 1.00 | 0.5 | 2.0 | 1.0 |" in page


def test_page_without_results_says_so(tmp_path):
    assert tables.page(tmp_path).count(tables.NOT_MEASURED) == 17


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
    content = read_json(results / "training_step.json")
    content["measurements"][0]["ceiling"]["gflop"] = 7.01  # not to be seen in page or picture
    write_json(results / "training_step.json", content)
    tables.main([*options, "--check"])
    (tmp_path / "images" / "training_step.png").unlink()
    with pytest.raises(SystemExit):
        tables.main([*options, "--check"])


def test_picture_is_known_by_the_figures_it_shows(results, tmp_path):
    training_step_tables.pictures(results, tmp_path)
    assert not training_step_tables.stale_pictures(results, tmp_path)
    content = read_json(results / "training_step.json")
    content["measurements"][0]["ceiling"]["seconds"] = 0.3
    write_json(results / "training_step.json", content)
    assert training_step_tables.stale_pictures(results, tmp_path)

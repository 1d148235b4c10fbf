"""`keras-taps quickstart`: two runs, their reports, one table, three pictures."""

import json
from functools import partial

import pytest

from keras_taps.cli import quickstart
from keras_taps.experiments.recipes import recipe
from keras_taps.verification.certificate.report import Report
from tests.cli.helpers import call
from tests.helpers import BACKEND

pytestmark = pytest.mark.skipif(BACKEND == "jax", reason="compiles for minutes; same commands")


def test_quickstart(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_taps.experiments.recipes.recipe", partial(recipe, width=2))
    command = ("quickstart", "--out", tmp_path, "--epochs", 1, "--limit", 8)
    code, out, err = call(capsys, *command)
    assert code == 0, err
    for column in ("natural", "adversarial", "IBP", "CROWN-IBP", "complete", "unknown", "TAPS"):
        assert column in out
    for name in ("curves.png", "margins.png", "certification.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

    reports = {m: Report.load(tmp_path / m / "certification-0.1.jsonl") for m in ("ibp", "taps")}
    assert [len(report.records) for report in reports.values()] == [8, 8]
    assert all(report.unchecked == 0 for report in reports.values())
    assert ("proves more of TAPS'" in out) == quickstart.gains_when_complete(*reports.values())

    code, out, _ = call(capsys, *command, "--json")
    found = json.loads(out)
    for method, report in zip(("IBP", "TAPS"), reports.values(), strict=True):
        assert found[method]["accuracies"] == report.accuracies()
        assert found[method]["certified_by"] == report.certified_by()
        assert 0 <= found[method]["pgd_accuracy"] <= found[method]["natural_accuracy"]


@pytest.mark.parametrize(
    ("ibp", "taps", "gains"),
    [
        (("ibp", "ibp", None), ("ibp", "bab", "bab"), True),
        (("ibp", "ibp", None), ("ibp", "bab", None), False),  # as many
        (("ibp", None, None), ("ibp", "bab", "bab"), False),  # ahead by nothing
        (("ibp", "ibp", "bab"), ("ibp", "bab", None), False),
    ],
)
def test_a_gain_is_claimed_only_if_the_figures_say_so(ibp, taps, gains):
    def report(stages):
        records = [
            {"index": i, "verdict": "certified" if stage else "unknown", "stage": stage}
            for i, stage in enumerate(stages)
        ]
        return Report({"stages": ["ibp", "bab"]}, records)

    assert quickstart.gains_when_complete(report(ibp), report(taps)) is gains

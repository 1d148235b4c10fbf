"""The paper's numbers are there, and every row that we could train has them."""

import pytest

from keras_taps.reproduction import TARGETS
from keras_taps.reproduction.published import published, published_errors, published_splits

pytestmark = pytest.mark.once

OURS = ("IBP", "SABR", "TAPS", "STAPS")
WITH_TABLE = [target for target in TARGETS.values() if target.table and target.kind != "goodness"]


@pytest.mark.parametrize("target", WITH_TABLE, ids=lambda target: target.name)
def test_rows_are_those_of_the_paper(target):
    paper = target.published
    ours = {row.key for row in target.rows}
    assert len(ours) == len(target.rows)
    if target.name == "successors":
        assert {key for key in paper if key[2] != "TAPS"} <= ours
        return
    assert ours == {key for key in paper if key[2] in OURS}


@pytest.mark.parametrize("target", WITH_TABLE, ids=lambda target: target.name)
def test_quantities_are_those_of_the_paper(target):
    known = {name.removesuffix("_mean") for row in target.published.values() for name in row}
    ibp = {"certified_ibp"}
    more = {"successors": {"adversarial"}, "table2": ibp, "table14": ibp}
    assert set(target.quantities) - known <= more.get(target.name, set())


def test_numbers():
    assert published("2")["mnist", "0.3", "TAPS", "w=5"]["certified"] == 93.62
    assert published("11")["mnist", "0.1", "TAPS", "3 ReLUs"]["certified"] == 98.39
    assert published_errors()["TAPS", "TAPS"]["mean_error"] == -0.0024
    assert published_splits("mnist", "0.1")[1, 1] == 0.9813
    assert published("99") == {}


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_recipes_fit_their_rows(target):
    for row in target.rows:
        number, _, parts = row.eps.partition("/")
        assert row.recipe.eps == pytest.approx(float(number) / float(parts or 1))
        assert row.recipe.dataset == row.dataset
        split = row.setting.split()
        if len(split) == 2 and split[1] == "ReLUs":
            assert row.recipe.classifier_relus == int(split[0])
        if row.setting.startswith("w=") and "inf" not in row.setting:
            weight = float(row.setting.removeprefix("w="))
            assert row.recipe.options["w_taps"] == weight
            assert row.recipe.options["gradient_scale"] == (weight + 1) / 2

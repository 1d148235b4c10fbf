"""A target from nothing to its files; what is there is not done again."""

import csv
import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_taps.experiments.diverged import TrainingDiverged
from keras_taps.experiments.run import Run
from keras_taps.reproduction import Row, Workshop, reproduce
from keras_taps.reproduction.workshop import model_name
from tests.reproduction.helpers import BASE, SCALE, target


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("reproduction"), SCALE)


@pytest.mark.once
def test_accuracies(workshop, monkeypatch):
    said = []
    content = reproduce(target(), workshop, announce=said.append)
    assert said == ["tiny 1/2: digits 0.1 IBP, seed 0", "tiny 2/2: digits 0.1 TAPS, seed 0"]
    for record in content["records"]:
        assert record["count"] == 6
        shares = [record[name] for name in ("certified_ibp", "certified", "adversarial", "natural")]
        assert shares == sorted(shares)
        assert record["train_seconds"] > 0
        assert record["recipe"]["epochs"] == 1
    folder = workshop.folder / "tiny"
    written = json.loads((folder / "results.json").read_text())
    assert written == json.loads(json.dumps(content))
    with open(folder / "results.csv", newline="") as file:
        assert {"natural", "certified"} <= {row["quantity"] for row in csv.DictReader(file)}

    def never(*args):
        raise AssertionError

    monkeypatch.setattr(keras.Model, "fit", never)
    monkeypatch.setattr(Run, "evaluate", never)
    assert reproduce(target(), workshop)["records"] == written["records"]
    (folder / "results.json").unlink()  # the models say the same
    assert reproduce(target(), workshop)["records"] == content["records"]


@pytest.mark.once
def test_records_of_other_seeds_stay(workshop):
    chosen = target(methods=("IBP",))
    first = reproduce(chosen, workshop)
    both = reproduce(chosen, workshop, seeds=[1])
    assert both["seeds"] == [0, 1]
    assert [record["seed"] for record in both["records"]] == [0, 1]
    assert both["records"][0] == json.loads(json.dumps(first["records"][0]))
    assert both["rows"] == 2


@pytest.mark.once
def test_more_images_are_measured_again(workshop):
    chosen = target(methods=("IBP",))
    reproduce(chosen, workshop)
    more = Workshop(workshop.folder, workshop.scale.with_images(8))
    for own in (more, workshop):  # what is there is enough for fewer
        record = reproduce(chosen, own)["records"][0]
        assert (record["seed"], record["count"]) == (0, 8)


@pytest.mark.once
@pytest.mark.parametrize(
    ("kind", "figure"), [("goodness", "goodness"), ("splits", "split_matrix"), ("estimates", "")]
)
def test_other_kinds(workshop, kind, figure):
    content = reproduce(target(kind, figure), workshop)
    (record, _) = content["records"]
    if kind == "splits":
        assert set(record["taps_by_split"]) == {"1", "2"}
    else:
        assert 0 <= record["taps"] <= 100
    assert not figure or (workshop.folder / "tiny" / "figure.png").exists()


@pytest.mark.once
def test_approximation_goes_on_where_it_stopped(workshop):
    content = reproduce(target("approximation", "approximation", methods=("IBP",)), workshop)
    (record,) = content["records"]
    assert record["count"] == 6
    path = workshop.folder / "models" / record["model"] / "exact.npz"
    whole = np.load(path)["exact"]
    np.savez_compressed(path, exact=whole[:2])
    (workshop.folder / "tiny" / "results.json").unlink()
    again = reproduce(target("approximation", methods=("IBP",)), workshop)
    np.testing.assert_allclose(np.load(path)["exact"][:, :2], whole[:, :2])
    assert again["records"][0]["errors"] == record["errors"]


@pytest.mark.once
def test_an_interrupted_call_loses_no_record(workshop, monkeypatch):
    """More images are asked for, and nothing of it gets done but the first row."""
    chosen = replace(target(), name="interrupted")
    reproduce(chosen, workshop, seeds=[0, 1])
    more = Workshop(workshop.folder, workshop.scale.with_images(10))
    monkeypatch.setattr(more, "run", _stopped(more.run, after=1))
    with pytest.raises(KeyboardInterrupt):
        reproduce(chosen, more, seeds=[0])
    written = json.loads((workshop.folder / "interrupted" / "results.json").read_text())
    counts = {(record["method"], record["seed"]): record["count"] for record in written["records"]}
    assert counts[("IBP", 0)] == 10
    assert (written["done"], written["rows"]) == (1, 4)
    assert len(counts) == 4
    assert written["seeds"] == [0, 1]


def _stopped(function, after):
    calls = []

    def run(*args):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return function(*args)

    return run


@pytest.mark.once
def test_records_of_a_shared_network_are_known_again(workshop):
    """Another target trained it first, by a recipe that says less."""
    first = target(methods=("TAPS",))
    (row,) = first.rows
    said = replace(row, recipe=row.recipe.changed(c=0.5, name="other"))
    reproduce(first, workshop)
    second = replace(first, name="second", rows=(said,))
    (record,) = reproduce(second, workshop)["records"]
    path = workshop.folder / "second" / "results.json"
    content = json.loads(path.read_text())
    scaled = workshop.scale.recipe(row.recipe)
    content["records"][0]["recipe"] = scaled.to_config()  # as older files have it
    path.write_text(json.dumps(content))
    both = reproduce(second, workshop, seeds=[1])["records"]
    assert [each["seed"] for each in both] == [0, 1]
    assert both[0]["certified"] == record["certified"]


@pytest.mark.once
def test_a_row_that_diverges_at_once_is_passed_over(workshop, monkeypatch):
    chosen = replace(target(), name="diverging")
    own = Workshop(workshop.folder, workshop.scale)

    def run(recipe, seed):
        if recipe.method == "ibp":
            raise TrainingDiverged("the loss is nan")
        return workshop.run(recipe, seed)

    monkeypatch.setattr(own, "run", run)
    content = reproduce(chosen, own)
    assert [record["method"] for record in content["records"]] == ["TAPS"]
    assert content["failed"] == {"digits 0.1 IBP, seed 0": "the loss is nan"}
    assert (content["done"], content["rows"]) == (1, 2)
    with pytest.raises(TrainingDiverged):
        reproduce(replace(chosen, name="alone", rows=chosen.rows[:1]), own)


@pytest.mark.once
def test_records_of_other_versions_are_made_again(workshop):
    chosen = replace(target(methods=("IBP",)), name="old")
    reproduce(chosen, workshop)
    path = workshop.folder / "old" / "results.json"
    content = json.loads(path.read_text())
    content["records"][0]["recipe"]["gone"] = 1
    path.write_text(json.dumps(content))
    (record,) = reproduce(chosen, workshop)["records"]
    assert "gone" not in record["recipe"]


@pytest.mark.once
def test_goodness_is_of_one_set_of_images(workshop):
    """A report may be there of more images than are asked for: TAPS accuracy is of as many."""
    chosen = replace(target("goodness", "goodness", methods=("TAPS",)), name="good")
    reproduce(chosen, Workshop(workshop.folder, workshop.scale.with_images(12)))
    (workshop.folder / "good" / "results.json").unlink()
    (record,) = reproduce(chosen, workshop)["records"]
    assert record["count"] == 12
    assert record["taps"] == pytest.approx(100 * round(record["taps"] * 12 / 100) / 12)


@pytest.mark.once
def test_runs_of_another_limit_are_refused(workshop):
    chosen = replace(target(methods=("IBP",)), name="limited")
    reproduce(chosen, workshop)
    (workshop.folder / "limited" / "results.json").unlink()
    other = Workshop(workshop.folder, replace(workshop.scale, limit=None))
    with pytest.raises(ValueError, match=r"trained on 64 images .* takes all"):
        reproduce(chosen, other)


@pytest.mark.once
def test_results_of_another_backend_stay(workshop):
    chosen = replace(target(methods=("IBP",)), name="elsewhere")
    reproduce(chosen, workshop)
    path = workshop.folder / "elsewhere" / "results.json"
    text = path.read_text().replace('"backend": "', '"backend": "other ')
    path.write_text(text)
    with pytest.raises(ValueError, match="holds results of backend other"):
        reproduce(chosen, workshop, seeds=[5])
    assert path.read_text() == text


@pytest.mark.once
def test_rows_without_data_are_passed_over(workshop, tmp_path):
    """They do not take the others with them; without any data there is nothing to do."""
    here = target(methods=("IBP",))
    away = Row("mnist", "0.1", "IBP", "", BASE.changed(dataset="mnist", method="ibp"))
    elsewhere = Workshop(workshop.folder, workshop.scale, data_dir=str(tmp_path))
    content = reproduce(replace(here, rows=(*here.rows, away)), elsewhere)
    assert [record["dataset"] for record in content["records"]] == ["digits"]
    assert content["rows"] == 2
    assert "'mnist' is not in" in content["missing"]["mnist"]
    with pytest.raises(FileNotFoundError, match="mnist"):
        reproduce(replace(here, name="away", rows=(away,)), elsewhere)


@pytest.mark.once
def test_equal_recipes_share_a_model():
    named = BASE.changed(name="other", source="elsewhere")
    assert model_name(named, 0) == model_name(BASE, 0)
    assert model_name(BASE.changed(w_taps=5, c=0.5), 0) == model_name(BASE, 0)  # the defaults
    assert model_name(BASE.changed(w_taps=1), 0) != model_name(BASE, 0)
    assert model_name(BASE.changed(l1=1.0), 0) != model_name(BASE, 0)
    assert model_name(BASE, 1) != model_name(BASE, 0)


@pytest.mark.once
def test_a_scale_without_rows_is_refused(workshop):
    late = target(methods=("TAPS",))
    row = late.rows[0]
    row = type(row)(*row.key, row.recipe.changed(network="cnn7", classifier_relus=6))
    with pytest.raises(ValueError, match="leaves out every row"):
        reproduce(type(late)("late", "Late", (row,)), workshop)

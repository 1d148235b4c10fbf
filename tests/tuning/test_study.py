"""A study folder: several searches, by one process or several, and what it leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_taps.experiments.run import Run
from keras_taps.files import read_csv, write_json
from keras_taps.tuning import Range, Study
from keras_taps.tuning import study as module
from tests.tuning.helpers import LIMIT, Untrained, tiny

pytestmark = pytest.mark.once

SETTINGS = {"search": {"l1": [0.0, 1e-3]}, "kind": "grid", "trials": 2, "limit": LIMIT}
SAME = ("trial", "status", "method", "l1")
FIGURES = ("score", "val_natural_accuracy", "val_taps_accuracy")


def history(study, row):
    return study.folder / row["search"] / f"trial_{row['trial']}" / "history.csv"


def create(folder, recipe=None, **settings):
    return Study.create(folder, recipe or tiny("ibp"), **{**SETTINGS, **settings})


def test_chief_and_two_workers_give_what_one_process_gives(tmp_path):
    """A trial has its own seed, so that neither order nor process changes what it learns."""
    recipe = tiny("ibp", width=2, epochs=4, anneal_epochs=2, batch_size=16)
    one, three = create(tmp_path / "one", recipe), create(tmp_path / "three", recipe)
    one.run("ibp")
    three.run("ibp", workers=2)
    rows, others = one.read(), three.read()
    assert [row["l1"] for row in rows] == SETTINGS["search"]["l1"]
    losses = []
    for row, other in zip(rows, others, strict=True):
        assert [row[name] for name in SAME] == [other[name] for name in SAME]
        ours, theirs = (read_csv(history(study, row)) for study in (one, three))
        losses.append([epoch["loss"] for epoch in ours])
        # Threads add in another order.
        np.testing.assert_allclose([epoch["loss"] for epoch in theirs], losses[-1], rtol=1e-2)
        for name in FIGURES:
            assert row[name] == pytest.approx(other[name], abs=0.04)
    assert len({tuple(loss) for loss in losses}) == 2
    assert len(list((tmp_path / "three" / "ibp").glob("worker-*.log"))) == 2

    run = one.export("ibp")
    assert Run.open(run.folder) == run
    best = max(rows, key=lambda row: row["score"])
    assert run.recipe.l1 == best["l1"]
    x, y = one.data.validation
    found = run.load_best().evaluate(x, y, verbose=0, return_dict=True)
    assert found["taps_accuracy"] == pytest.approx(best["val_taps_accuracy"], abs=1e-6)
    assert json.loads(run.path("metrics.json").read_text())["count"] == LIMIT
    assert len(run.history()) == 4


@pytest.fixture
def untrained(monkeypatch):
    monkeypatch.setattr(module, "CertifiedHyperModel", Untrained)


def test_searches_by_method_and_weight(tmp_path, untrained):
    study = create(tmp_path / "study", tiny("taps"), methods=("taps", "staps"), weights=(0.2, 0.8),
                   search=["w_taps", "tau_ratio"], kind="random", trials=2)  # fmt: skip
    assert list(study.searches) == ["taps-0.2", "taps-0.8", "staps-0.2", "staps-0.8"]
    hypermodels = [study.hypermodel(name) for name in study.searches]
    assert [list(h.space) for h in hypermodels] == [["w_taps"]] * 2 + [["w_taps", "tau_ratio"]] * 2
    assert [h.weight for h in hypermodels] == [0.2, 0.8, 0.2, 0.8]
    assert Study.open(study.folder) == study


def test_files_and_fronts(tmp_path, untrained):
    study = create(tmp_path / "study", tiny("taps"), methods=("taps", "staps"), search=["w_taps"],
                   kind="random", trials=2)  # fmt: skip
    study.write()
    assert [path.name for path in study.folder.iterdir()] == ["study.json"]
    for name in study.searches:
        study.run(name)
    study.write()
    assert [row["search"] for row in study.read()] == ["taps"] * 2 + ["staps"] * 2
    assert list(study.fronts()) == ["taps", "staps"]
    content = json.loads((study.folder / "trials.json").read_text())
    assert len(content["trials"]) == 4
    assert {row["dominated"] for row in content["trials"]} <= {True, False}
    header = (study.folder / "trials.csv").read_text().splitlines()[0]
    assert header.startswith("search,trial,status,method,w_taps,val_taps_accuracy")
    assert header.endswith("train_seconds,certify_seconds,score,dominated")
    assert (study.folder / "pareto.png").stat().st_size > 1000
    more = study.with_trials(3)
    more.run("taps")
    assert len(Study.open(study.folder).read("taps")) == 3


def test_words_survive_json(tmp_path, untrained):
    search = {"w_taps": (1, 10), "classifier_relus": [1, 2], "c": Range(0, 0.5), "l1": None}
    study = create(tmp_path / "study", tiny("taps"), search=search)
    again = Study.open(study.folder)
    assert again == study
    space = again.hypermodel("taps").space
    assert space["w_taps"] == Range(1, 10, "log")
    assert space["classifier_relus"] == [1, 2]
    assert space["c"] == Range(0, 0.5)


def test_no_complete_trial_is_no_best(tmp_path, untrained, monkeypatch):
    monkeypatch.setattr(Untrained, "_train_and_measure", lambda *args: 1 / 0)
    study = create(tmp_path / "study", tiny("taps"), search=["w_taps"], kind="random", trials=2)
    with pytest.warns(RuntimeWarning, match="ZeroDivisionError"):
        study.run("taps")
    assert study.export("taps") is None
    assert study.fronts() == {}
    study.write()
    assert "ZeroDivisionError" in (study.folder / "trials.csv").read_text()


def test_another_backend_is_refused(tmp_path, untrained):
    study = replace(create(tmp_path / "study"), backend="other")
    with pytest.raises(ValueError, match="begun on other and resumes only there"):
        study.run("ibp")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ("trades",)}, "`methods` must be one of"),
        ({"methods": ("ibp", "ibp")}, "must differ"),
        ({"kind": "greedy"}, "`kind`"),
        ({"trials": 0}, "`trials`"),
        ({"limit": 0}, "`limit`"),
        ({"weights": (2,)}, "`weights`"),
        ({"weights": (0.5,), "objective": "val_taps_accuracy"}, "With `weights` the objective"),
        ({"search": ["w_taps"]}, "changes nothing in the training by ibp"),
        ({"search": {"l1": (5, 1)}}, "low < high"),
        ({"timeout": -1, "stages": ["ibp"]}, "`timeout`"),
    ],
)
def test_bad_input_leaves_no_folder(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        create(tmp_path / "study", **settings)
    assert not (tmp_path / "study").exists()


def test_folders(tmp_path, untrained):
    create(tmp_path / "study")
    with pytest.raises(FileExistsError, match="tune --resume"):
        create(tmp_path / "study")
    with pytest.raises(FileNotFoundError, match="not a study folder"):
        Study.open(tmp_path)
    write_json(tmp_path / "study.json", {"study": {"recipe": {}}})
    with pytest.raises(ValueError, match="not the config of a study"):
        Study.open(tmp_path)

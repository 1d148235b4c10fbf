"""The page on tuning: its cell of six lines runs, and its tables are complete."""

import re
from pathlib import Path

import keras_taps as kt
from keras_taps.choices import DIMENSIONS, OBJECTIVES
from keras_taps.tuning import hypermodel
from keras_taps.tuning.space import RANGES
from tests.tuning.helpers import Untrained, data

PAGE = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text()


def test_the_cell_of_six_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hypermodel, "load_data", lambda *args, **options: data())
    monkeypatch.setattr(
        hypermodel.CertifiedHyperModel, "_train_and_measure", Untrained._train_and_measure
    )
    cell, fragment = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in cell.splitlines() if line]) == 6
    tiny = 'recipe("digits-0.1-taps", width=1).scaled(5)'
    cell = cell.replace('recipe("mnist-0.1-cnn3-taps").scaled(5)', tiny)
    names = {}
    exec(cell.replace("trials=20", "trials=3"), names)
    rows = kt.tuning.read_trials("studies/taps")
    assert [row["status"] for row in rows] == ["completed"] * 3
    assert [names["tuner"].oracle.objective.name] == ["val_certified_accuracy"]
    exec(fragment, names)
    assert list(names["hypermodel"].space) == ["classifier_relus", "w_taps", "tau_ratio"]


def test_the_tables_are_complete():
    for name in (*DIMENSIONS, *OBJECTIVES):
        assert f"`{name}`" in PAGE
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for name, usual in RANGES.items():
        (row,) = (line for line in rows if f"`{name}`" in line)
        ends = {f"{end:.3g}".replace("e-0", "e-") for end in (usual.low, usual.high)}
        ends = {end.replace("0.0001", "1e-4").replace("0.005", "5e-3") for end in ends}
        assert all(end in row for end in ends), (name, ends)

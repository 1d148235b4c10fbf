"""The trials of a search as rows: settings, figures, costs, failures."""

import json
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from keras_taps.choices import DIMENSIONS, OBJECTIVES
from keras_taps.tuning.hypermodel import ERROR_FILE
from keras_taps.typing import StrPath

FIGURES = ("epochs", *OBJECTIVES, "val_unknown", "train_seconds", "certify_seconds")


def read_trials(search: keras_tuner.Tuner | StrPath) -> list[dict[str, Any]]:
    """The trials of a search, in their order.

    Args:
        search: Tuner of KerasTuner, or the folder of its search; of a worker, the folder.

    Returns:
        List of dictionaries, one a trial: `trial`, `status` ('completed', 'failed', 'running'),
        the searched values with `method`, the figures that `CertifiedHyperModel.fit` returns
        (shares in [0, 1], seconds), `score` (the objective), and `error` of a failed one. Whole
        trials have all of them, so that the rows make a table.

    Raises:
        FileNotFoundError: If there is no search in the folder.

    Example:

    >>> read_trials("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: There is no search in 'nowhere'.
    """
    folder = Path(getattr(search, "project_dir", search))
    if not (folder / "oracle.json").exists():
        if hasattr(search, "project_dir"):
            return []
        raise FileNotFoundError(f"There is no search in '{folder}'.")
    states = [json.loads(path.read_text()) for path in folder.glob("trial_*/trial.json")]
    rows = [trial_row(state, folder) for state in states]
    return sorted(rows, key=lambda row: int(row["trial"]))


def trial_row(state, folder):
    """One row from the state of a trial as KerasTuner saves it.

    Args:
        state: Dictionary, the content of a `trial.json`.
        folder: `Path` of the search.
    """
    status = {"COMPLETED": "completed", "RUNNING": "running"}.get(state["status"], "failed")
    values = state["hyperparameters"]["values"]
    figures = {
        name: float(np.mean([step["value"] for step in metric["observations"]]))
        for name, metric in state["metrics"]["metrics"].items()
    }
    if "tuner/epochs" in values:
        figures["epochs"] = values["tuner/epochs"]
    row = {"trial": state["trial_id"], "status": status}
    for names, found in ((("method", *DIMENSIONS), values), (FIGURES, figures)):
        row |= {name: found[name] for name in names if name in found}  # a worker has no order
    row["score"] = state["score"] if status == "completed" else None
    if status == "failed":
        row["error"] = _error(state, folder)
    return row


def _error(state, folder):
    path = folder / f"trial_{state['trial_id']}" / ERROR_FILE
    if path.exists():
        return path.read_text()
    lines = (state["message"] or "").strip().splitlines()
    return lines[-1] if lines else "no reason was recorded"

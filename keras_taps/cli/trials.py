"""The trials of a search while it runs: a live table on a terminal, lines in a log."""

import contextlib
import threading

import keras
from rich.live import Live
from rich.table import Table

from keras_taps.choices import DIMENSIONS
from keras_taps.cli.output import console

_NATURAL = "val_natural_accuracy"
_SHOWN = 5  # trials in the table
_PAUSE_S = 0.5  # between looks at the trials


class EpochText(keras.callbacks.Callback):
    """How far the trial of this process is."""

    text = ""

    def on_epoch_begin(self, epoch, logs=None):
        self.text = f", epoch {epoch + 1}/{self.params['epochs']}"

    def on_train_end(self, logs=None):
        self.text = ""


@contextlib.contextmanager
def watch(study, name, objective, epoch, quiet):
    """Context in which the trials of a search are shown: a live table, or lines in a log."""
    if quiet:
        yield
        return
    over, told = threading.Event(), {row["trial"] for row in _ended(study.read(name))}

    def lines():
        for row in _ended(_read(study, name)):
            if row["trial"] not in told:
                told.add(row["trial"])
                console.print(f"{name}: {describe(row, objective)}", soft_wrap=True, markup=False)

    def follow(show):
        while not over.wait(_PAUSE_S):
            show()

    live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def table():
        lines()
        live.update(best_table(study, name, objective, epoch.text), refresh=True)

    show = lines if live is None else table
    with live or contextlib.nullcontext():
        thread = threading.Thread(target=follow, args=(show,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            show()


def _read(study, name):
    """The trials now; none while KerasTuner writes one of them."""
    try:
        return study.read(name)
    except ValueError:
        return []


def _ended(rows):
    return [row for row in rows if row["status"] != "running"]


def describe(row, objective):
    """One line about a trial that has ended."""
    values = "  ".join(f"{k} {_short(row[k])}" for k in DIMENSIONS if k in row)
    if row["status"] == "failed":
        reason = row["error"].splitlines()[0]
        return f"trial {row['trial']} failed, the study continues: {reason}  {values}"
    seconds = row["train_seconds"] + row["certify_seconds"]
    return f"trial {row['trial']}  {objective} {row[objective]:.3f}  {values}  {seconds:.0f} s"


def best_table(study, name, objective, epoch):
    """Table of the best trials so far."""
    rows = _read(study, name)
    done = [row for row in rows if row["status"] == "completed"]
    failed = len(_ended(rows)) - len(done)
    running = [row["trial"] for row in rows if row["status"] == "running"]
    title = f"{name}: {len(done) + failed} of {study.trials} trials"
    title += f", {failed} failed" if failed else ""
    title += f", running {', '.join(running)}{epoch}" if running else ""
    table = Table(title=title, title_justify="left")
    measured = dict.fromkeys([objective, _NATURAL])
    names = [k for k in DIMENSIONS if any(k in row for row in done)]
    for column in ("trial", *measured, *names, "train s", "certify s"):
        table.add_column(column, justify="right")
    for row in sorted(done, key=lambda row: -row["score"])[:_SHOWN]:
        figures = [f"{100 * row[k]:.1f} %" for k in measured]
        values = [_short(row[k]) if k in row else "" for k in names]
        seconds = [f"{row[k]:.0f}" for k in ("train_seconds", "certify_seconds")]
        table.add_row(row["trial"], *figures, *values, *seconds)
    return table


def _short(value):
    return f"{value:.3g}"

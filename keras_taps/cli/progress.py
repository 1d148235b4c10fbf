"""The progress of a training run on a terminal, or as plain lines in a log."""

import contextlib
import math

import keras
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_taps.cli.output import console

_SHOWN = {
    "eps": "eps",
    "loss": "loss",
    "natural_accuracy": "natural",
    "val_natural_accuracy": "val natural",
    "val_ibp_certified_accuracy": "val IBP",
    "val_taps_accuracy": "val TAPS",
}
_LINES = 10  # lines in a log that is not a terminal


class TrainingProgress(keras.callbacks.Callback):
    """One bar for the whole run with the last epoch's figures beside it."""

    def __init__(self):
        super().__init__()
        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def on_train_begin(self, logs=None):
        self._task = self._bar.add_task("", total=self.params["epochs"], figures="compiling")
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._bar.update(self._task, completed=epoch)

    def on_epoch_end(self, epoch, logs=None):
        figures = "  ".join(
            f"{label} {logs[name]:.3f}"
            for name, label in _SHOWN.items()
            # NaN says that nothing was counted yet, except for the loss.
            if name in (logs or {}) and (name == "loss" or not math.isnan(logs[name]))
        )
        self._bar.update(self._task, completed=epoch + 1, figures=figures)
        epochs = self.params["epochs"]
        every = max(1, epochs // _LINES)
        if not console.is_terminal and ((epoch + 1) % every == 0 or epoch + 1 == epochs):
            console.print(f"epoch {epoch + 1}/{epochs}  {figures}", soft_wrap=True)

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Give the terminal back."""
        self._bar.stop()


@contextlib.contextmanager
def training_progress(quiet=False):
    """Context that yields the callbacks which show a training run, interrupted or not."""
    progress = TrainingProgress()
    try:
        yield [] if quiet else [progress]
    finally:
        progress.close()

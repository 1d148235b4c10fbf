"""A progress bar on a terminal, a line now and then in a log."""

import contextlib
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_taps.cli.output import console

_PAUSE_S = 10  # between lines in a log


@contextlib.contextmanager
def progress_bar(unit, quiet=False):
    """Context that yields a function `show(done, total, figures="")`.

    Args:
        unit: What is counted, such as "inputs".
        quiet: Whether to show nothing.
    """
    if quiet:
        yield lambda done, total, figures="": None
    elif console.is_terminal:
        with _bar() as bar:
            task = bar.add_task(unit, total=None, figures="compiling")
            yield lambda done, total, figures="": bar.update(
                task, completed=done, total=total, figures=figures
            )
    else:
        yield _lines(unit)


def _bar():
    return Progress(
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
    )


def _lines(unit):
    last = time.monotonic()

    def show(done, total, figures=""):
        nonlocal last
        if done == total or time.monotonic() - last >= _PAUSE_S:
            last = time.monotonic()
            console.print(f"{unit} {done}/{total}  {figures}".rstrip(), soft_wrap=True)

    return show

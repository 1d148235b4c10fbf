"""How commands speak: tables, JSON, stages of long work."""

import contextlib
import json
import tempfile

from rich import box
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)


def print_json(content):
    """Print `content` as JSON and nothing else."""
    print(json.dumps(content, indent=2))


def make_folder_of(path):
    """Make the folder of a file that will be written: better to fail before the work than after.

    Raises:
        OSError: If it cannot be made, or written into.
    """
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder, not a file to write.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"'{path.parent}' is not a folder to write into.") from None
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise type(error)(f"'{path.parent}' cannot be written into: {error.strerror}.") from None


def duration(seconds):
    """Seconds in words: '40 s', '5 min', '3 h 20 min', '2 days 4 h'.

    Example:

    >>> duration(12000)
    '3 h 20 min'
    """
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"


def accuracy_table(title, rows):
    """Table of accuracies in percent.

    Args:
        title: Line above the table.
        rows: Dictionary from a name to the result of `evaluate_robustness`.
    """
    from keras_taps.experiments.evaluation import COLUMNS

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in COLUMNS.values():
        table.add_column(f"{name} %", justify="right")
    for name, row in rows.items():
        shares = (row.get(column) for column in COLUMNS)
        table.add_row(name, *("-" if share is None else f"{100 * share:.1f}" for share in shares))
    return table


def certification_table(reports, title="Percent of the test images", estimates=None):
    """Table of what is proved of several models or radii, in percent.

    The columns of the paper's tables: IBP and CROWN-IBP count what is proved by their end, and
    'complete' what is proved at all, if a complete stage was among the stages; 'deployed' what is
    proved of the float32 network too.

    Args:
        reports: Dictionary from a label to a `Report`, all of the same stages.
        title: Line above the table.
        estimates: Dictionary from the name of a further column to its shares by label.
    """
    stages, estimates = next(iter(reports.values())).header["stages"], estimates or {}
    bounds = {"ibp": "IBP", "crown-ibp": "CROWN-IBP"}
    bounds = {stage: name for stage, name in bounds.items() if stage in stages}
    whole = "complete" if {"bab", "milp"} & set(stages) else "certified"
    narrow = {
        "box": box.SIMPLE_HEAD,
        "show_edge": False,
        "pad_edge": False,
        "padding": (0, 1, 0, 0),
    }
    table = Table(title=title, title_justify="left", **narrow)
    table.add_column(overflow="fold")
    names = ("natural", "adversarial", *bounds.values(), whole, "deployed", "unknown")
    for name in (*names, *estimates):
        table.add_column(name, justify="right")
    for label, report in reports.items():
        shares, by = report.accuracies(), report.certified_by()
        row = [shares["natural"], shares["adversarial"], *(by[stage] for stage in bounds)]
        row += [shares["certified"], shares["certified_as_deployed"], shares["unknown"]]
        row += [values[label] for values in estimates.values()]
        table.add_row(label, *(f"{100 * share:.2f}" for share in row))
    return table


@contextlib.contextmanager
def stages(quiet=False):
    """Context that yields a function to announce the stage of long work beside a spinner."""
    if quiet:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(f"evaluating: {text}")

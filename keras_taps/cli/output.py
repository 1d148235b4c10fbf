"""How commands speak: tables, JSON, stages of long work."""

import contextlib
import json

from rich.console import Console
from rich.table import Table

from keras_taps.experiments.evaluation import COLUMNS

console = Console(highlight=False)


def print_json(content):
    """Print `content` as JSON and nothing else."""
    print(json.dumps(content, indent=2))


def accuracy_table(title, rows):
    """Table of accuracies in percent.

    Args:
        title: Line above the table.
        rows: Dictionary from a name to the result of `evaluate_robustness`.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in COLUMNS.values():
        table.add_column(f"{name} %", justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{100 * row[column]:.1f}" for column in COLUMNS))
    return table


@contextlib.contextmanager
def stages(quiet=False):
    """Context that yields a function to announce the stage of long work beside a spinner."""
    if quiet:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(f"evaluating: {text}")

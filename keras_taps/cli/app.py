"""The application: its commands, and what becomes of an error.

Commands import Keras, and what imports it, inside `run`: help and a mistyped option need neither.
"""

import re
import sys

import typer
from rich.console import Console

from keras_taps.cli import (
    attack,
    certify,
    datasets,
    evaluate,
    export,
    merge,
    quickstart,
    recheck,
    recipes,
    reproduce,
    supports,
    train,
    tune,
    verify,
)
from keras_taps.cli.backend import not_installed
from keras_taps.experiments.diverged import TrainingDiverged
from keras_taps.version import __version__

COMMANDS = (
    quickstart,
    train,
    tune,
    reproduce,
    evaluate,
    certify,
    attack,
    recheck,
    merge,
    export,
    verify,
    supports,
    recipes,
    datasets,
)


def _examples():
    """The first example of every command, from their docstrings."""
    found = (re.search(r"`(keras-taps [^`]+)`", command.run.__doc__)[1] for command in COMMANDS)
    return "\n\n".join(["Examples:", *(f"`{example}`" for example in found)])


app = typer.Typer(
    name="keras-taps",
    help="Train image classifiers whose robustness can be proved, and see how much of it is.\n\n"
    "Start with: keras-taps quickstart",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in COMMANDS:
    app.command(command.NAME)(command.run)


def _version(wanted: bool):
    if wanted:
        print(f"keras-taps {__version__}")
        raise typer.Exit


def _name(wanted: bool):
    if wanted:
        print("keras_taps")
        raise typer.Exit


@app.callback(epilog=_examples())
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True),
    name: bool = typer.Option(False, "--name", callback=_name, is_eager=True),
):
    """Options of every command."""


def main(arguments=None):
    """Run the command line.

    Exit code 0: done. 1: failed or interrupted. 2: bad input, with a message and no traceback.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(arguments, standalone_mode=True)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        errors.print(f"[bold red]Error:[/] {str(error).replace('[', chr(92) + '[')}")
        sys.exit(2)
    except (OSError, ImportError, TrainingDiverged) as error:
        reason = not_installed(getattr(error, "name", None)) or str(error)
        errors.print(f"[bold red]Failed:[/] {reason.replace('[', chr(92) + '[')}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("Interrupted.")
        sys.exit(1)

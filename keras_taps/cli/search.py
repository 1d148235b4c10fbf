"""The options of branch and bound, for the commands that have them."""

import math

import typer

from keras_taps.checks import check_choice, check_real
from keras_taps.choices import BRANCHINGS, MEMORY

GIB = 2**30

BRANCHING = typer.Option(
    "kfsb",
    "--branching",
    help=f"How branch and bound (stage bab) chooses neurons: {', '.join(BRANCHINGS)}.",
)
MEMORY_OPTION = typer.Option(
    MEMORY / GIB, "--memory", help="GiB for the open domains of branch and bound."
)


def search_options(branching, memory):
    """Checked arguments of `certify`, from the options.

    Args:
        branching: One of `BRANCHINGS`.
        memory: GiB > 0.

    Raises:
        ValueError: If one is out of range; the message names the option.

    Example:

    >>> search_options("babsr", 0.5)
    {'branching': 'babsr', 'memory': 536870912}
    """
    most = check_real("--memory", memory, 0, math.inf, low_open=True)
    if most == math.inf:
        raise ValueError("`--memory` must be a number of GiB. Received: --memory=inf")
    return {
        "branching": check_choice("--branching", branching, BRANCHINGS),
        "memory": max(1, int(most * GIB)),
    }

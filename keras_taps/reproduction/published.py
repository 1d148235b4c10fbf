"""The numbers of the paper, as files that come with the package."""

import csv
from functools import cache
from pathlib import Path

KEY = ("dataset", "eps", "method", "setting")
# The paper's complete verifier is MN-BaB; here it is what `certify` proves at all.
_NAMES = {"certified_mnbab": "certified"}
_TRAINED = {"adv": "PGD"}
_USES = ("trained", "tested")


@cache
def _rows(name):
    path = Path(__file__).parent / "paper" / f"{name}.csv"
    with open(path, newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def published(table):
    """A table of the paper.

    Args:
        table: Its number as text, such as "2"; "successors" for the numbers that the authors of
            CC-, MTL- and Exp-IBP, of CTBench and of CTRAIN give.

    Returns:
        Dictionary from `(dataset, eps, method, setting)` to a dictionary from quantities to
        numbers: accuracies in percent, times in seconds.

    Example:

    >>> published("6")["mnist", "0.1", "TAPS", ""]["classifier_relus"]
    3.0

    References:
        Mao et al. 2023.
    """
    found = {}
    for row in (*_rows("results"), *_rows("successors")):
        if row["table"] == table:
            quantity = _NAMES.get(row["quantity"], row["quantity"])
            key = tuple(row[name] for name in KEY)
            found.setdefault(key, {})[quantity] = float(row["value"])
    return found


def published_errors():
    """Errors of margin bounds against exact ones: Figures 1, 5 and 9, from the authors' raw data.

    Returns:
        Dictionary from `(training method, bounding method)`, named as in targets, to statistics.
    """
    return {
        (_TRAINED.get(row["trained_with"], row["trained_with"]), row["bounded_with"]): {
            name: float(value) for name, value in row.items() if not name.endswith("_with")
        }
        for row in _rows("approximation")
    }


def published_splits(dataset, eps):
    """TAPS accuracy by the split in training and the split in the test: Figures 10 and 11.

    Args:
        dataset: "mnist" or "cifar10".
        eps: Radius as text.

    Returns:
        Dictionary from `(ReLUs in training, ReLUs in the test)` to shares in [0, 1].
    """
    found = {}
    for row in _rows("taps_accuracy_by_split"):
        if (row["dataset"], row["eps"]) == (dataset, eps):
            trained, tested = (int(row[f"{each}_with_classifier_relus"]) for each in _USES)
            found[trained, tested] = float(row["taps_accuracy"])
    return found

"""Natural against certified accuracy: which trials are dominated, and how much a front covers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_taps.checks import check_real
from keras_taps.files import write_csv, write_json
from keras_taps.provenance import provenance
from keras_taps.typing import StrPath

NATURAL = "val_natural_accuracy"
CERTIFIED = "val_certified_accuracy"
ESTIMATED = "val_taps_accuracy"
_AUGMENTATION = 0.05


def scalarise(natural: float, certified: float, weight: float) -> float:
    """One number for two accuracies: the augmented Chebyshev distance to (1, 1), turned round.

    Unlike a weighted mean, its maxima for different weights reach every part of the front, also
    where the front is not concave.

    Args:
        natural: Accuracy in [0, 1].
        certified: Accuracy in [0, 1].
        weight: Weight in [0, 1] of the certified accuracy.

    Returns:
        Number to maximise, at most 1.

    Example:

    >>> round(scalarise(0.9, 0.7, weight=0.5), 3)
    0.84

    References:
        Knowles, "ParEGO: A Hybrid Algorithm with On-Line Landscape Approximation", 2006.
    """
    check_real("weight", weight, 0, 1)
    losses = weight * (1 - certified), (1 - weight) * (1 - natural)
    return 1 - max(losses) - _AUGMENTATION * sum(losses)


def dominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points another one beats: at least as good in both coordinates, better in one.

    Args:
        points: List of pairs, both to be maximised.

    Returns:
        List of truth values; equal points do not dominate each other.

    Example:

    >>> dominated([(0.9, 0.5), (0.8, 0.6), (0.8, 0.4)])
    [False, False, True]
    """
    found = {}
    best = -float("inf")  # second coordinate of all points further right
    for x in sorted({x for x, _ in points}, reverse=True):
        highest = max(y for other, y in points if other == x)
        for y in {y for other, y in points if other == x}:
            found[x, y] = y < highest or y <= best
        best = max(best, highest)
    return [found[x, y] for x, y in points]


def hypervolume(
    points: Sequence[tuple[float, float]], reference: tuple[float, float] = (0.0, 0.0)
) -> float:
    """Area that lies below and left of some point, above and right of the reference.

    Args:
        points: List of pairs, both to be maximised.
        reference: Pair; points that do not exceed it in both coordinates add nothing.

    Returns:
        Area; for accuracies in [0, 1] and the reference (0, 0) at most 1.

    Example:

    >>> round(hypervolume([(0.9, 0.5), (0.8, 0.6)]), 3)
    0.53

    References:
        Zitzler and Thiele, "Multiobjective Evolutionary Algorithms", 1999.
    """
    left, floor = reference
    area = 0.0
    for x, y in sorted(points, reverse=True):
        if x > left and y > floor:
            area += (x - left) * (y - floor)
            floor = y
    return area


@dataclass(frozen=True)
class ParetoFront:
    """Trials of one or more searches, and which of them no other dominates.

    Args:
        trials: List of dictionaries, one a trial, as `read_trials` returns.
        measures: Names of the two quantities, both to be maximised; by default natural and
            certified accuracy on validation images, or the TAPS accuracy, an estimate, if no trial
            was certified.

    Raises:
        ValueError: If no trial has both quantities.

    Example:

    >>> rows = [{"trial": "0", "natural": 0.9, "certified": 0.5},
    ...         {"trial": "1", "natural": 0.8, "certified": 0.4}]
    >>> front = ParetoFront(rows, ("natural", "certified"))
    >>> [trial["trial"] for trial in front.front], round(front.hypervolume(), 3)
    (['0'], 0.45)
    """

    trials: list[dict[str, Any]]
    measures: tuple[str, str] | None = None

    def __post_init__(self):
        measures = self.measures
        if measures is None:
            certified = any(row.get(CERTIFIED) is not None for row in self.trials)
            measures = NATURAL, CERTIFIED if certified else ESTIMATED
        object.__setattr__(self, "measures", tuple(measures))
        rows = [dict(row) for row in self.trials]
        whole = [row for row in rows if all(row.get(m) is not None for m in self.measures)]
        if not whole:
            known = sorted({name for row in rows for name in row if name.startswith("val_")})
            raise ValueError(
                f"No trial has both quantities of the front. Accepted: {', '.join(known) or 'none'}"
                f". Received: measures={self.measures}, {len(rows)} trials"
            )
        marks = dominated([self.point(row) for row in whole])
        for row, mark in zip(whole, marks, strict=True):
            row["dominated"] = mark
        object.__setattr__(self, "trials", rows)

    def point(self, row: Mapping[str, Any]) -> tuple[float, float]:
        """The two quantities of a trial."""
        return tuple(row[measure] for measure in self.measures)

    @property
    def front(self) -> list[dict[str, Any]]:
        """The trials that no other dominates, by rising first quantity."""
        found = [row for row in self.trials if row.get("dominated") is False]
        return sorted(found, key=self.point)

    def hypervolume(self, reference: tuple[float, float] = (0.0, 0.0)) -> float:
        """Area below the front, `hypervolume` of its points."""
        return hypervolume([self.point(row) for row in self.front], reference)

    def save(self, path: StrPath) -> None:
        """Write all trials to a file, whole or not at all.

        Args:
            path: Ends in '.csv', a row a trial, or '.json', which adds the hypervolume and where
                the numbers come from.
        """
        path = str(path)
        if path.endswith(".csv"):
            write_csv(path, self.trials)
        elif path.endswith(".json"):
            content = {
                "measures": self.measures,
                "hypervolume": self.hypervolume(),
                "trials": self.trials,
                **provenance(),
            }
            write_json(path, content)
        else:
            raise ValueError(f"`path` must end in '.csv' or '.json'. Received: '{path}'")

"""One input, or one property: what is asked, and its way through the stages of verification."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.domain import UNIT, Domain
from keras_taps.verification.certificate.rounding import inner_interval, input_interval
from keras_taps.verification.certificate.tightening import Tightening
from keras_taps.verification.graph.unsafe import margin_forms, worst_of


@dataclass(frozen=True, eq=False)
class Query:
    """What is asked: a box of inputs, and what must not be reached in it.

    Args:
        lower: Float64 array of the shape of one input.
        upper: Array of the same shape.
        forms: Array `(n, outputs)`.
        offset: Array `(n,)`.
        groups: Integer array `(n,)`: it is unsafe if at one input all forms of a group are >= 0.
        index: Number by which the caller knows it.
        strict: Boolean array `(n,)`: forms that must be > 0 there; by default none.
        inner: `(lower, upper, offset)` for counterexamples, as in `Unsafe`; by default as above.
    """

    lower: np.ndarray
    upper: np.ndarray
    forms: np.ndarray
    offset: np.ndarray
    groups: np.ndarray
    index: int = 0
    strict: np.ndarray = None
    inner: tuple = None

    def __post_init__(self):
        if self.strict is None:
            object.__setattr__(self, "strict", np.zeros(len(self.offset), bool))
        if self.inner is None:
            object.__setattr__(self, "inner", (self.lower, self.upper, self.offset))

    @classmethod
    def around(
        cls,
        x: np.ndarray,
        label: int,
        eps: ArrayLike,
        classes: int,
        index: int = 0,
        domain: Domain = UNIT,
    ) -> "Query":
        """Whether some input within `eps` of `x` is taken for another class than the label."""
        forms = margin_forms(label, classes)
        lower, upper = input_interval(x, eps, domain)
        offset, groups = np.zeros(classes - 1), np.arange(classes - 1)
        inner = *inner_interval(x, eps, domain), offset
        return cls(lower, upper, forms, offset, groups, index, inner=inner)

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """`(lower, upper)`."""
        return self.lower, self.upper

    @property
    def asked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`(lower, upper, forms, offset)`, of which a checker is asked bounds."""
        return self.lower, self.upper, self.forms, self.offset

    @property
    def conjunctive(self) -> bool:
        """Whether some group has several forms."""
        return len(self.groups) > self.groups.max() + 1

    def reached(self, values: np.ndarray) -> bool:
        """Whether form values `(n,)` at one point are unsafe: some group has none below 0.

        What is not finite reaches nothing, and 0 is not enough for a strict form.
        """
        enough = np.isfinite(values) & ((values > 0) | ((values == 0) & ~self.strict))
        return bool(np.any(worst_of(self.groups, np.where(enough, 1.0, -1.0)) > 0))


@dataclass(eq=False)
class Task:
    """A query, and what is known about it so far.

    Args:
        query: `Query`.

    Attributes:
        bounds: Array `(n,)`, the best upper bounds so far, of the fast arithmetic.
        boxes: Boxes of the inputs of ReLUs and max pooling from CROWN in float32, or `None`.
        proved: The checker's in float64, which are believed in later stages, or `None`.
        tightening: The `Tightening` by which `proved` is tighter than CROWN's boxes, or `None`.
        pass_seconds: Seconds of a whole pass over the neurons for it, or `None`.
        slopes: Array `(n, neurons)` of optimised slopes, NaN where there are none, or `None`.
        trees: List of the proof trees (`Tree`) of branch and bound, of an open task those from
            which it goes on; or `None`.
        verdict: 'certified', 'falsified', 'unknown', or `None` while it is open.
        stage: The stage that decided.
        method: What the checker repeats, or `None`.
        checked: Whether the float64 checker confirmed the verdict.
        deployed: Whether it is proved of the float32 network too, however it rounds.
        solver: 'certified' if the exact solver says so and the checker could not confirm it, which
            is no verdict; else `None`.
        bound: Upper bound on the worst group, of the checker where it spoke.
        point: Input that falsifies.
        predicted: Class that the model gives the image, if there is an image.
        error: Why a stage could not work on it; an error is no verdict.
        seconds: Seconds by stage, without compilation.
    """

    query: Query
    bounds: np.ndarray = None
    boxes: list = None
    proved: list = None
    tightening: Tightening | None = None
    pass_seconds: float | None = None
    slopes: np.ndarray = None
    trees: list = None
    verdict: str = None
    stage: str = None
    method: str = None
    checked: bool = False
    deployed: bool = False
    bound: float = np.inf
    point: np.ndarray = None
    predicted: int = None
    error: str = None
    solver: str = None
    seconds: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.bounds is None:
            self.bounds = np.full(len(self.query.offset), np.inf)

    @classmethod
    def of(cls, *arguments: Any, **named: Any) -> "Task":
        """A task about a new query; arguments of `Query`."""
        return cls(Query(*arguments, **named))

    @classmethod
    def around(cls, *arguments: Any, **named: Any) -> "Task":
        """A task about an image; arguments of `Query.around`."""
        return cls(Query.around(*arguments, **named))

    @property
    def open_forms(self) -> np.ndarray:
        """Indices of the forms of the groups that are not ruled out yet."""
        groups = self.query.groups
        return np.flatnonzero(worst_of(groups, self.bounds)[groups] >= 0)

    def improve(self, forms: np.ndarray, bounds: np.ndarray) -> None:
        """Take bounds `(m,)` of the forms with these indices, where they are better."""
        bounds = np.where(np.isfinite(bounds), bounds, np.inf)
        self.bounds[forms] = np.fmin(self.bounds[forms], bounds)
        self.bound = float(worst_of(self.query.groups, self.bounds).max())

    def decide(self, verdict: str, stage: str) -> None:
        """End the task."""
        self.verdict, self.stage = verdict, stage

    def forget_boxes(self) -> None:
        """Drop the boxes, which can be derived again."""
        self.boxes = self.proved = self.tightening = None

    def release(self) -> None:
        """Drop all that only later stages and a certificate need."""
        self.forget_boxes()
        self.slopes = self.trees = None

    def spend(self, stage: str, seconds: float) -> None:
        """Add seconds to the account of a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def bytes(self) -> int:
        """Bytes of the boxes and of what they are derived from."""
        boxes = (side for box in [*(self.boxes or ()), *(self.proved or ())] for side in box)
        tightening = 0 if self.tightening is None else self.tightening.bytes
        return sum(array.nbytes for array in boxes) + tightening

    @property
    def total_seconds(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

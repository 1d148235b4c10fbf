"""One input, or one property, on its way through the stages of verification."""

from dataclasses import dataclass, field

import numpy as np

from keras_taps.verification.certificate.rounding import inner_interval, input_interval
from keras_taps.verification.graph.unsafe import margin_forms, worst_of


@dataclass
class Task:
    """A box of inputs, what must not be reached in it, and what is known so far.

    Args:
        lower: Float64 array of the shape of one input.
        upper: Array of the same shape.
        forms: Array `(n, outputs)`.
        offset: Array `(n,)`.
        groups: Integer array `(n,)`: it is unsafe if at one input all forms of a group are >= 0.
        index: Number by which the caller knows the task.
        strict: Boolean array `(n,)`: forms that must be > 0 there; by default none.
        inner: `(lower, upper, offset)` for counterexamples, as in `Unsafe`.

    Attributes:
        bounds: Array `(n,)`, the best upper bounds so far, of the fast arithmetic.
        boxes: Boxes of the inputs of ReLUs and max pooling from CROWN in float32, or `None`.
        proved: The checker's in float64, which are believed in later stages, or `None`.
        tightening: The `Tightening` by which `proved` is tighter than CROWN's boxes, or `None`.
        slopes: Array `(n, neurons)` of optimised slopes, NaN where there are none, or `None`.
        trees: List of the proof trees (`Tree`) of branch and bound, or `None`.
        cuts: The `Cuts` that their leaves use, or `None`.
        verdict: 'certified', 'falsified', 'unknown', or `None` while it is open.
        stage: The stage that decided.
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

    lower: np.ndarray
    upper: np.ndarray
    forms: np.ndarray
    offset: np.ndarray
    groups: np.ndarray
    index: int = 0
    strict: np.ndarray = None
    inner: tuple = None
    bounds: np.ndarray = None
    boxes: list = None
    proved: list = None
    tightening: object = None
    slopes: np.ndarray = None
    trees: list = None
    cuts: object = None
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
        if self.strict is None:
            self.strict = np.zeros(len(self.offset), bool)
        if self.inner is None:
            self.inner = self.lower, self.upper, self.offset
        if self.bounds is None:
            self.bounds = np.full(len(self.offset), np.inf)

    @classmethod
    def around(cls, x, label, eps, classes, index=0):
        """The task to prove that no input within `eps` of `x` is taken for another class."""
        forms = margin_forms(label, classes)
        lower, upper = input_interval(x, eps)
        offset, groups = np.zeros(classes - 1), np.arange(classes - 1)
        inner = *inner_interval(x, eps), offset
        return cls(lower, upper, forms, offset, groups, index, inner=inner)

    @property
    def open_forms(self):
        """Indices of the forms of the groups that are not ruled out yet."""
        return np.flatnonzero(worst_of(self.groups, self.bounds)[self.groups] >= 0)

    @property
    def conjunctive(self):
        """Whether some group has several forms."""
        return len(self.groups) > self.groups.max() + 1

    def improve(self, forms, bounds):
        """Take bounds `(m,)` of the forms with these indices, where they are better."""
        bounds = np.where(np.isfinite(bounds), bounds, np.inf)
        self.bounds[forms] = np.fmin(self.bounds[forms], bounds)

    def decide(self, verdict, stage):
        """End the task."""
        self.verdict, self.stage = verdict, stage

    def spend(self, stage, seconds):
        """Add seconds to the account of a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def bytes(self):
        """Bytes of the boxes and of what they are derived from."""
        boxes = (side for box in [*(self.boxes or ()), *(self.proved or ())] for side in box)
        return sum(array.nbytes for array in [*boxes, *(self.tightening or ())])

    @property
    def total_seconds(self):
        """Seconds of all stages."""
        return sum(self.seconds.values())

    def reached(self, values):
        """Whether form values `(n,)` at one point are unsafe: some group has none below 0.

        What is not finite reaches nothing, and 0 is not enough for a strict form.
        """
        enough = np.isfinite(values) & ((values > 0) | ((values == 0) & ~self.strict))
        return bool(np.any(worst_of(self.groups, np.where(enough, 1.0, -1.0)) > 0))

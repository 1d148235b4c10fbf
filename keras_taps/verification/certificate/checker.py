"""The float64 checker: bounds that hold in real arithmetic, re-derived with NumPy alone.

It shares nothing with the code of the fast bounds. Every box is rounded outward, and every linear
form carries a bound on the rounding errors made on its way back (`rounding.py`). What it proves is
about the real arithmetic network whose parameters are those of the graph, for every real input in
the box. Of the rounding errors that the network makes when it runs in float32 `deployed` tells.
"""

import math
from collections.abc import Sequence

import numpy as np

from keras_taps.verification.certificate.curves import CurveLines
from keras_taps.verification.certificate.deadline import NEVER, Deadline
from keras_taps.verification.certificate.leaves import RootBox
from keras_taps.verification.certificate.lines import ReluLines, by_layer, lines_of, replaced
from keras_taps.verification.certificate.rounding import Form
from keras_taps.verification.certificate.tightening import Tightening
from keras_taps.verification.certificate.walk import Walk
from keras_taps.verification.graph.distance import has_distances
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Relu
from keras_taps.verification.graph.traverse import nonlinear

METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")


class Checker:
    """Rigorous bounds on linear forms of the outputs of a graph.

    Args:
        graph: `Graph`.

    Example:

    >>> graph = Graph((Dense(np.array([[1.0, -1.0]]), np.zeros(2)),))
    >>> box = np.array([0.25]), np.array([1.0])
    >>> bound = Checker(graph).upper_bounds(*box, np.array([[-1.0, 1.0]]), np.zeros(1))
    >>> bool(-0.5 <= bound[0] < -0.4999999)
    True
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._absolutes = {}

    def upper_bounds(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        forms: np.ndarray,
        offset: np.ndarray,
        method: str = "crown",
        slopes: np.ndarray | None = None,
        deadline: Deadline = NEVER,
    ) -> np.ndarray:
        """Upper bounds of `forms @ outputs + offset` over a box of inputs.

        Args:
            lower: Array of the shape of one input.
            upper: Array of the same shape.
            forms: Array `(n, outputs)`.
            offset: Array `(n,)`.
            method: 'ibp'; 'crown-ibp': one pass back between the boxes of interval arithmetic;
                'crown': each unstable neuron bounded by a pass of its own before; 'alpha-crown':
                that with the slopes given.
            slopes: For 'alpha-crown' an array `(n, neurons)`: for each form the slopes of the lower
                lines of all activations in order. Whatever they are, the lines are moved to where
                they are sound; NaN stands for the slope that 'crown' takes.
            deadline: `Deadline` at which to give up.

        Returns:
            Array `(n,)`; infinite where a number was not finite on the way.

        Raises:
            OutOfTime: If the deadline has passed.
            ValueError: If the box is empty or not finite, or shapes do not fit.
        """
        return self.bounds_and_boxes(lower, upper, forms, offset, method, slopes, deadline)[0]

    def bounds_and_boxes(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        forms: np.ndarray,
        offset: np.ndarray,
        method: str = "crown",
        slopes: np.ndarray | None = None,
        deadline: Deadline = NEVER,
        boxes: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """`upper_bounds`, and the rigorous boxes they were derived from.

        Args:
            lower: As in `upper_bounds`, like the rest.
            upper: Array.
            forms: Array.
            offset: Array.
            method: Name.
            slopes: Array or `None`.
            deadline: `Deadline`.
            boxes: What this function or `tightened` returned for the same inputs, if they need not
                be derived again: nothing else, for they are believed.

        Returns:
            `(bounds, boxes)`: an array `(n,)`, and a list of pairs of arrays that bound the inputs
            of every activation and max pooling in depth-first order, NaN where one was not finite.
        """
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {METHODS}. Received: {method!r}")
        box = self._checked_box(lower, upper)
        forms, offset = np.asarray(forms, "float64"), np.asarray(offset, "float64")
        if forms.shape != (len(offset), self.graph.outputs):
            raise ValueError(
                f"`forms` must have shape (n, {self.graph.outputs}) and `offset` (n,). "
                f"Received: {forms.shape} and {offset.shape}"
            )
        refine = method in METHODS[2:] and boxes is None
        walk = Walk(self._absolutes, refine, method != "ibp", deadline)
        walk.known = boxes
        with np.errstate(all="ignore"):  # what is not finite ends as an infinite bound
            records = walk.enter(self.graph.nodes, box)
            if method == "alpha-crown" and slopes is not None:
                records = _sloped(records, slopes, len(forms))
            return walk.leave(Form(forms, offset, np.zeros(len(offset))), records), walk.boxes

    def tightened(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        tightening: Tightening,
        deadline: Deadline = NEVER,
        boxes: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The boxes of 'crown', and between them those derived once more with given slopes.

        Args:
            lower: Array of the shape of one input.
            upper: Array of the same shape.
            tightening: `Tightening`; whatever its slopes are, the boxes are sound.
            deadline: `Deadline` at which to give up.
            boxes: As in `bounds_and_boxes`.

        Returns:
            List of boxes, for use as `boxes`.

        Raises:
            OutOfTime: If the deadline has passed.
            ValueError: If the box is empty or not finite, or the tightening is of another network.
        """
        box = self._checked_box(lower, upper)
        relus = (node for node in nonlinear(self.graph.nodes) if isinstance(node, Relu))
        tightening.check(sum(math.prod(node.in_shape) for node in relus))
        with np.errstate(all="ignore"):
            if boxes is None:
                first = Walk(self._absolutes, deadline=deadline)
                first.enter(self.graph.nodes, box)
                boxes = first.boxes
            walk = Walk(self._absolutes, refine=False, deadline=deadline)
            walk.known, walk.tightening = boxes, tightening
            walk.enter(self.graph.nodes, box)
        return walk.boxes

    def root(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        deadline: Deadline = NEVER,
        boxes: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> RootBox:
        """The box as the root of branch and bound: its leaves can be bounded many at a time.

        Args:
            lower: Array of the shape of one input.
            upper: Array of the same shape.
            deadline: `Deadline` at which to give up.
            boxes: As in `bounds_and_boxes`.

        Returns:
            `RootBox`, with the boxes of all neurons from 'crown'.

        Raises:
            OutOfTime: If the deadline has passed.
            ValueError: If the box is empty or not finite, or shapes do not fit.
        """
        box = self._checked_box(lower, upper)
        if has_distances(self.graph.nodes):
            raise ValueError("there is no branch and bound with distance nodes")
        walk = Walk(self._absolutes, refine=boxes is None, deadline=deadline)
        walk.known = boxes
        with np.errstate(all="ignore"):
            records = walk.enter(self.graph.nodes, box)
        return RootBox(walk, records, self.graph.outputs)

    def _checked_box(self, lower, upper):
        lower, upper = np.asarray(lower, "float64"), np.asarray(upper, "float64")
        shape = self.graph.in_shape
        if lower.shape != shape or upper.shape != shape:
            raise ValueError(
                f"`lower` and `upper` must have the shape {shape} of one input. "
                f"Received: {lower.shape} and {upper.shape}"
            )
        if not np.all(np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)):
            raise ValueError("The box must be finite with lower <= upper.")
        return lower, upper


def _sloped(records, slopes, count):
    """The records with the given slopes of so many forms in place of the usual ones."""
    kinds = ReluLines, CurveLines
    lines = lines_of(records, kinds)
    shape = count, sum(own.size.size for own in lines)
    if np.shape(slopes) != shape:
        raise ValueError(f"`slopes` must have shape {shape}. Received: {np.shape(slopes)}")
    parts = by_layer(np.asarray(slopes, "float64"), lines)
    return replaced(records, lambda own: own.with_slopes(next(parts)), kinds)

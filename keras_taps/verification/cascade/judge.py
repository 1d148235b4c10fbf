"""Whether what a search found is a counterexample."""

import numpy as np

from keras_taps.verification.certificate.counterexamples import surely_reached
from keras_taps.verification.certificate.schema import FALSIFIED
from keras_taps.verification.graph.nodes import Sum
from keras_taps.verification.graph.unsafe import ordered, worst_of


class Judge:
    """Decides about points near unsafe sets.

    Args:
        graph: `Graph`.
        checker: `Checker` of the graph.
        own_outputs: Function from inputs `(batch, ...)` to the outputs of the model in its own
            precision, which a counterexample must break too; by default the graph with what each
            of its nodes computes rounded to float32.
    """

    def __init__(self, graph, checker, own_outputs=None):
        self.graph, self.checker = graph, checker
        self._own_outputs = own_outputs or self._rounded

    def accept(self, task, points, stage):
        """Falsify a task by the first of `points` that is unsafe, surely and in the model.

        Points of a search in float32 are moved into the float64 box; the model alone is given them
        rounded to its own precision.

        Returns:
            Whether one was.
        """
        lower, upper, offset = task.query.inner
        low, high = ordered(lower, upper)
        points = np.clip(points.astype("float64"), low, high)
        exact = self.graph(points) @ task.query.forms.T + offset
        for point, values in zip(points, exact, strict=True):
            inside = np.all((point >= low) & (point <= high))
            if inside and self._breaks(task, point, values):
                task.point, task.checked = point, True
                task.decide(FALSIFIED, stage)
                return True
        return False

    def in_float32(self, task):
        """The counterexample of a task, in numbers of float32 if they are one too.

        Others replay it in float32, where numbers that are rounded to it may leave the box. A
        number stays as it is where the box has none of float32.
        """
        low, high = ordered(*task.query.inner[:2])
        with np.errstate(over="ignore"):
            single = task.point.astype("float32")
        single = np.where(single > high, np.nextafter(single, np.float32(-np.inf)), single)
        single = np.where(single < low, np.nextafter(single, np.float32(np.inf)), single)
        single = single.astype("float64")
        single = np.where((single >= low) & (single <= high), single, task.point)
        values = (self.graph(single[None]) @ task.query.forms.T + task.query.inner[2])[0]
        return single if self._breaks(task, single, values) else task.point

    def _breaks(self, task, point, values):
        """Whether a point of the box is unsafe, surely and in the model."""
        if not task.query.reached(values):
            return False
        own = np.asarray(self._own_outputs(point[None])[0], "float64")
        reached = task.query.reached(task.query.forms @ own + task.query.inner[2])
        return reached and self._surely(task, point, values)

    def _surely(self, task, point, values):
        """Whether all forms of some group reach 0 at a point, rounding considered."""
        lower, upper, offset = task.query.inner
        beside = np.where(lower > upper, np.where(point == lower, upper, lower), point)
        reached = np.flatnonzero(worst_of(task.query.groups, values) >= 0)
        return any(
            surely_reached(
                self.checker,
                point,
                task.query.forms[mine],
                offset[mine],
                task.query.strict[mine],
                beside,
            )
            for mine in (task.query.groups == group for group in reached)
        )

    def _rounded(self, points):
        return _in_float32(self.graph.nodes, points.astype("float32"))


def _in_float32(nodes, x):
    for node in nodes:
        if isinstance(node, Sum):
            x = sum(_in_float32(branch, x) for branch in node.branches)
        else:
            x = node(x.astype("float64"))
        x = x.astype("float32")
    return x

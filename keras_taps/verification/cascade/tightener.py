"""When the boxes of inner neurons are tightened: where it pays, and while it is worth its time."""

import time
from dataclasses import dataclass

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.deadline import OutOfTime
from keras_taps.verification.graph.nodes import Relu
from keras_taps.verification.graph.traverse import nonlinear
from keras_taps.verification.search.tighten import TighteningEngine

SHARE = 0.2  # of the time that is left, at most


@dataclass(frozen=True)
class Tightener:
    """Tightens the boxes of tasks.

    Args:
        engine: `TighteningEngine` of the network.
        checker: `Checker` of its graph, or `None` if float32 is enough.
        charged: Whether seconds of compilation count.
        clock: Function that returns the seconds now.
    """

    engine: TighteningEngine
    checker: Checker | None
    charged: bool = False
    clock: object = time.perf_counter

    def tightened(self, tasks, box, boxes, deadlines):
        """The tasks whose boxes became tighter.

        Args:
            tasks: List of open `Task`, a batch.
            box: Their boxes of inputs, float32 arrays `(batch, ...)`.
            boxes: Those of their neurons, as the engine has them.
            deadlines: Their `Deadline`s.
        """
        began, compiled = self.clock(), self.engine.compile_s
        budget = SHARE * min(deadline.left for deadline in deadlines) * len(tasks)

        def going(done):
            spent = self.clock() - began
            if not self.charged:
                spent -= self.engine.compile_s - compiled
            # What is done took so long: all of it must fit.
            return spent <= budget * done if done else budget > 0

        boxes, tightenings = self.engine.tighten(*box, boxes, going=going)
        found = []
        for i, task in enumerate(tasks):
            own = [(low[i], high[i]) for low, high in boxes]
            if len(tightenings[i].asked) and self._take(task, tightenings[i], own, deadlines[i]):
                found.append(task)
        return found

    def _take(self, task, tightening, boxes, deadline):
        """Give a task its tighter boxes, proved ones if they must be; whether there was time."""
        if self.checker is None:
            task.boxes = boxes
        else:
            given = task.lower, task.upper, tightening, deadline, task.proved
            try:
                task.proved = self.checker.tightened(*given)
            except OutOfTime:
                return False
        task.tightening = tightening
        return True


def worth_tightening(graph):
    """Whether tighter boxes pay on a network: ReLUs of dense layers follow on one another.

    A row through convolutions costs many times as much, and with their tighter boxes less was
    proved in the same time than by branch and bound.
    """
    nodes = list(nonlinear(graph.nodes))
    return len(nodes) > 1 and all(
        isinstance(node, Relu) and len(node.in_shape) == 1 for node in nodes
    )

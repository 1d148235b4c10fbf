"""When the boxes of inner neurons are tightened: where it pays, and while it is worth its time."""

import math
import time
from dataclasses import dataclass

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.deadline import OutOfTime
from keras_taps.verification.graph.nodes import Relu
from keras_taps.verification.graph.traverse import nonlinear
from keras_taps.verification.search.tighten import TighteningEngine

SHARES = {True: 0.4, False: 0.03}  # of the time that is left, at most, by whether 0 is far
EACH = 1.0  # seconds an input at most where there are many, as in branch and bound's first round
LEAST = 6.0  # times a pass without cases that cases must have: two splits a bound win too little
FAR = 3.0  # times what slopes of the last forms have won: a few splits do not win as much


@dataclass(frozen=True)
class Tightener:
    """Tightens the boxes of tasks.

    Args:
        engine: `TighteningEngine` of the network.
        checker: `Checker` of its graph, or `None` if float32 is enough.
        clock: Function that returns the seconds now, those of compilation if they count.
    """

    engine: TighteningEngine
    checker: Checker | None
    clock: object = time.perf_counter

    def tightened(self, tasks, before, box, boxes, deadlines, most=math.inf):
        """The tasks whose boxes became tighter.

        Args:
            tasks: List of open `Task`, a batch.
            before: Their bounds before slopes of the last forms were optimised.
            box: Their boxes of inputs, float32 arrays `(batch, ...)`.
            boxes: Those of their neurons, as the engine has them.
            deadlines: Their `Deadline`s.
            most: Seconds a task.
        """
        spent = self._stopwatch()
        shares = [
            SHARES[_far(bound, task.bound)] for task, bound in zip(tasks, before, strict=True)
        ]
        pairs = zip(shares, deadlines, strict=True)
        budget = sum(min(share * deadline.left, most) for share, deadline in pairs)

        went = []

        def going(done):
            # What is done took so long: all of it must fit.
            went.append(spent() <= budget * done if done else budget > 0)
            return went[-1]

        boxes, tightenings = self.engine.tighten(*box, boxes, going=going)
        for task in tasks if all(went) else ():
            task.pass_seconds = spent() / len(tasks)
        return self._taken(tasks, tightenings, boxes, deadlines)

    def by_cases(self, tasks, box, boxes, deadlines, budget):
        """The tasks whose boxes became tighter, by cases.

        Args:
            tasks: List of open `Task`, a batch, that `affords` picked.
            box: As in `tightened`, like the rest.
            boxes: Boxes.
            deadlines: List.
            budget: Seconds for all of them.
        """
        spent = self._stopwatch()

        def affords(done, left):
            return (budget - spent()) * done / (max(spent(), 1e-6) * left)

        before = [task.tightening for task in tasks]
        boxes, tightenings = self.engine.tighten(*box, boxes, affords=affords, before=before)
        return self._taken(tasks, tightenings, boxes, deadlines)

    @staticmethod
    def affords(task, seconds):
        """Whether boxes of a task may be tightened by cases in so many seconds."""
        known = task.tightening is not None and task.pass_seconds is not None
        new = known and task.tightening.cases is None
        return new and LEAST * task.pass_seconds <= seconds < math.inf

    def _stopwatch(self):
        """Function that returns the seconds since now."""
        began = self.clock()
        return lambda: self.clock() - began

    def _taken(self, tasks, tightenings, boxes, deadlines):
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
            given = *task.query.box, tightening, deadline, task.proved
            try:
                task.proved = self.checker.tightened(*given)
            except OutOfTime:
                return False
        task.tightening = tightening
        return True


def tightens(graph):
    """Whether boxes of a network can be tightened: its nonlinear layers are ReLUs, two or more."""
    nodes = list(nonlinear(graph.nodes))
    return len(nodes) > 1 and all(isinstance(node, Relu) for node in nodes)


def _far(before, after):
    """Whether a bound is far from 0, by what optimised slopes have won."""
    return not math.isfinite(before) or after > FAR * (before - after)

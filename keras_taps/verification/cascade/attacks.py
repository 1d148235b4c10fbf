"""Attacks on the open forms of tasks, compiled once for each number of forms and size of batch."""

import time
from dataclasses import dataclass, field

import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.attacks.falsifier import Falsifier
from keras_taps.interval import Interval
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.verification.search.boxes import within
from keras_taps.verification.search.engine import BoundEngine, padded


@dataclass(frozen=True)
class Attacks:
    """Attacks on the float32 network that is built from a graph.

    Args:
        network: `IntervalSequential`.
        engine: `BoundEngine` of the network, on whose account compilation goes.
        seed: Whole number for the random starts.
    """

    network: IntervalSequential
    engine: BoundEngine
    seed: int
    _compiled: dict = field(default_factory=dict)

    def points(self, tasks, stage, options, seconds):
        """A point for each task, as unsafe as was found.

        Args:
            tasks: List of open `Task`.
            stage: Name of the attack.
            options: Its `steps` and `restarts`.
            seconds: How long it may take.

        Returns:
            Array `(tasks, ...)` of inputs.
        """
        if tasks[0].query.conjunctive:  # the forms of a property belong together
            chosen = [np.arange(len(task.query.offset)) for task in tasks]
            groups = tuple(int(group) for group in tasks[0].query.groups)
            forms, offset = gathered(tasks, chosen, exact=True)
        else:
            forms, offset = gathered(tasks, [task.open_forms for task in tasks])
            groups = tuple(range(forms.shape[1]))
        inner = [
            np.stack(side)
            for side in zip(*(within(*task.query.inner[:2]) for task in tasks), strict=True)
        ]
        # Few inputs come here, and an attack is long: its batches may be smaller.
        size = min(self.engine.batch_size, max(8, 2 ** int(np.ceil(np.log2(len(tasks))))))
        arrays = [padded(array, size) for array in (*inner, forms, offset)]
        lower, upper, forms, offset = (
            ops.convert_to_tensor(a.astype(self.network.compute_dtype)) for a in arrays
        )
        given, key = (Interval(lower, upper), forms, offset, self.seed), (stage, groups, size)
        if key not in self._compiled:
            self._compiled[key] = Falsifier(self.network, list(groups), **options)
            if backend.compiles():
                began = time.perf_counter()
                self._compiled[key](*given, seconds=0)
                self.engine.compile_s += time.perf_counter() - began
        points, _ = self._compiled[key](*given, seconds)
        return ops.convert_to_numpy(points)[: len(tasks)]

    def outputs(self, points):
        """Outputs `(batch, outputs)` of the network at an array of inputs."""
        points = ops.convert_to_tensor(points.astype(self.network.compute_dtype))
        return ops.convert_to_numpy(self.network(points))


def gathered(tasks, chosen, exact=False):
    """Forms `(batch, n, outputs)` and offsets of the chosen forms, the first repeated to fill."""
    most = max(len(forms) for forms in chosen)
    total = max(len(task.query.offset) for task in tasks)
    size = most if exact else min(total, 2 ** int(np.ceil(np.log2(max(most, 1)))))
    index = [np.pad(c, (0, size - len(c)), mode="edge") for c in chosen]
    forms = np.stack([task.query.forms[i] for task, i in zip(tasks, index, strict=True)])
    offset = np.stack([task.query.offset[i] for task, i in zip(tasks, index, strict=True)])
    return forms, offset

"""Projected gradient ascent in NumPy, for one property: no backend has to be started for it."""

from functools import partial

import numpy as np

from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.distance import Distance
from keras_taps.verification.graph.nodes import Linear, MaxPool, Relu
from keras_taps.verification.graph.unsafe import ordered

STEPS = (0.25,) * 5 + (0.1,) * 5 + (0.03,) * 5 + (0.01,) * 5  # of the width of the box
TURNS = (0.5,) * 3  # the steps along a random direction of the outputs
TOGETHER = 2**18  # entries of inputs that climb together, at most


def ascend(graph, task, attempt, deadline, seed=0, starts=3):
    """Look for an unsafe input of a task, from several starts for each group that is open.

    Each point climbs on the lowest form of its group, by the sign of the gradient. The first start
    is the centre; the others are drawn, and every second of them goes a few steps along a random
    direction of the outputs before, into other basins.

    Args:
        graph: `Graph`.
        task: `Task`.
        attempt: Function from points `(n, ...)` that says whether one of them was accepted as a
            counterexample.
        deadline: `Deadline`; no step is begun after it.
        seed: Whole number for the starts.
        starts: Starts >= 1 of each group.

    Returns:
        Whether one was.

    References:
        Tashiro et al. 2020, "Diversity can be Transferred" (the turned starts).
    """
    lower, upper = ordered(*task.query.inner[:2])
    open_groups = np.unique(task.query.groups[task.open_forms])
    rng, done = np.random.default_rng(seed), 0
    most = max(1, TOGETHER // (lower.size * max(len(open_groups), 1)))
    while done < starts:
        count = min(most, starts - done) if done else 1
        groups = np.tile(open_groups, count)
        noise = rng.random((len(groups), *lower.shape)) if done else 0.5
        points = lower + noise * (upper - lower)
        points = np.broadcast_to(points, (len(groups), *lower.shape))
        turned = rng.normal(size=(len(groups), graph.outputs)) if done else 0.0
        turned = turned * (np.arange(len(groups)) // len(open_groups) % 2)[:, None]
        with np.errstate(all="ignore"):  # what overflows climbs nowhere
            accepted = _climb(
                graph, task, (lower, upper), points, groups, turned, attempt, deadline
            )
        if accepted:
            return True
        if deadline.left <= 0:
            return False
        done += count
    return False


def _climb(graph, task, box, points, groups, turned, attempt, deadline):
    """Move points of a box up; whether one was accepted."""
    lower, upper = box
    width = upper - lower
    sizes = (*TURNS, *STEPS) if np.any(turned) else STEPS
    for number, size in enumerate((*sizes, 0.0)):
        if deadline.left <= 0:
            return False
        outputs, back = _with_gradient(graph.nodes, points)
        values = outputs @ task.query.forms.T + task.query.inner[2]
        mine = np.where(task.query.groups == groups[:, None], values, np.inf)
        reached = mine.min(1) >= 0
        if reached.any() and attempt(points[reached]):
            return True
        rows = task.query.forms[mine.argmin(1)]
        if len(sizes) > len(STEPS) and number < len(TURNS):
            rows = np.where(np.any(turned, axis=1)[:, None], turned, rows)
        points = np.clip(points + size * width * np.sign(np.nan_to_num(back(rows))), lower, upper)
    return False


def _with_gradient(nodes, x):
    """Outputs of a chain, and the function that sends rows on them back to its inputs."""
    backs = []
    for node in nodes:
        x, back = _step(node, x)
        backs.append(back)

    def all_back(rows):
        for back in reversed(backs):
            rows = back(rows)
        return rows

    return x, all_back


def _step(node, x):
    if isinstance(node, Linear):
        return node(x), node.transpose
    if isinstance(node, Relu):
        slopes = np.where(x > 0, 1.0, node.slope)
        return x * slopes, lambda rows: rows * slopes
    if isinstance(node, Curve):
        slopes = node.slope(x)
        return node(x), lambda rows: rows * slopes
    if isinstance(node, Distance):
        return node(x), partial(node.back, x)
    if isinstance(node, MaxPool):
        windows = node.windows(x)
        winner = windows.argmax(-1)
        chosen = np.take_along_axis(node.members()[None], winner[..., None], -1)[..., 0]

        def unpool(rows):
            out = np.zeros((len(rows), x[0].size))
            np.add.at(
                out,
                (np.arange(len(rows))[:, None], chosen.reshape(len(rows), -1)),
                rows.reshape(len(rows), -1),
            )
            return out.reshape(x.shape)

        return windows.max(-1), unpool
    outs, backs = zip(*(_with_gradient(branch, x) for branch in node.branches), strict=True)
    return sum(outs), lambda rows: sum(back(rows) for back in backs)

"""Branch and bound over the inputs, for networks with few of them.

A box is bounded with rows and constants that hold for all of it, cut down to where the rows still
allow an unsafe point, and halved. Every bound is the checker's own, in float64 with its rounding,
so a box that closes is proved to hold no unsafe input.
"""

from dataclasses import dataclass

import numpy as np

from keras_taps.verification.certificate.clipping import clipped
from keras_taps.verification.certificate.deadline import OutOfTime

EVENLY = 0.3  # weight of an input's own width in the choice of what to split
CLOSED, REACHED, OPEN = "closed", "reached", "open"


@dataclass
class Outcome:
    """What became of a box of inputs.

    Args:
        state: 'closed': no input is unsafe; 'reached': a point was accepted; 'open': the time was
            over, or boxes were left that float64 cannot halve.
        boxes: Number of boxes that were bounded.
        left: Number of boxes that are still open.
    """

    state: str
    boxes: int
    left: int


def split_inputs(bounder, task, attempt, deadline):
    """Search a box of inputs for unsafe points, or prove that it has none.

    Args:
        bounder: `ManyBoxes` or `NestedBoxes` of the graph.
        task: `Task`.
        attempt: Function from points `(n, ...)` that says whether one of them was accepted as a
            counterexample.
        deadline: `Deadline`.

    Returns:
        `Outcome`.
    """
    shape = task.query.lower.shape
    blocks = [(task.query.lower.reshape(1, -1), task.query.upper.reshape(1, -1))]
    bounded, stuck = 0, 0
    edges = blocks[0][1] - blocks[0][0]
    while blocks:
        low, high = _next(blocks, min(bounder.batch, 2 * bounded + 1))
        box = low.reshape(-1, *shape), high.reshape(-1, *shape)
        try:
            found = bounder.bounds(*box, task.query.forms, task.query.offset, deadline)
        except OutOfTime:
            return Outcome(OPEN, bounded, stuck + len(low) + sum(len(low) for low, _ in blocks))
        bounded += len(low)
        low, high, found, deciding = _still_open(found, low, high, task.query.groups)
        if not len(low):
            continue
        points = np.concatenate([np.where(deciding > 0, high, low), low / 2 + high / 2])
        if attempt(points.reshape(-1, *shape)):
            return Outcome(REACHED, bounded, stuck + sum(len(low) for low, _ in blocks))
        halves, small = _halved(low, high, _influence(found.rows, high - low, edges))
        stuck += small
        blocks += [halves] if len(halves[0]) else []
    return Outcome(OPEN if stuck else CLOSED, bounded, stuck)


def _next(blocks, size):
    """Up to `size` boxes from the end of a list of blocks: depth first, so that few wait."""
    taken, count = [], 0
    while blocks and count < size:
        low, high = blocks.pop()
        keep = max(0, len(low) - (size - count))
        if keep:
            blocks.append((low[:keep], high[:keep]))
        taken.append((low[keep:], high[keep:]))
        count += len(low) - keep
    return tuple(np.concatenate(side) for side in zip(*taken, strict=True))


def _still_open(found, low, high, groups):
    """The boxes that may hold unsafe inputs, cut down, what was found of them, and one row each.

    The row is that of the form which decides: the lowest of the group whose lowest is highest.
    """
    worst = np.stack([found.values[:, groups == g].min(1) for g in range(groups.max() + 1)], 1)
    low, high = clipped(low, high, found.rows, found.constant, groups)
    kept = np.flatnonzero(np.any(worst >= 0, axis=1) & ~np.any(low > high, axis=1))
    found = found.of(kept)
    values = np.where(groups == worst[kept].argmax(1)[:, None], found.values, np.inf)
    return low[kept], high[kept], found, found.rows[np.arange(len(kept)), values.argmin(1)]


def _influence(rows, width, edges):
    """How much an input matters `(boxes, inputs)`: its share in the forms, and in the first box.

    The shares of all forms are averaged; a form that looks flat would otherwise be split along
    one input for ever.
    """
    moved = np.abs(np.nan_to_num(rows, posinf=0.0, neginf=0.0)) * width[:, None]
    total = moved.sum(2, keepdims=True)
    shares = (moved / np.where(total > 0, total, 1.0)).mean(1)
    relative = width / np.where(edges > 0, edges, 1.0)
    return shares + EVENLY * relative / np.maximum(relative.sum(1, keepdims=True), 1e-300)


def _halved(low, high, influence):
    """Both halves of every box across its most important input, and how many are too small."""
    at, axis = np.arange(len(low)), influence.argmax(1)
    middle = low[at, axis] / 2 + high[at, axis] / 2
    left, right = high.copy(), low.copy()
    left[at, axis] = right[at, axis] = middle
    real = (low[at, axis] < middle) & (middle < high[at, axis])
    low, high, left, right = low[real], high[real], left[real], right[real]
    return (np.concatenate([low, right]), np.concatenate([left, high])), int(np.sum(~real))

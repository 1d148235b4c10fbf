"""The one loop of projected gradient ascent in a box, for latent and input space alike."""

from collections.abc import Callable, Sequence

from keras import ops

from keras_taps import backend
from keras_taps.checks import check_count, check_real
from keras_taps.interval import Interval
from keras_taps.typing import Tensor


def step_sizes(steps: int, size: float | None = None) -> list[float]:
    """Step sizes of a PGD run, relative to the width of the box.

    Args:
        steps: Number of gradient steps S >= 0.
        size: First step size in (0, 1]; by default `max(0.2, 2 / S)`.

    Returns:
        List of S floats. The size drops to a tenth at 0.7 S when 20 <= S <= 50, at 0.4 S and
        0.7 S up to 80, and at 0.3 S, 0.6 S and 0.8 S above.

    Example:

    >>> [round(size, 3) for size in step_sizes(20)][12:16]
    [0.2, 0.2, 0.02, 0.02]

    References:
        Mao et al. 2023, section 4.1, with the decay of the authors' code.
    """
    steps = check_count("steps", steps)
    if steps == 0:
        return []
    size = max(0.2, 2 / steps) if size is None else check_real("step_size", size, 0, 1, True)
    size = min(size, 1.0)
    drops: tuple[float, ...] = (0.3, 0.6, 0.8)
    if steps <= 80:
        drops = () if steps < 20 else (0.7,) if steps <= 50 else (0.4, 0.7)
    return [
        size * 0.1 ** sum(i >= round(share * steps, 6) for share in drops) for i in range(steps)
    ]


def maximise(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    box: Interval,
    sizes: Sequence[float],
    done: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Projected sign-gradient ascent in a box that keeps the best point it evaluated.

    Points move by `size * width * sign(gradient)` and are clipped to the box. The best of all
    S + 1 evaluations is kept; the start is the first candidate, so that S = 0 and an objective
    that is NaN still give a point of the box. Nothing here is differentiated from outside.

    Args:
        objective: Maps points `(batch, n, ...)` to values `(batch, n)`, to be maximised.
        start: Tensor `(batch, n, ...)` of points in the box.
        box: `Interval` of tensors that broadcast with `start`.
        sizes: List of S step sizes relative to the width of the box.
        done: Maps the best values so far to a boolean scalar, true when the search may end early;
            by default all S steps are taken.

    Returns:
        `(points, values)`: the best point of each entry and its objective.

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """
    move = _mover(objective, box, sizes)

    def step(i, state):
        points, *best = state
        values, moved = move(i, points)
        return moved, *keep_best(best, (points, values))

    worst = ops.full(ops.shape(start)[:2], -float("inf"), dtype=start.dtype)
    points, *best = backend.repeat(step, (start, start, worst), len(sizes), done)
    return keep_best(best, (points, objective(points)))


def climb(
    objective: Callable[[Tensor], Tensor], start: Tensor, box: Interval, sizes: Sequence[float]
) -> Tensor:
    """The steps of `maximise` to their last point, whatever was better on the way.

    Where values are coarse, those of the points of a short box differ by less than they are
    rounded, while signs of gradients still lead up: then the last point is better than the one
    that looked best, and costs fewer passes over memory.

    Args:
        objective, start, box, sizes: As `maximise`.

    Returns:
        Tensor `(batch, n, ...)` of points in the box.
    """
    move = _mover(objective, box, sizes)

    def step(i, state):
        return (move(i, *state)[1],)

    return backend.repeat(step, (start,), len(sizes))[0]


def _mover(objective, box, sizes):
    """Function of a step's number and its points: their values, and the points after the step."""
    table = ops.convert_to_tensor(sizes or [0.0], dtype=box.lower.dtype)
    width = box.width

    def move(i, points):
        values, gradient = backend.input_gradient(objective, points)
        # PyTorch counts in Python, and a number from there costs no copy to a device.
        length = (sizes[i] if isinstance(i, int) else ops.take(table, i)) * width
        return values, backend.ascend(points, gradient, length, box.lower, box.upper)

    return move


def keep_best(best, found):
    """Entry by entry the better of two pairs `(points, values)`; NaN is never better."""
    better = found[1] > best[1]
    mask = ops.reshape(better, (*ops.shape(better), *[1] * (len(found[0].shape) - 2)))
    return ops.where(mask, found[0], best[0]), ops.where(better, found[1], best[1])

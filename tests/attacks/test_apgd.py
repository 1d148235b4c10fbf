import math

import numpy as np
import pytest
from keras import ops

from keras_taps.attacks.apgd import auto_maximise, checkpoints
from keras_taps.interval import Interval
from tests.helpers import close, numbers, numpy, random_box


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, []), (1, []), (10, [3, 5, 6, 7, 8, 9]), (100, None)]
)
def test_checkpoints(steps, expected):
    expected = [22, 41, 57, 70, 80, 87, 93, 99] if expected is None else expected
    assert checkpoints(steps) == expected


def problem(count=3, size=4):
    box = random_box(count, size)
    box = Interval(*(ops.expand_dims(bound, 1) for bound in box))
    start = box.lower + ops.convert_to_tensor(numbers(count, 2, size, low=0)) * box.width
    return box, start


def reference(value, slope, start, lower, upper, steps):
    """Algorithm 1 of Croce & Hein for one point, with the paper's names."""
    marks = [math.ceil(round(p * steps, 6)) for p in (0, 0.22, 0.41, 0.57, 0.7, 0.8, 0.87, 0.93)]
    marks += [math.ceil(round(0.99 * steps, 6))]
    width = upper - lower
    x, eta, best, rises = [start], 1.0, start, 0
    at_mark, halved = value(start), True
    for k in range(steps):
        if k in marks[1:]:
            span = k - marks[marks.index(k) - 1]
            stuck = not halved and value(best) <= at_mark
            halved = rises < 0.75 * span or stuck
            at_mark, rises = value(best), 0
            if halved:
                eta, x[-1] = eta / 2, best
        z = np.clip(x[-1] + eta * width * np.sign(slope(x[-1])), lower, upper)
        new = z if k == 0 else x[-1] + 0.75 * (z - x[-1]) + 0.25 * (x[-1] - x[-2])
        x.append(np.clip(new, lower, upper))
        # A step counts from the point that was evaluated, before a reset.
        rises += value(x[-1]) > value(x[-2])
        best = x[-1] if value(x[-1]) > value(best) else best
    return best


@pytest.mark.parametrize("steps", [0, 1, 10, 50])
def test_algorithm_of_the_paper(steps):
    box, start = problem()
    top, scale = numbers(4, seed=3, high=0.5), numbers(4, seed=4, low=0.5, high=5)
    stretch, peak = (ops.convert_to_tensor(t) for t in (scale, top))
    points, values = auto_maximise(
        lambda z: -ops.sum(stretch * ops.square(z - peak), axis=-1), start, box, steps
    )

    def value(x):
        return -(scale * (x - top) ** 2).sum()

    for i in range(3):
        for n in range(2):
            lower, upper = (bound[i, 0] for bound in numpy(box))
            best = reference(
                value, lambda x: -scale * (x - top), numpy(start)[i, n], lower, upper, steps
            )
            assert numpy(values)[i, n] == pytest.approx(value(best), abs=1e-4)
            close(numpy(points)[i, n], best, 1e-3)


def test_linear_objective_ends_in_the_corner():
    box, start = problem()
    direction = ops.convert_to_tensor(numbers(3, 2, 4, seed=1))
    points, _ = auto_maximise(lambda z: ops.sum(z * direction, axis=-1), start, box, 10)
    close(points, np.where(numpy(direction) > 0, numpy(box.upper), numpy(box.lower)))


def test_points_stay_in_the_box_exactly():
    box, start = problem(20)
    points, values = auto_maximise(lambda z: ops.sum(ops.sin(20 * z), axis=-1), start, box, 30)
    lower, upper = numpy(box)
    assert np.all(numpy(points) >= lower)
    assert np.all(numpy(points) <= upper)
    assert np.all(numpy(values) >= numpy(ops.sum(ops.sin(20 * start), axis=-1)) - 1e-5)


def test_nan_objective_gives_the_start():
    box, start = problem()
    points, _ = auto_maximise(lambda z: ops.sum(z, axis=-1) * float("nan"), start, box, 5)
    close(points, start, 0)


def test_early_stop():
    """Only the start and the point after the first step are evaluated."""
    box = Interval(ops.zeros((1, 1, 1)), ops.ones((1, 1, 1)))
    objective, start = lambda z: -ops.sum(ops.square(z - 0.9), axis=-1), ops.zeros((1, 1, 1))
    points, _ = auto_maximise(objective, start, box, 50, done=lambda values: ops.all(values > -2))
    close(points, [[[1.0]]])
    points, _ = auto_maximise(objective, start, box, 50)
    close(points, [[[0.9]]], 0.01)

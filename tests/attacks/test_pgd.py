import numpy as np
import pytest
from keras import ops

from keras_taps import backend
from keras_taps.attacks import maximise, step_sizes
from keras_taps.interval import Interval
from tests.helpers import assert_contains, close, numbers, numpy, random_box


@pytest.mark.parametrize(
    ("steps", "drops"),
    [
        (1, []),
        (5, []),
        (10, []),
        (19, []),
        (20, [14]),
        (50, [35]),
        (60, [24, 42]),
        (80, [32, 56]),
        (100, [30, 60, 80]),
        (200, [60, 120, 160]),
    ],
)
def test_step_sizes(steps, drops):
    """SPEC section 3: eta = max(0.2, 2 / S), a tenth at fixed shares of the steps."""
    first = min(1.0, max(0.2, 2 / steps))
    expected = [first * 0.1 ** sum(i >= drop for drop in drops) for i in range(steps)]
    np.testing.assert_allclose(step_sizes(steps), expected)


def test_step_size_of_ones_own():
    np.testing.assert_allclose(step_sizes(20, 0.05), [0.05] * 14 + [0.005] * 6)
    assert step_sizes(0) == []


@pytest.mark.parametrize("size", [0, -0.1, 1.5, float("nan")])
def test_bad_step_size(size):
    with pytest.raises(ValueError, match=r"`step_size` must be .*Received"):
        step_sizes(10, size)


def test_bad_steps():
    with pytest.raises(ValueError, match=r"`steps` must be .*Received: steps=-1"):
        step_sizes(-1)


def problem(seed=0):
    box = random_box(3, 4, seed=seed)
    box = Interval(*(ops.expand_dims(bound, 1) for bound in box))
    start = box.lower + ops.convert_to_tensor(numbers(3, 2, 4, low=0)) * box.width
    return box, start


def test_linear_objective_ends_in_the_corner():
    box, start = problem()
    direction = ops.convert_to_tensor(numbers(3, 2, 4, seed=1))
    points, values = maximise(lambda z: ops.sum(z * direction, axis=-1), start, box, step_sizes(20))
    corner = np.where(numpy(direction) > 0, numpy(box.upper), numpy(box.lower))
    close(points, corner)
    close(values, (corner * numpy(direction)).sum(-1))


def test_no_steps_give_the_start():
    box, start = problem()
    points, values = maximise(lambda z: ops.sum(z, axis=-1), start, box, [])
    close(points, start, 0)
    close(values, numpy(start).sum(-1))


def test_nan_objective_gives_a_point_of_the_box():
    box, start = problem()
    points, _ = maximise(lambda z: ops.sum(z, axis=-1) * float("nan"), start, box, [0.2] * 3)
    close(points, start, 0)


def test_best_point_is_kept():
    """Steps far too long overshoot the maximum: the result is never worse than the start."""
    box, start = problem()
    centre = box.centre + 0.03

    def objective(z):
        return -ops.sum(ops.square(z - centre), axis=-1)

    points, values = maximise(objective, start, box, [1.0] * 5)
    assert np.all(numpy(values) >= numpy(objective(start)) - 1e-6)
    close(objective(points), values)
    for n in range(2):
        assert_contains(Interval(box.lower[:, 0], box.upper[:, 0]), numpy(points)[:, n], 0)


def test_points_are_chosen_one_by_one():
    """A point that has arrived does not move on because its neighbour does."""
    box = Interval(ops.zeros((1, 1, 1)), ops.ones((1, 1, 1)))
    start = ops.convert_to_tensor(np.array([[[0.5], [0.0]]], "float32"))
    target = ops.convert_to_tensor(np.array([[[0.5], [0.8]]], "float32"))
    points, _ = maximise(lambda z: -ops.sum((z - target) ** 2, -1), start, box, [0.4, 0.4])
    close(points, target)


def test_search_ends_when_it_is_done():
    """Here after the first step: a longer search would find the corner."""
    box = Interval(ops.zeros((1, 2, 1)), ops.ones((1, 2, 1)))
    points, _ = maximise(
        lambda z: ops.sum(z, axis=-1),
        ops.zeros((1, 2, 1)),
        box,
        [0.25] * 8,
        done=lambda values: ops.all(values >= 0),
    )
    close(points, np.full((1, 2, 1), 0.25))


def test_never_done_is_the_plain_search():
    box, start = problem()

    def objective(z):
        return -ops.sum(ops.square(z - 0.1), axis=-1)

    plain = maximise(objective, start, box, step_sizes(20))
    never = maximise(objective, start, box, step_sizes(20), done=lambda v: ops.all(v > 1))
    close(plain[0], never[0], 0)
    close(plain[1], never[1], 0)


@pytest.mark.parametrize(("enough", "expected"), [(3.0, 3), (100.0, 8)])
def test_repeat(enough, expected):
    (value,) = backend.repeat(
        lambda i, state: (state[0] + 1,), (ops.zeros(()),), 8, lambda value: value >= enough
    )
    assert float(value) == expected

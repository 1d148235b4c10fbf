import numpy as np
import pytest
from keras import ops

from keras_taps.schedules import progress, smooth_eps
from tests.helpers import gradients, numpy


def curve(steps, start=100, end=500, final=0.3):
    return np.array([float(numpy(smooth_eps(int(s), start, end, final))) for s in steps])


def test_end_points_are_exact():
    """Property 10."""
    values = curve([0, 50, 100, 500, 501, 10**6])
    assert np.array_equal(values, np.array([0, 0, 0, 0.3, 0.3, 0.3], "float32").astype(float))


def test_monotone():
    """Property 10."""
    values = curve(range(90, 510, 7))
    assert np.all(np.diff(values) >= 0)
    assert np.all(np.diff(curve(range(101, 500, 7))) > 0)


def test_value_and_slope_are_continuous_at_mid():
    """Property 10: mid is a quarter of the way, at step 200."""
    eps = [float(numpy(smooth_eps(s, 100.0, 500.0, 1.0))) for s in (199.9, 200.0, 200.1)]
    assert eps[2] - eps[1] == pytest.approx(eps[1] - eps[0], rel=0.02)
    slopes = [
        gradients(lambda s: smooth_eps(s, 100.0, 500.0, 1.0), np.float32(s))[1][0]
        for s in (199.99, 200.01)
    ]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-2)


def test_against_the_formula():
    """Fourth power below mid, linear above, in NumPy."""
    start, end, final, mid = 100, 500, 0.3, 200
    # a t^4 up to mid, then the tangent there, which has to end at `final`.
    a = final / ((mid - start) ** 4 + 4 * (mid - start) ** 3 * (end - mid))
    steps = np.array([110, 150, 199, 200, 250, 400, 499])
    below = a * (steps - start) ** 4.0
    tangent = a * (mid - start) ** 4 + 4 * a * (mid - start) ** 3 * (steps - mid)
    np.testing.assert_allclose(curve(steps), np.where(steps < mid, below, tangent), rtol=1e-4)


def test_progress_is_a_straight_line():
    found = [float(numpy(progress(s, 100, 500))) for s in (0, 100, 200, 400, 500, 900)]
    assert found == [0, 0, 0.25, 0.75, 1, 1]
    assert float(numpy(progress(0, 0, 0))) == 1


def test_no_annealing():
    assert float(numpy(smooth_eps(0, 0, 0, 0.25))) == 0.25
    assert float(numpy(smooth_eps(7, 5, 5, 0.25))) == 0.25


def test_one_step():
    assert [float(numpy(smooth_eps(s, 0, 1, 0.25))) for s in (0, 1)] == [0, 0.25]


def test_takes_integer_tensors():
    step = ops.convert_to_tensor(300, dtype="int32")
    assert float(numpy(smooth_eps(step, 100, 500, 0.3))) == pytest.approx(curve([300])[0])

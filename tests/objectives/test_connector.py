import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval
from keras_taps.objectives import connect, connector_weights
from tests.helpers import close, gradients, numbers, numpy

BATCH, COUNT, FEATURES = 3, 2, 8


def problem():
    """Boxes, some without width, and points at lower, upper, middle and random places."""
    lower = numbers(BATCH, FEATURES)
    width = numbers(BATCH, FEATURES, seed=1, low=0.1, high=2)
    width[:, :2] = 0
    upper = lower + width
    share = numbers(BATCH, COUNT, FEATURES, seed=2, low=0)
    points = lower[:, None] + share * (upper - lower)[:, None]
    points[:, :, 2], points[:, :, 3] = lower[:, None, 2], upper[:, None, 3]
    points[:, :, 4] = (lower + upper)[:, None, 4] / 2
    return points.astype("float32"), lower, upper.astype("float32")


def closed_form(points, lower, upper, c):
    """SPEC section 4, in NumPy."""
    lower, upper = lower[:, None], upper[:, None]
    width = upper - lower
    if c == 0:
        weights = (points == lower) * 1.0, (points == upper) * 1.0
    else:
        reach = np.where(width > 0, c * width, 1)
        weights = (
            np.maximum(0, 1 - (points - lower) / reach),
            np.maximum(0, 1 - (upper - points) / reach),
        )
    return tuple(np.where(width <= 1e-5, 0.5, w) for w in weights)


def vjp(points, lower, upper, c):
    upstream = ops.convert_to_tensor(numbers(*points.shape, seed=3))

    def total(z, lo, hi):
        return ops.sum(connect(z, Interval(lo, hi), c) * upstream)

    return numpy(upstream), gradients(total, points, lower, upper)[1]


@pytest.mark.parametrize("c", [0, 0.3, 0.5, 1])
def test_vjp_is_the_closed_form(c):
    """Property 2: summed over the points of a sample; the point itself gets nothing."""
    points, lower, upper = problem()
    upstream, (to_points, to_lower, to_upper) = vjp(points, lower, upper, c)
    weights = closed_form(points, lower, upper, c)
    close(to_lower, (upstream * weights[0]).sum(1))
    close(to_upper, (upstream * weights[1]).sum(1))
    assert not np.any(to_points)


@pytest.mark.parametrize("c", [0.25, 0.5, 1])
def test_vjp_is_that_of_the_stop_gradient_oracle(c):
    """Property 2, by autodiff alone: sg(z) + sg(w) (bound - sg(bound))."""
    points, lower, upper = problem()
    w_lower, w_upper = (
        ops.convert_to_tensor(w.astype("float32")) for w in closed_form(points, lower, upper, c)
    )
    upstream = ops.convert_to_tensor(numbers(*points.shape, seed=3))

    def oracle(lo, hi):
        lo, hi = ops.expand_dims(lo, 1), ops.expand_dims(hi, 1)
        z = ops.convert_to_tensor(points)
        z = z + w_lower * (lo - ops.stop_gradient(lo)) + w_upper * (hi - ops.stop_gradient(hi))
        return ops.sum(z * upstream)

    _, expected = gradients(oracle, lower, upper)
    _, found = vjp(points, lower, upper, c)
    close(found[1], expected[0])
    close(found[2], expected[1])


def test_forward_is_the_point_bit_for_bit():
    points, lower, upper = problem()
    box = Interval(ops.convert_to_tensor(lower), ops.convert_to_tensor(upper))
    assert np.array_equal(numpy(connect(ops.convert_to_tensor(points), box)), points)


def test_linear_connector_sums_to_one():
    """Property 2, c = 1."""
    points, lower, upper = problem()
    lower, upper = lower[:, None], upper[:, None]
    weights = connector_weights(*(ops.convert_to_tensor(t) for t in (points, lower, upper)), 1.0)
    close(weights[0] + weights[1], np.ones_like(points))


def test_binary_connector_is_exact():
    """c = 0: 1 at the bound itself, 0 a hair beside it."""
    points = np.array([[[0.0, 1.0, 1e-6, 0.5]]], "float32")
    bounds = (np.zeros((1, 1, 4), "float32"), np.ones((1, 1, 4), "float32"))
    weights = connector_weights(*(ops.convert_to_tensor(t) for t in (points, *bounds)), 0.0)
    close(weights[0], [[[1, 0, 0, 0]]], 0)
    close(weights[1], [[[0, 1, 0, 0]]], 0)


@pytest.mark.parametrize("c", [0, 1e-30, 0.5, 1])
@pytest.mark.parametrize("width", [0, 1e-38, 1e-12, 1e-8, 1e-6])
def test_narrow_boxes_give_a_half_and_no_nan(c, width):
    """Property 2: d in [0, 1e-6]."""
    lower = np.zeros((1, 3), "float32")
    upper = lower + np.float32(width)
    points = np.stack([lower, upper], 1)
    upstream, (_, to_lower, to_upper) = vjp(points, lower, upper, c)
    close(to_lower, 0.5 * upstream.sum(1))
    close(to_upper, 0.5 * upstream.sum(1))


@pytest.mark.parametrize("c", [-0.1, 1.1, float("nan"), "half"])
def test_bad_c(c):
    with pytest.raises(ValueError, match=r"`c` must be .*Received: c="):
        connect(None, None, c)

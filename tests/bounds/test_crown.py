"""CROWN-IBP bounds: sound, exact where they must be, differentiable, the same on every backend."""

import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import LinearRelaxation, crown_ibp_margins, ibp_margins
from keras_taps.bounds.margins import cross_entropy, logit_margins
from keras_taps.interval import Interval, input_box
from keras_taps.networks import resnet
from tests.helpers import (
    close,
    conv_network,
    dense_network,
    images,
    jitted,
    numpy,
    sample_points,
    weight_gradients,
)

EPS = 0.1


@pytest.fixture(params=["dense", "conv", pytest.param("resnet", marks=pytest.mark.once)])
def problem(request):
    """Network, images, labels."""
    if request.param == "dense":
        return dense_network(batch_norm=True), *images(4, (6,))
    if request.param == "conv":
        return conv_network(), *images(4)
    return resnet((8, 8, 1), 3, width=2, mean=0.4, std=0.5), *images(4, (8, 8, 1))


def bounds_of(network, box, y):
    """CROWN's and IBP's margins, and the fused loss."""

    def found(box):
        relaxation = LinearRelaxation(network, box, y)
        return relaxation.crown_margins(), relaxation.ibp_margins(), relaxation.fused_loss()

    return [numpy(bound) for bound in jitted(found)(box)]


def worst(network, box, labels, index):
    """Largest margins and largest loss over sampled points of one box."""
    one = Interval(*(bound[index : index + 1] for bound in box))
    logits = network(ops.convert_to_tensor(sample_points(one)))
    margins = logit_margins(logits, ops.full((1000,), int(labels[index]), dtype="int32"))
    return numpy(margins).max(0), numpy(cross_entropy(margins)).max()


def test_bounds_hold_at_sampled_points(problem):
    """Property 4 for linear bounds."""
    network, x, y = problem
    margins, _, losses = bounds_of(network, input_box(x, EPS), y)
    for i in range(4):
        margin, loss = worst(network, input_box(x, EPS), y, i)
        assert np.all(margin <= margins[i] + 1e-4 * (1 + np.abs(margin)))
        assert loss <= losses[i] + 1e-4 * (1 + loss)


def test_ibp_of_the_relaxation_is_ibp(problem):
    network, x, y = problem
    box = input_box(x, EPS)
    close(bounds_of(network, box, y)[1], ibp_margins(network, box, y), 1e-5)


def test_radius_zero_gives_the_margins(problem):
    network, x, y = problem
    margins = logit_margins(network(ops.convert_to_tensor(x)), y)
    found, _, fused = bounds_of(network, input_box(x, 0.0), y)
    close(found, margins, 1e-4)
    close(fused, cross_entropy(margins), 1e-3)


def test_linear_classifier_is_exact():
    network = dense_network(hidden=())
    x, y = images(4, (6,))
    box = input_box(x, EPS)
    close(crown_ibp_margins(network, box, y), ibp_margins(network, box, y), 1e-5)


def test_tighter_than_ibp_on_a_network_that_does_not_cross():
    """Without crossing neurons the network is affine in the box, and CROWN is exact."""
    network = dense_network(hidden=(5,))
    network.layers[0].bias.assign(ops.full((5,), 9.0))
    x, y = images(4, (6,))
    box = input_box(x, EPS)
    found = numpy(crown_ibp_margins(network, box, y))
    for i in range(4):
        corners = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T
        lower, upper = numpy(box.lower)[i], numpy(box.upper)[i]
        points = (lower + corners * (upper - lower)).astype("float32")
        labels = ops.full((64,), int(y[i]), dtype="int32")
        exact = numpy(logit_margins(network(ops.convert_to_tensor(points)), labels)).max(0)
        close(found[i], exact, 1e-4)
    assert np.all(found <= numpy(ibp_margins(network, box, y)) + 1e-5)


def test_fused_loss_is_never_looser_than_ibp(problem):
    network, x, y = problem
    _, margins, fused = bounds_of(network, input_box(x, EPS), y)
    ibp = numpy(cross_entropy(margins))
    assert np.all(fused <= ibp + 1e-4 * (1 + ibp))


def test_fused_loss_of_wide_boxes_is_finite():
    network, (x, y) = dense_network(hidden=(30, 30)), images(4, (6,))
    for variable in network.trainable_variables:
        variable.assign(30 * variable.value)
    _, _, fused = bounds_of(network, input_box(x, 0.5), y)
    assert np.all(np.isfinite(fused))


@pytest.mark.parametrize("loss", ["crown", "fused"])
def test_gradient_is_the_slope_of_the_bound(loss):
    """Differentiable in every weight, the slopes of the lines included."""
    network, (x, y) = dense_network(batch_norm=True, seed=3), images(4, (6,))

    def value():
        relaxation = LinearRelaxation(network, input_box(x, EPS), y)
        if loss == "fused":
            return ops.mean(relaxation.fused_loss())
        return ops.mean(cross_entropy(relaxation.crown_margins()))

    variables = network.trainable_variables
    start, found = weight_gradients(value, variables)
    rng = np.random.default_rng(0)
    for variable, gradient in zip(variables, found, strict=True):
        before = numpy(variable).copy()
        direction = rng.normal(size=before.shape).astype("float32")
        direction /= np.linalg.norm(direction)
        values = []
        for h in (1e-3, -1e-3):
            variable.assign(before + h * direction)
            values.append(float(numpy(value())))
        variable.assign(before)
        slope = (values[0] - values[1]) / 2e-3
        assert slope == pytest.approx(float((gradient * direction).sum()), abs=2e-2, rel=5e-2)
    assert max(np.abs(g).max() for g in found) > 0.05
    assert np.isfinite(start)


def test_known_numbers():
    """The same on every backend; worked out by hand."""
    network = dense_network(inputs=2, hidden=(2,), classes=2)
    values = [[[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]]
    for variable, value in zip(network.trainable_variables, values, strict=True):
        variable.assign(np.array(value, "float32"))
    # Neurons a = x + y in [0.5, 1.5] and b = x - y in [-0.5, 0.5]; margin of class 1: b+ - a+.
    box = Interval(ops.convert_to_tensor([[0.25, 0.25]]), ops.convert_to_tensor([[0.75, 0.75]]))
    # Above b+ lies 0.5 b + 0.25, so the margin is below -0.5 x - 1.5 y + 0.25, largest at 1/4.
    close(crown_ibp_margins(network, box, np.array([0])), [[-0.25]])
    close(ibp_margins(network, box, np.array([0])), [[0.0]])

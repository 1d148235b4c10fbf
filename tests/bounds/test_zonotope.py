"""Zonotopes that go forward: IBP without errors, DeepZ with all, sound in between."""

import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import fixed_slope_margins, ibp_margins, zonotope_margins
from keras_taps.bounds.margins import logit_margins
from keras_taps.bounds.nodes import unfold
from keras_taps.bounds.zonotope import ABSTRACTIONS, Zonotope, _through
from keras_taps.interval import Interval, input_box
from keras_taps.layers import (
    IntervalDense,
    IntervalELU,
    IntervalFlatten,
    IntervalLeakyReLU,
    IntervalMaxPooling2D,
    IntervalReLU,
    IntervalResidual,
)
from keras_taps.networks import IntervalSequential, resnet
from tests.helpers import (
    close,
    conv_network,
    dense_network,
    images,
    jitted,
    numpy,
    randomise,
    sample_points,
    weight_gradients,
)

EPS = 0.1


def pooled():
    """A residual block, leaky ReLUs, a maximum over windows and a curve."""
    block = IntervalResidual([[IntervalReLU()], [IntervalLeakyReLU(0.3)]])
    layers = [block, IntervalMaxPooling2D(2), IntervalFlatten(), IntervalDense(4), IntervalELU()]
    return randomise(IntervalSequential([*layers, IntervalDense(3)], input_shape=(4, 4, 1)))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(lambda: dense_network(hidden=(5, 4)), (6,), id="dense"),
        pytest.param(pooled, (4, 4, 1), marks=pytest.mark.once, id="pooled"),
        pytest.param(conv_network, (6, 6, 1), marks=pytest.mark.once, id="conv"),
        pytest.param(
            lambda: resnet((8, 8, 1), 3, width=1), (8, 8, 1), marks=pytest.mark.once, id="resnet"
        ),
    ],
)
def test_abstractions(make, shape):
    """Sound at samples; without errors IBP, with all DeepZ, hBox inside IBP; radius 0 is exact."""
    network, (x, y) = make(), images(3, shape)

    @jitted
    def measured(box, y, points, labels):
        margins = [zonotope_margins(network, box, y, name) for name in ABSTRACTIONS]
        others = [ibp_margins(network, box, y), logit_margins(network(points), labels)]
        if make is not pooled:  # a maximum has no slope
            others.append(fixed_slope_margins(network, box, y))
        return margins, others

    box = input_box(x, EPS)
    each = (Interval(*(bound[i : i + 1] for bound in box)) for i in range(3))
    points = np.concatenate([sample_points(part, 300) for part in each])
    labels = np.repeat(y, 300)
    margins, (ibp, reached, *deepz) = measured(box, y, ops.convert_to_tensor(points), labels)
    found = dict(zip(ABSTRACTIONS, map(numpy, margins), strict=True))
    slack = 1e-4 * (1 + np.abs(numpy(ibp)))
    close(found["box"], ibp, 1e-4)
    assert np.all(found["hbox"] <= numpy(ibp) + slack)
    for expected in deepz:
        close(found["deepz"], expected, 1e-3)
    reached = numpy(reached).reshape(3, 300, -1).max(1)
    for name, bounds in found.items():
        assert np.all(reached <= bounds + slack), name
    points = np.repeat(x, 300, axis=0)
    margins, (_, clean, *_) = measured(input_box(x, 0.0), y, ops.convert_to_tensor(points), labels)
    for bounds in margins:
        close(bounds, numpy(clean)[::300], 1e-3)


@pytest.mark.once
def test_without_crossing_neurons_it_is_the_image_of_the_box():
    """Vertices of a box in the plane; only the abstraction without shared errors is looser."""
    network = dense_network(inputs=2, hidden=(5, 4))
    for layer in network.layers[:-1:2]:
        layer.bias.assign(ops.full(layer.bias.shape, 30.0))
    x, y = images(1, (2,))
    ends = np.stack(np.meshgrid(*[[-EPS, EPS]] * 2), -1).reshape(-1, 2).astype("float32")
    box = Interval(*(ops.convert_to_tensor(x + sign * EPS) for sign in (-1, 1)))
    labels = ops.full((4,), int(y[0]), dtype="int32")
    exact = numpy(logit_margins(network(ops.convert_to_tensor(x + ends)), labels)).max(0)
    for name in ABSTRACTIONS[1:]:
        close(zonotope_margins(network, box, y, name)[0], exact, 1e-3)
    assert np.all(numpy(zonotope_margins(network, box, y, "box"))[0] > exact)


def test_a_difference_that_shares_its_errors():
    """relu(x) - x on [-1, 3], worked out by hand: DeepZ has [-0.75, 1], flat lines [-3, 4]."""
    block = IntervalResidual([[IntervalReLU()], [IntervalDense(1, use_bias=False)]])
    network = IntervalSequential([block, IntervalDense(2, use_bias=False)], input_shape=(1,))
    network.trainable_variables[0].assign([[-1.0]])
    box = Interval(ops.convert_to_tensor([[-1.0]]), ops.convert_to_tensor([[3.0]]))
    expected = dict.fromkeys(("box", "hbox"), (-3, 4)) | dict.fromkeys(("hdiag", "hswitch"), (0, 1))
    expected |= dict.fromkeys(("hzono", "deepz"), (-0.75, 1))
    for name, (low, high) in expected.items():
        found = _through(unfold([block]), Zonotope.of(box, name), name)
        close(found.box, Interval([[low]], [[high]]))


@pytest.mark.once
def test_gradients_are_finite():
    network, (x, y) = dense_network(hidden=(5, 4), batch_norm=True), images(3, (6,))
    box = input_box(x, EPS)

    def total():
        return sum(ops.mean(zonotope_margins(network, box, y, name)) for name in ABSTRACTIONS)

    _, found = weight_gradients(total, network.trainable_variables)
    assert all(np.all(np.isfinite(gradient)) for gradient in found)
    with pytest.raises(
        ValueError, match=r"`abstraction` must be one of 'box', .*Received: abstraction="
    ):
        zonotope_margins(network, box, y, "zono")

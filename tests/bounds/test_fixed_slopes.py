"""Fixed-slope bounds: the numbers of a zonotope that goes forward, sound, exact where they must."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import (
    LinearRelaxation,
    crown_ibp_margins,
    fixed_slope_margins,
    fixed_slopes,
    ibp_margins,
)
from keras_taps.bounds.margins import logit_margins
from keras_taps.bounds.nodes import concretise
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
from keras_taps.networks import IntervalSequential, cnn3, resnet
from keras_taps.training import ConvexModel
from tests.helpers import (
    BACKEND,
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


def activated(layer):
    """A Dense network of three hidden layers with another activation."""
    layers = [part for _ in range(3) for part in (IntervalDense(5), layer())]
    return randomise(IntervalSequential([*layers, IntervalDense(3)], input_shape=(6,)))


PROBLEMS = {
    "dense": lambda: (dense_network(hidden=(6, 5, 4, 4)), (6,)),
    "conv": lambda: (conv_network(), (6, 6, 1)),
    "leaky": lambda: (activated(lambda: IntervalLeakyReLU(0.1)), (6,)),
    "elu": lambda: (activated(IntervalELU), (6,)),
    "resnet": lambda: (resnet((8, 8, 1), 3, width=1, mean=0.4, std=0.5), (8, 8, 1)),
}


LARGEST = pytest.param("resnet", marks=pytest.mark.once)  # half of the time to compile


@pytest.fixture(params=[*list(PROBLEMS)[:-1], LARGEST])
def problem(request):
    """Network, images, labels."""
    network, shape = PROBLEMS[request.param]()
    return network, *images(3, shape)


def margins_of(network):
    """The margins of images in boxes."""
    return jitted(lambda box, y: fixed_slope_margins(network, box, y))


def zonotope(layers, centre, errors):
    """Forward through ReLU layers: centre `(1, ...)` and errors `(n, ...)`, by no linear bound."""
    for layer in layers:
        if isinstance(layer, IntervalResidual):
            parts = [zonotope(branch, centre, errors) for branch in layer.branches]
            # Branches share the errors that came in; those that they added are their own.
            shared, total = len(errors), sum(numpy(part[0]) for part in parts)
            common = sum(part[1][:shared] for part in parts)
            centre = total
            errors = np.concatenate([common, *(part[1][shared:] for part in parts)])
        elif isinstance(layer, IntervalReLU):
            radius = np.abs(errors).sum(0, keepdims=True)
            low, high = centre - radius, centre + radius
            crossing = (low < 0) & (high > 0)
            slope = np.where(crossing, high / np.where(crossing, high - low, 1), high > 0)
            half = np.where(crossing, -low * slope / 2, 0)
            new = np.eye(half.size).reshape(half.size, *half.shape[1:]) * half
            new = new[crossing.ravel()]
            centre, errors = slope * centre + half, np.concatenate([slope * errors, new])
        else:
            zero = layer(ops.zeros(centre.shape, "float32"))
            errors = in_blocks(layer, errors) - numpy(zero)
            centre = numpy(layer(ops.convert_to_tensor(centre.astype("float32"))))
    return centre, errors


def in_blocks(layer, rows, size=64):
    """The layer on many rows, by blocks of one shape."""
    missing = -len(rows) % size
    padded = np.concatenate([rows, np.zeros((missing, *rows.shape[1:]))]).astype("float32")
    parts = padded.reshape(-1, size, *rows.shape[1:])
    return np.concatenate([numpy(layer(ops.convert_to_tensor(p))) for p in parts])[: len(rows)]


@pytest.mark.parametrize("name", ["dense", "conv", LARGEST])
def test_equals_the_forward_zonotope(name):
    network, shape = PROBLEMS[name]()
    x, y = images(3, shape)
    box = input_box(x, EPS)
    found = numpy(margins_of(network)(box, y))
    for i in range(3):
        centre, radius = numpy(box.centre)[i : i + 1], numpy(box.radius)[i]
        errors = np.eye(radius.size).reshape(-1, *radius.shape) * radius
        centre, errors = zonotope(network.layers, centre, errors)
        wrong = [k for k in range(3) if k != y[i]]
        rows = [(centre[0, k] - centre[0, y[i]], errors[:, k] - errors[:, y[i]]) for k in wrong]
        close(found[i], [c + np.abs(g).sum() for c, g in rows], 1e-3)


def test_bounds_hold_at_sampled_points(problem):
    network, x, y = problem
    box = input_box(x, EPS)
    margins = numpy(margins_of(network)(box, y))
    for i in range(len(x)):
        points = sample_points(Interval(*(bound[i : i + 1] for bound in box)))
        labels = ops.full((1000,), int(y[i]), dtype="int32")
        found = numpy(logit_margins(network(ops.convert_to_tensor(points)), labels)).max(0)
        assert np.all(found <= margins[i] + 1e-4 * (1 + np.abs(margins[i])))


def test_radius_zero_gives_the_margins(problem):
    network, x, y = problem
    margins = logit_margins(network(ops.convert_to_tensor(x)), y)
    close(margins_of(network)(input_box(x, 0.0), y), margins, 1e-3)


def test_chunks_change_nothing():
    network, (x, y) = conv_network(), images(3)
    box = input_box(x, EPS)
    whole, *parts = (
        jitted(lambda box, n=n: fixed_slope_margins(network, box, y, **n))(box)
        for n in ({}, {"floats": 1}, {"floats": 500})
    )
    for part in parts:
        close(part, whole, 1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere a batch is known when it comes")
def test_parts_are_small_where_the_batch_is_not_known(monkeypatch):
    """TensorFlow's evaluation knows no batch size when it is traced; all rows at once take GBs."""
    sizes = []

    def spy(box, rows, constant):
        sizes.append((rows.shape[0] or 256) * rows.shape[1])
        return concretise(box, rows, constant)

    monkeypatch.setattr(fixed_slopes, "concretise", spy)
    network = cnn3((28, 28, 1), 10, width=4)
    model = ConvexModel(network, eps=EPS)
    model.compile()
    x, y = images(3, (28, 28, 1))
    model.evaluate(x, y, batch_size=2, verbose=0)
    assert sizes
    assert max(sizes) * 28 * 28 <= 2**24


def test_stable_neurons_are_exact_as_with_crown():
    network = dense_network(hidden=(5, 4))
    for layer in network.layers[:-1:2]:
        layer.bias.assign(ops.full(layer.bias.shape, 30.0))
    x, y = images(3, (6,))
    box = input_box(x, EPS)
    close(fixed_slope_margins(network, box, y), crown_ibp_margins(network, box, y), 1e-4)


def test_a_difference_that_shares_its_errors():
    """relu(x) - x on [-1, 3] lies in [-0.75, 1] by DeepZ, worked out by hand."""
    block = IntervalResidual([[IntervalReLU()], [IntervalDense(1, use_bias=False)]])
    network = IntervalSequential([block, IntervalDense(2, use_bias=False)], input_shape=(1,))
    network.trainable_variables[0].assign([[-1.0]])
    network.trainable_variables[1].assign([[1.0, 0.0]])
    box = Interval(ops.convert_to_tensor([[-1.0]]), ops.convert_to_tensor([[3.0]]))
    close(fixed_slope_margins(network, box, np.array([1])), [[1.0]])
    close(fixed_slope_margins(network, box, np.array([0])), [[0.75]])


def test_refined_boxes_are_what_makes_it_tight():
    """As CROWN with boxes of IBP, it loses to itself with its own boxes in a deeper network."""
    network, (x, y) = dense_network(hidden=(12, 12, 12, 12)), images(8, (6,))
    box = input_box(x, EPS)
    found = numpy(margins_of(network)(box, y)).mean()
    assert found < numpy(LinearRelaxation(network, box, y).crown_margins()).mean()
    assert found < numpy(ibp_margins(network, box, y)).mean()


@pytest.mark.skipif(BACKEND != "torch", reason="the exact solver knows no backend: one is enough")
def test_never_below_the_exact_maximum():
    from keras_taps.verification.bridges.from_keras import read_network
    from keras_taps.verification.exact.milp import exact_bound
    from tests.verification.helpers import interval_boxes

    keras.utils.set_random_seed(0)
    network = cnn3((8, 8, 1), 3, width=1)
    x, y = images(2, (8, 8, 1))
    box = input_box(x, 0.05)
    found = numpy(fixed_slope_margins(network, box, y))
    graph = read_network(network)
    for i in range(2):
        lower, upper = (numpy(bound)[i].astype("float64") for bound in box)
        boxes = interval_boxes(graph, lower, upper)
        for place, k in enumerate(k for k in range(3) if k != y[i]):
            weights = np.zeros(3)
            weights[k], weights[y[i]] = 1, -1
            exact = exact_bound(graph, lower, upper, weights, 0.0, boxes)
            assert found[i, place] >= exact.value - 1e-5


def test_gradients_of_every_weight_are_finite():
    network, (x, y) = dense_network(hidden=(5, 4, 4), batch_norm=True), images(3, (6,))
    box = input_box(x, EPS)
    _, found = weight_gradients(
        lambda: ops.mean(fixed_slope_margins(network, box, y)), network.trainable_variables
    )
    assert all(np.all(np.isfinite(gradient)) for gradient in found)
    assert max(np.abs(gradient).max() for gradient in found) > 0.05


def test_max_pooling_has_no_slope():
    network = IntervalSequential(
        [IntervalMaxPooling2D(2), IntervalFlatten(), IntervalDense(3)], input_shape=(6, 6, 1)
    )
    x, y = images(2)
    with pytest.raises(ValueError, match=r"maximum over windows.*Accepted: ReLUs"):
        fixed_slope_margins(network, input_box(x, EPS), y)

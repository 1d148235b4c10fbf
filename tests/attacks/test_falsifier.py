import numpy as np
import pytest
from keras import ops

from keras_taps.attacks import Falsifier, falsifier, falsify
from keras_taps.attacks.falsifier import all_reached, group_members
from keras_taps.interval import Interval
from keras_taps.layers import IntervalDense, IntervalReLU
from keras_taps.networks import IntervalSequential
from tests.helpers import BACKEND, close, conv_network, dense_network, numbers, numpy, random_box


def identity(size=2):
    network = IntervalSequential([IntervalDense(size)], input_shape=(size,))
    network.layers[0].kernel.assign(np.eye(size))
    return network


def boxes(lower, upper):
    return Interval(*(ops.convert_to_tensor(np.array(b, "float32")) for b in (lower, upper)))


def forms(weights, offset, batch=1):
    """The same forms for each input."""
    both = (np.array(weights, "float32"), np.array(offset, "float32"))
    return [ops.convert_to_tensor(np.repeat(part[None], batch, 0)) for part in both]


UNIT = boxes([[0, 0]], [[1, 1]])


# The two of group 3 hold in a corner; those of group 7 contradict each other.
CONJUNCTIONS = forms([[1, 0], [1, 0], [0, 1], [-1, 0]], [-0.5, -0.5, -0.7, 0.2])


def test_conjunction_that_is_reached():
    """Then the search of that input is over, whatever the other group has come to."""
    points, values = (numpy(t) for t in falsify(identity(), UNIT, *CONJUNCTIONS, [3, 7, 3, 7]))
    assert values[0, 0] >= 0
    assert np.all(points[0, 0] >= [0.5, 0.7])
    assert values[0, 1] < 0


def test_conjunction_out_of_reach():
    """Its forms are equal at 0.35."""
    points, values = falsify(identity(), UNIT, *(part[:, 1::2] for part in CONJUNCTIONS), [7, 7])
    close(values, [[-0.15]], 0.03)
    close(numpy(points)[0, 0, 0], 0.35, 0.03)


def test_each_form_alone_ends_in_its_corner():
    directions = numbers(5, 2, seed=1)
    weights, offset = forms(directions, [-9] * 5)
    points, values = falsify(identity(), UNIT, weights, offset, np.arange(5))
    close(points, (directions > 0)[None].astype("float32"))
    close(values, np.maximum(directions, 0).sum(-1)[None] - 9)


def test_ties_are_reached():
    weights, offset = forms([[-1, 0]], [0])
    _, values = falsify(identity(), UNIT, weights, offset, [0])
    assert numpy(values)[0, 0] == 0


def test_box_without_width_gives_its_point():
    network, box = dense_network(), random_box(4, 6)
    point = Interval(box.lower, box.lower)
    weights, offset = forms(numbers(2, 3), [0.1, 0.2], 4)
    points, values = falsify(network, point, weights, offset, [0, 0], restarts=2)
    close(points, numpy(box.lower)[:, None], 0)
    logits = numpy(network(box.lower))
    close(values, (logits @ numbers(2, 3).T + [0.1, 0.2]).min(-1, keepdims=True))


@pytest.mark.parametrize("make", [dense_network, conv_network])
def test_values_are_those_of_the_points(make):
    """Forms of their own for each input; points lie in the box exactly."""
    network = make()
    box = random_box(4, *network.input_shape[1:], seed=2)
    weights, offset, groups = numbers(4, 5, 3, seed=3), numbers(4, 5, seed=4) - 5, [0, 1, 2, 1, 1]
    points, values = (
        numpy(t) for t in falsify(network, box, weights, offset, groups, steps=5, restarts=2)
    )
    assert points.shape == (4, 3, *network.input_shape[1:])
    lower, upper = (bound[:, None] for bound in numpy(box))
    assert np.all(points >= lower)
    assert np.all(points <= upper)
    logits = numpy(network(points.reshape(12, *points.shape[2:]))).reshape(4, 3, 3)
    found = np.einsum("bno,bgo->bgn", weights, logits) + offset[:, None]
    for g, members in enumerate([[0], [1, 3, 4], [2]]):
        close(values[:, g], found[:, g, members].min(-1), 1e-4)


def test_first_start_is_the_centre():
    box = random_box(3, 2)
    weights, offset = forms([[1, 0]], [0], 3)
    close(falsify(identity(), box, weights, offset, [0], steps=0)[0][:, 0], box.centre)


def flat_around_the_centre():
    """`relu(x - 0.6) - 0.1`: no gradient at the centre of [0, 1]."""
    network = IntervalSequential(
        [IntervalDense(1), IntervalReLU(), IntervalDense(1)], input_shape=(1,)
    )
    for weight, value in zip(network.weights, ([[1]], [-0.6], [[1]], [-0.1]), strict=True):
        weight.assign(value)
    return network


def test_restarts_are_random_starts():
    network, box = flat_around_the_centre(), boxes([[0]], [[1]])
    weights, offset = forms([[1]], [0])
    _, alone = falsify(network, box, weights, offset, [0])
    close(alone, [[-0.1]])
    _, values = falsify(network, box, weights, offset, [0], restarts=30)
    assert numpy(values)[0, 0] >= 0


def test_seed_decides():
    network, box = flat_around_the_centre(), boxes([[0.7]] * 20, [[1]] * 20)
    weights, offset = forms([[1]], [-9], 20)
    first, same, other = (
        numpy(falsify(network, box, weights, offset, [0], seed=s, steps=0, restarts=2)[0])
        for s in (0, 0, 1)
    )
    close(first, same, 0)
    assert not np.allclose(first, other)


def test_latent_box_of_a_segment():
    network = dense_network()
    extractor, classifier = network.split(1)
    box = extractor(random_box(4, 6))
    weights, offset = forms(numbers(2, 3), [0, 0], 4)
    points, values = falsify(classifier, box, weights, offset, [0, 1], steps=3)
    assert points.shape == (4, 2, *box.lower.shape[1:])
    logits = numpy(classifier(points[:, 1]))
    close(numpy(values)[:, 1], logits @ numbers(2, 3)[1])


def test_nan_is_never_better():
    network = dense_network()
    network.layers[-1].bias.assign([np.nan] * 3)
    box = random_box(4, 6)
    points, values = falsify(network, box, *forms([[1, 0, 0]], [0], 4), [0])
    assert np.all(numpy(values) == -np.inf)
    close(points[:, 0], box.centre)


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is compiled there")
def test_compiled_once(monkeypatch):
    """Python runs the search only to trace it; weights are read anew all the same."""
    original, calls = falsifier.maximise, []
    monkeypatch.setattr(falsifier, "maximise", lambda *a: calls.append(1) or original(*a))
    network = identity()
    search = Falsifier(network, [0], steps=2, restarts=3)
    for offset in (-5, -4):
        search(UNIT, *forms([[1, 0]], [offset]), seed=1)
    before = search(UNIT, *forms([[1, 0]], [-5]))[1]
    network.layers[0].kernel.assign(2 * np.eye(2))
    close(search(UNIT, *forms([[1, 0]], [-5]))[1], before + 1)
    assert len(calls) == 2  # the walk that diversifies the start, and the search


def test_restarts_end_when_all_is_reached():
    """Not one start after the first is drawn."""
    search = Falsifier(identity(), [0, 1], steps=0, restarts=3)
    run, calls = search._run, []
    search._run = lambda *a: calls.append(1) or run(*a)
    search(UNIT, *forms([[1, 0], [1, 0]], [0, -9]))
    assert len(calls) == 1
    search(UNIT, *forms([[1, 0], [1, 0]], [-9, -9]))
    assert len(calls) == 1 + 3
    search(UNIT, *forms([[1, 0], [1, 0]], [-9, -9]), seconds=0)
    assert len(calls) == 1 + 3 + 1


def test_all_reached():
    """One group of each input is enough."""
    for values, expected in (([[0, -1], [-1, 2]], True), ([[0, 1], [-1, -2]], False)):
        assert bool(all_reached(ops.convert_to_tensor(np.array(values, "float32")))) is expected


@pytest.mark.parametrize("groups", [[], [[0]], [0.5], "ab"])
def test_bad_groups(groups):
    with pytest.raises(ValueError, match=r"`groups` must hold.*Received"):
        group_members(groups)


@pytest.mark.parametrize(
    ("weights", "offset"), [((1, 2, 2), (1, 1)), ((2, 1, 2), (2, 1)), ((1, 2), (1, 1))]
)
def test_bad_shapes(weights, offset):
    with pytest.raises(ValueError, match=r"one form for each entry of `groups`\. Received"):
        falsify(identity(), UNIT, np.zeros(weights), np.zeros(offset), [0])


def test_bad_restarts():
    with pytest.raises(ValueError, match="`restarts` must be"):
        Falsifier(identity(), [0], restarts=0)

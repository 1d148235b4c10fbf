import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops

from keras_taps.bounds import certified, ibp_margins
from keras_taps.bounds.margins import cross_entropy, margin_rows, point_margins
from keras_taps.interval import input_box
from keras_taps.layers import Pass
from keras_taps.layers.residual import walk
from keras_taps.networks import resnet
from tests.helpers import (
    close,
    conv_network,
    dense_network,
    images,
    numpy,
    random_box,
    randomise,
    sample_points,
)


def margins_of(network, points, label):
    """Margins at points, from the logits."""
    logits = numpy(network(ops.convert_to_tensor(points)))
    return np.delete(logits - logits[:, [label]], label, axis=1)


@hypothesis.given(
    seed=st.integers(0, 10**6),
    width=st.sampled_from([0.0, 1e-3, 0.1, 1.0, 3.0]),
    label=st.integers(0, 2),
    batch_norm=st.booleans(),
)
def test_no_sampled_margin_exceeds_its_bound(seed, width, label, batch_norm):
    """Property 4, through whole random networks."""
    network = dense_network(batch_norm=batch_norm, seed=seed)
    box = random_box(1, 6, seed=seed, width=width)
    bound = numpy(ibp_margins(network, box, np.array([label])))
    margins = margins_of(network, sample_points(box, seed=seed), label)
    assert np.all(margins <= bound + 1e-5 * (1 + np.abs(margins)))


@pytest.mark.parametrize(
    "network",
    [conv_network, lambda: randomise(resnet((7, 5, 2), 3, width=1, mean=0.4, std=0.3))],
    ids=["conv", "resnet"],
)
def test_convolutional_networks(network):
    """Property 4: stride 2, odd sizes, batch normalisation with negative gammas."""
    network = network()
    x, y = images(1, network.input_shape[1:])
    box = input_box(x, 0.1)
    bound = numpy(ibp_margins(network, box, y))
    margins = margins_of(network, sample_points(box), int(y[0]))
    assert np.all(margins <= bound + 1e-5 * (1 + np.abs(margins)))


@pytest.mark.parametrize("training", [False, True])
def test_radius_zero_gives_the_cross_entropy(training):
    """Property 7, by moving averages and by the batch statistics of training."""
    network = conv_network()
    x, y = images()
    taken = {}
    logits = network(ops.convert_to_tensor(x), training=training, given=Pass(taken=taken))
    logits = numpy(logits).astype("float64")
    segment = network.under(Pass(moments=taken))
    loss = cross_entropy(ibp_margins(segment, input_box(x, 0.0), y))
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(8), y]
    close(loss, expected, 1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("relus", [0, 1, 2, 3])
def test_bounds_through_two_blocks_equal_the_whole(relus, training):
    """Property 7."""
    network = conv_network()
    x, y = images()
    box = input_box(x, 0.05)
    given = Pass()
    if training:
        given = network.replay(network.clean_pass(ops.convert_to_tensor(x)).moments)
    extractor, classifier = network.split(relus, given)
    expected = ibp_margins(network.under(given), box, y)
    close(ibp_margins(classifier, extractor(box), y), expected)


def test_margins_are_elided():
    """The last layer is merged with the differences: tighter than the box of logits."""
    network, box, y = dense_network(), random_box(3, 6), np.array([0, 1, 2])
    features = walk(network.layers[:-1], box)
    bound = numpy(ibp_margins(network, box, y))
    logits = numpy(network(box))
    for b in range(3):
        loose = np.delete(logits.upper[b] - logits.lower[b, y[b]], y[b])
        assert np.all(bound[b] <= loose + 1e-6)
        assert np.any(bound[b] < loose - 1e-3)
    rows = margin_rows(network.layers[-1], y)
    centre = point_margins(rows, features.centre[:, None, :])
    assert np.all(numpy(centre) <= bound + 1e-6)


def test_certified_inputs_keep_their_class():
    """Whoever is certified is classified the same over the whole box."""
    network = dense_network(seed=2)
    box = random_box(1, 6, width=0.02)
    label = int(numpy(network(box.lower)).argmax())
    assert bool(numpy(certified(ibp_margins(network, box, np.array([label]))))[0])
    assert np.all(numpy(network(ops.convert_to_tensor(sample_points(box)))).argmax(1) == label)

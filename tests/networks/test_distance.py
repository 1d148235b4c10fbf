"""Distance nets: their layers, their start, and what cannot be done with them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import crown_ibp_margins, fixed_slope_margins
from keras_taps.interval import input_box
from keras_taps.networks import distance_net, sortnet_mlp
from keras_taps.objectives import l1_penalty
from keras_taps.training import METHODS
from tests.helpers import close, images, numpy

SHAPE = (4, 4, 1)


def test_a_fresh_network_passes_its_inputs_on():
    """Where neurons are no fewer than inputs, each passes one of them on, from layer to layer."""
    network = distance_net(SHAPE, 3, width=20, depth=4, pass_on=100.0)
    x, _ = images(8, SHAPE)
    hidden = network.segment.body.layers[:-1]
    found = ops.convert_to_tensor(x)
    for layer in hidden:
        found = layer(found)
    pixels = x.reshape(8, 16)
    close(found[:, :16], pixels + 300, 1e-4)  # 100 a layer
    close(found[:, 16:20], pixels[:, :4] + 300, 1e-4)


def test_logits_are_minus_distances_and_the_sign_is_not_trained():
    network = distance_net(SHAPE, 3, width=5, depth=2, mean=0.2, std=0.5)
    x, _ = images(8, SHAPE)
    close(network(x), -numpy(network.segment.body(ops.convert_to_tensor(x))), 1e-6)
    assert not network.layers[-1].trainable_variables
    assert float(numpy(l1_penalty(network))) == 0
    assert [layer.mean_shift for layer in network.distances] == [True, False]


@pytest.mark.parametrize("make", [distance_net, sortnet_mlp])
def test_keep_is_for_all_but_the_pixels_and_files_keep_everything(make, tmp_path):
    network = make(SHAPE, 3, width=12, depth=4, keep=0.6, pass_on=10.0)
    assert {layer.keep for layer in network.distances[1:]} == {0.6}
    assert network.distances[0].keep == 1
    x, _ = images(4, SHAPE)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    close(loaded(x), network(x), 0)
    assert len(loaded.trainable_variables) == len(network.trainable_variables)


@pytest.mark.parametrize("make", [distance_net, sortnet_mlp])
def test_interval_bounds_are_no_weaker_than_the_lipschitz_margin(make):
    network = make(SHAPE, 3, width=12, depth=4, keep=0.7, mean=0.2, std=0.5)
    (x, _), eps = images(16, SHAPE), 0.05
    features = ops.convert_to_tensor(x)
    after = network.layers.index(network.distances[-1]) + 1
    box = input_box(x, eps)
    for layer in network.layers[:after]:
        features, box = layer(features), layer(box)
    reach = eps / 0.5 + 1e-5
    assert np.all(numpy(box.lower) >= numpy(features) - reach)
    assert np.all(numpy(box.upper) <= numpy(features) + reach)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "sortnet"])
def test_other_methods_refuse_them(method):
    network = distance_net(SHAPE, 3, width=4, depth=2)
    for options in ({}, {"classifier_relus": 0}):
        with pytest.raises(ValueError, match=r"has distance layers.*DistanceNetModel"):
            METHODS[method](network, 0.1, **options)


def test_what_has_no_lines():
    network = distance_net(SHAPE, 3, width=4, depth=2)
    for bound in (crown_ibp_margins, fixed_slope_margins):
        with pytest.raises(ValueError, match="IntervalDistance has no linear relaxation"):
            bound(network, input_box(ops.zeros((1, *SHAPE)), 0.1), ops.zeros(1, "int32"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distance_net(SHAPE, 3, depth=0), "`depth` must be a whole number >= 1"),
        (lambda: sortnet_mlp(SHAPE, 3, depth=2), "`depth` must be a whole number >= 3"),
        (lambda: distance_net(SHAPE, 3, width=0), "`width` must be"),
        (lambda: distance_net(SHAPE, 3, pass_on=-1), "Received: distance=-1"),
        (lambda: distance_net((16,), 3), "`input_shape` must be"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()

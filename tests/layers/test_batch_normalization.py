import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers import IntervalBatchNormalization, Pass
from tests.helpers import assert_contains, close, numbers, numpy, random_box, randomise

SHAPE = (4, 3, 3, 2)


def built(**config):
    layer = IntervalBatchNormalization(**config)
    layer.build((None, *SHAPE[1:]))
    return randomise(layer)


def batch(seed=0):
    return ops.convert_to_tensor(numbers(*SHAPE, seed=seed, low=-2, high=3))


def test_training_equals_the_stock_layer():
    """Outputs by biased batch moments, and the moving averages after two steps."""
    layer = built()
    stock = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    stock.build((None, *SHAPE[1:]))
    randomise(stock)
    for seed in range(2):
        close(layer(batch(seed), training=True), stock(batch(seed), training=True))
    for ours, theirs in zip(layer.weights, stock.weights, strict=True):
        close(ours, theirs)


def test_moving_averages_take_the_biased_variance():
    layer = IntervalBatchNormalization()
    x = batch()
    layer(x, training=True)
    close(layer.moving_mean, 0.1 * numpy(x).mean((0, 1, 2)))
    close(layer.moving_variance, 0.9 + 0.1 * numpy(x).var((0, 1, 2)))


def test_box_with_training_and_no_statistics_refused():
    with pytest.raises(ValueError, match="a box has no batch moments"):
        built()(random_box(*SHAPE), training=True)


def test_box_in_inference_uses_moving_averages():
    layer, x = built(), batch()
    close(layer(Interval(x, x)).lower, layer(x, training=False))


@pytest.mark.parametrize("training", [True, False, None])
def test_replay_uses_recorded_moments_and_updates_nothing(training):
    layer, x = built(), batch()
    taken = {}
    y = layer(x, training=True, given=Pass(taken=taken))
    before = [numpy(w).copy() for w in layer.weights]
    given = Pass(moments=taken)
    close(layer(x, training=training, given=given), y)
    close(layer(Interval(x, x), training=training, given=given).lower, y)
    scaled = layer(100 * x, training=training, given=given)  # other data, the same moments
    for old, new in zip(before, layer.weights, strict=True):
        close(old, new, 0)
    mean, variance = numpy(x).mean((0, 1, 2)), numpy(x).var((0, 1, 2))
    normal = (100 * numpy(x) - mean) / np.sqrt(variance + 1e-5)
    close(scaled, normal * numpy(layer.gamma) + numpy(layer.beta), 1e-4)


def test_bounds_in_training_contain_samples():
    """Property 4, by batch moments and with negative gammas."""
    layer = built()
    layer.gamma.assign([-1.5, 0.0])
    taken = {}
    layer(batch(), training=True, given=Pass(taken=taken))
    box, given = random_box(*SHAPE), Pass(moments=taken)
    lower, upper = numpy(box)
    out = layer(box, training=True, given=given)
    for share in (0, 0.3, 1):
        x = ops.convert_to_tensor(lower + share * (upper - lower))
        assert_contains(out, numpy(layer(x, given=given)))


def test_frozen_layer_uses_its_moving_averages_in_training():
    layer, x = built(), batch()
    layer.trainable = False
    before = numpy(layer.moving_mean).copy()
    expected = layer(x, training=False)
    taken = {}
    close(layer(x, training=True, given=Pass(taken=taken)), expected)
    assert not taken
    close(layer(Interval(x, x), training=True, given=Pass(moments=taken)).upper, expected)
    close(layer.moving_mean, before, 0)


def test_renorm_refused():
    with pytest.raises(ValueError, match=r"`renorm` must be False.*Received"):
        IntervalBatchNormalization(renorm=True)

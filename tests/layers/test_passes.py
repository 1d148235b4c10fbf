import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.layers import IntervalBatchNormalization, Pass
from tests.helpers import close, gradients, numbers, randomise


def layer_and_batch():
    layer = IntervalBatchNormalization()
    layer.build((None, 3))
    return randomise(layer), ops.convert_to_tensor(numbers(5, 3))


def test_moments_are_taken_in_training_alone():
    layer, x = layer_and_batch()
    taken = {}
    layer(x, training=False, given=Pass(taken=taken))
    assert not taken
    layer(x, training=True, given=Pass(taken=taken))
    mean, variance = taken[layer]
    close(mean, numbers(5, 3).mean(0))
    close(variance, numbers(5, 3).var(0))


def test_moments_of_layers_that_took_none():
    layer, _ = layer_and_batch()
    assert Pass().moments_of(layer) is None
    assert not Pass().replays
    assert Pass(moments={}).moments_of(layer) is None
    assert Pass(moments={}).replays


def test_a_layer_takes_moments_once():
    layer, x = layer_and_batch()
    given = Pass(taken={})
    layer(x, training=True, given=given)
    with pytest.raises(ValueError, match="is used twice in the network"):
        layer(x, training=True, given=given)


def test_moments_as_a_list_and_back():
    layer, x = layer_and_batch()
    taken = {}
    layer(x, training=True, given=Pass(taken=taken))
    given = Pass(moments=taken, relu_shrinkage=0.5)
    again = given.with_tensors([2 * moment for moment in given.tensors])
    close(again.moments_of(layer)[1], 2 * numbers(5, 3).var(0))
    assert again.relu_shrinkage == 0.5
    assert Pass().tensors == []
    assert Pass().with_tensors([]).moments is None


def replayed_gradient(stop):
    """Gradient with respect to the clean batch of outputs that only share its moments."""
    layer, x = layer_and_batch()
    other = ops.convert_to_tensor(numbers(5, 3, seed=1))

    def total(clean):
        taken = {}
        layer(clean, training=True, given=Pass(taken=taken))
        given = Pass(moments=taken)
        return ops.sum(layer(other, given=given.stopped() if stop else given) ** 2)

    def pure(clean):
        with keras.StatelessScope():  # the moving averages are written inside a gradient
            return total(clean)

    return gradients(pure, x)[1][0]


def test_gradient_flows_through_replayed_moments():
    assert np.all(np.abs(replayed_gradient(stop=False)) > 1e-6)


def test_gradient_of_replayed_moments_is_stopped_in_attacks():
    assert not np.any(replayed_gradient(stop=True))

import threading

import keras
import numpy as np
from keras import ops

from keras_taps.layers import BatchStatistics, IntervalBatchNormalization
from keras_taps.layers.scopes import (
    is_replaying,
    record_relu_inputs,
    replayed_moments,
    stop_statistics_gradient,
)
from tests.helpers import close, gradients, numbers, randomise


def layer_and_batch():
    layer = IntervalBatchNormalization()
    layer.build((None, 3))
    return randomise(layer), ops.convert_to_tensor(numbers(5, 3))


def test_scopes_end():
    statistics = BatchStatistics()
    assert not is_replaying()
    with statistics.replay():
        assert is_replaying()
    assert not is_replaying()


def test_scopes_end_after_an_error():
    try:
        with BatchStatistics().replay(), stop_statistics_gradient(), record_relu_inputs():
            raise KeyError
    except KeyError:
        assert not is_replaying()


def test_nothing_is_recorded_outside_the_scope():
    layer, x = layer_and_batch()
    statistics = BatchStatistics()
    layer(x, training=True)
    assert statistics.get(layer) is None
    with statistics.record():
        layer(x, training=False)
    assert statistics.get(layer) is None


def test_recorded_moments():
    layer, x = layer_and_batch()
    statistics = BatchStatistics()
    with statistics.record():
        layer(x, training=True)
    mean, variance = statistics.get(layer)
    close(mean, numbers(5, 3).mean(0))
    close(variance, numbers(5, 3).var(0))
    assert replayed_moments(layer) is None
    with statistics.replay():
        close(replayed_moments(layer)[0], mean)


def replayed_gradient(stop):
    """Gradient with respect to the clean batch of outputs that only share its moments."""
    layer, x = layer_and_batch()
    other = ops.convert_to_tensor(numbers(5, 3, seed=1))

    def total(clean):
        statistics = BatchStatistics()
        with statistics.record():
            layer(clean, training=True)
        with statistics.replay():
            if stop:
                with stop_statistics_gradient():
                    return ops.sum(layer(other) ** 2)
            return ops.sum(layer(other) ** 2)

    def pure(clean):
        with keras.StatelessScope():  # the moving averages are written inside a gradient
            return total(clean)

    return gradients(pure, x)[1][0]


def test_gradient_flows_through_replayed_moments():
    assert np.all(np.abs(replayed_gradient(stop=False)) > 1e-6)


def test_gradient_of_replayed_moments_is_stopped_in_attacks():
    assert not np.any(replayed_gradient(stop=True))


def test_scopes_belong_to_one_thread():
    """tf.distribute traces each replica in a thread of its own."""
    seen = []
    with BatchStatistics().replay():
        thread = threading.Thread(target=lambda: seen.append(is_replaying()))
        thread.start()
        thread.join()
    assert seen == [False]

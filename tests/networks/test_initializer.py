import math

import keras
import numpy as np
import pytest

from keras_taps.layers import IntervalConv2D, IntervalDense, IntervalDepthwiseConv2D
from keras_taps.networks import FanInUniform, IBPInitializer, cnn7
from tests.helpers import numpy


@pytest.mark.parametrize(("shape", "fan_in"), [((400, 100), 400), ((3, 3, 50, 80), 450)])
def test_standard_deviation(shape, fan_in):
    """Property 10."""
    values = numpy(IBPInitializer(seed=1)(shape))
    assert np.std(values) == pytest.approx(math.sqrt(2 * math.pi) / fan_in, rel=0.02)
    assert abs(np.mean(values)) < 0.05 * np.std(values)


def test_every_kernel_but_the_last_has_it():
    network = cnn7((12, 12, 1), 10, width=16)
    layers = [x for x in network.layers if isinstance(x, (IntervalConv2D, IntervalDense))]
    for layer in layers[:-1]:
        kernel = numpy(layer.kernel)
        expected = math.sqrt(2 * math.pi) / math.prod(kernel.shape[:-1])
        assert np.std(kernel) == pytest.approx(expected, rel=0.15)
    last = numpy(layers[-1].kernel)
    assert np.max(np.abs(last)) <= 1 / math.sqrt(last.shape[0])
    assert np.std(last) == pytest.approx(1 / math.sqrt(3 * last.shape[0]), rel=0.1)


@pytest.mark.parametrize("cls", [IBPInitializer, FanInUniform])
def test_seed(cls):
    same = [numpy(cls(seed=3)((4, 5))) for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], numpy(cls(seed=4)((4, 5))))


@pytest.mark.parametrize("cls", [IBPInitializer, FanInUniform])
def test_without_a_seed_layers_differ_and_the_global_seed_rules(cls):
    first = [numpy(cls()((4, 5))) for _ in range(2)]
    assert not np.array_equal(*first)
    keras.utils.set_random_seed(0)
    assert np.array_equal(first[0], numpy(cls()((4, 5))))


@pytest.mark.parametrize("cls", [IBPInitializer, FanInUniform])
def test_round_trip(cls):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(cls(seed=3)))
    assert isinstance(again, cls)
    assert np.array_equal(numpy(again((4, 5))), numpy(cls(seed=3)((4, 5))))


def test_depthwise_kernels_by_the_channel_that_an_output_reads():
    layer = IntervalDepthwiseConv2D(3, depthwise_initializer=IBPInitializer(seed=0))
    layer.build((None, 8, 8, 64))
    assert numpy(layer.kernel).std() == pytest.approx(math.sqrt(2 * math.pi) / 9, rel=0.1)

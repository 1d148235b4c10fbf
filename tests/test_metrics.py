import math

import keras
import numpy as np
from keras import ops

from keras_taps.metrics import LastValue, Share


def test_share_of_true_values():
    share = Share()
    share.update_state(ops.array([True, False]))
    share.update_state(ops.array([True, True]))
    assert float(share.result()) == 0.75


def test_share_of_nothing_is_nan():
    share = Share()
    assert math.isnan(float(share.result()))
    share.update_state(ops.array([True, False]), ops.zeros((2,)))
    assert math.isnan(float(share.result()))
    share.update_state(ops.array([True, False]), ops.ones((2,)))
    assert float(share.result()) == 0.5
    share.reset_state()
    assert math.isnan(float(share.result()))


def test_last_value():
    last = LastValue()
    assert math.isnan(float(last.result()))
    for value in (0.5, 0.25):
        last.update_state(value)
    early = last.result()
    last.update_state(0.125)
    assert float(early) == 0.25  # a result is not changed by later updates
    assert float(last.result()) == 0.125
    last.reset_state()
    assert math.isnan(float(last.result()))


def test_round_trip():
    for metric in (Share(name="a"), LastValue(name="b")):
        config = keras.saving.serialize_keras_object(metric)
        again = keras.saving.deserialize_keras_object(config)
        assert type(again) is type(metric)
        assert again.name == metric.name
        assert np.isnan(float(again.result()))

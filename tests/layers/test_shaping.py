import numpy as np

from keras_taps.layers import IntervalDropout
from tests.helpers import close, numpy, random_box


def test_dropout_is_the_identity_on_boxes_only():
    layer, box = IntervalDropout(0.5, seed=0), random_box(4, 50)
    close(layer(box, training=True), box, 0)
    assert np.mean(numpy(layer(box.lower, training=True)) == 0) > 0.2

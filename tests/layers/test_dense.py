import itertools

import numpy as np
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers import IntervalDense
from tests.helpers import close, numpy, random_box, randomise


def test_bounds_are_the_extremes_over_all_vertices():
    layer, box = IntervalDense(3), random_box(1, 6)
    layer.build((None, 6))
    randomise(layer)
    vertices = np.array(list(itertools.product(*np.concatenate(numpy(box)).T)))
    outputs = numpy(layer(ops.convert_to_tensor(vertices)))
    close(layer(box), Interval(outputs.min(0)[None], outputs.max(0)[None]))

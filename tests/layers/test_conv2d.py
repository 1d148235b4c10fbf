import itertools

import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers import IntervalConv2D, IntervalDepthwiseConv2D
from tests.helpers import close, numpy, random_box, randomise


@pytest.mark.parametrize("layer", [IntervalConv2D(3, 3), IntervalDepthwiseConv2D(3)], ids=str)
def test_bounds_are_the_extremes_over_all_vertices(layer):
    box = random_box(1, 3, 3, 1)
    layer.build((None, 3, 3, 1))
    randomise(layer)
    ends = np.stack([bound.reshape(9) for bound in numpy(box)])
    vertices = np.array(list(itertools.product(*ends.T))).reshape(-1, 3, 3, 1)
    outputs = numpy(layer(ops.convert_to_tensor(vertices)))
    close(layer(box), Interval(outputs.min(0)[None], outputs.max(0)[None]))

"""Rows in crops on the engine: the boxes of whole rows, and those of the checker."""

import numpy as np
import pytest
from keras import ops

from keras_taps.bounds.crops import Asked, Crop
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.search.engine import BoundEngine
from tests.helpers import BACKEND, numpy
from tests.verification.images import network

pytestmark = pytest.mark.usefixtures("eager")

# Each compiled function costs a second, but for PyTorch, which compiles none.
SEEDS = range(6) if BACKEND == "torch" else (1, 4)
FORMS, OFFSET = np.array([[-1.0, 1.0], [1.0, -1.0]]), np.array([0.1, -0.2])


def tensor(values, dtype="float32"):
    return ops.convert_to_tensor(np.array(values, dtype))


def boxes_of(graph, seed):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(2, *graph.in_shape))
    radius = np.array([0.02, 0.3]).reshape(2, 1, 1, 1)
    return [np.float32(centre + sign * radius) for sign in (-1, 1)]


def single(graph):
    """The graph with the numbers that the engine has."""
    structure, arrays = graph.pack()
    return Graph.unpack(structure, [array.astype("float32") for array in arrays])


@pytest.mark.parametrize("seed", SEEDS)
def test_as_whole_rows_and_as_the_checker(seed):
    graph = single(network(seed))
    lower, upper = boxes_of(graph, seed)
    engine = BoundEngine(build_network(graph), batch_size=2, memory=2**16)
    found = engine.neuron_boxes(lower, upper)
    engine._ask_pixels, engine.memory = engine._ask_whole, 2**28
    whole = engine.neuron_boxes(lower, upper)
    checker, pairs = Checker(graph), zip(lower, upper, strict=True)
    given = [checker.bounds_and_boxes(*pair, FORMS, OFFSET)[1] for pair in pairs]
    proved = [np.stack(site, 1) for site in zip(*given, strict=True)]
    for mine, other, theirs in zip(found, whole, proved, strict=True):
        scale = 1e-4 * (1 + np.abs(theirs).max())
        np.testing.assert_allclose(mine, other, rtol=0, atol=scale)
        # Ties between slopes or inputs of a window are decided by rounding.
        assert np.mean(np.abs(np.array(mine) - theirs) <= scale) > 0.8


def test_crops_of_an_image_and_back():
    """The second crop begins outside of the image."""
    images = np.arange(24.0).reshape(2, 3, 4, 1)
    asked = Asked(tensor([0, 1], "int32"), tensor([[1, 2], [0, 3]], "int32"))
    crop = Crop((1, 1), (1, 0), (2, 2), (3, 4))
    found = numpy(asked.at(tensor(images), crop))[..., 0]
    np.testing.assert_array_equal(found, [[[2, 3], [6, 7]], [[0, 0], [15, 0]]])
    rows = np.ones((2, 1, 2, 2, 1))
    whole = numpy(asked.filled(tensor(rows), crop))[:, 0, ..., 0]
    np.testing.assert_array_equal(whole[0], [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(whole[1], [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    cleared = numpy(asked.cleared(tensor(rows), crop))[:, 0, ..., 0]
    np.testing.assert_array_equal(cleared, [[[1, 1], [1, 1]], [[0, 0], [1, 0]]])

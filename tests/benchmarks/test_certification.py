"""What the benchmark of certification measures."""

import sys
from pathlib import Path

import numpy as np
import pytest

from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, Relu, Reshape

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

from certification import wider

pytestmark = pytest.mark.once


def test_a_wider_network_computes_the_same():
    rng = np.random.default_rng(0)
    first = Conv(rng.normal(size=(3, 3, 2, 3)), rng.normal(size=3), (5, 4, 2))
    second = Conv(rng.normal(size=(2, 2, 3, 2)), rng.normal(size=2), first.out_shape)
    shape = second.out_shape
    size = int(np.prod(shape))
    nodes = (
        *(first, Relu(first.out_shape), second, Relu(shape), Reshape(shape, (size,))),
        *(Dense(rng.normal(size=(size, 4)), rng.normal(size=4)), Relu((4,))),
        Dense(rng.normal(size=(4, 3)), rng.normal(size=3)),
    )
    graph, x = Graph(nodes), rng.normal(size=(6, 5, 4, 2))
    wide = wider(graph, 3)
    assert wide.nodes[2].kernel.shape == (2, 2, 9, 6)
    np.testing.assert_allclose(wide(x), graph(x), rtol=1e-9)

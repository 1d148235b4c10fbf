"""Engines that are compiled once for a kind of graph and take the weights of many."""

from functools import lru_cache

import numpy as np

from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum
from keras_taps.verification.graph.unsafe import margin_forms
from keras_taps.verification.search.engine import BoundEngine
from tests.helpers import BACKEND
from tests.verification.helpers import random_graph

BOXES = 3  # a batch
FORMS = margin_forms(0, 3)
OFFSET = np.array([0.1, -0.2])
# Each compiled function costs a second, but for PyTorch, which compiles none.
KINDS = ("leaky", "pool", "residual", "every") if BACKEND == "torch" else ("leaky", "every")


def graph_of(kind, seed):
    """Graph of a kind, "every" with all nodes there are; its arrays are float32 numbers."""
    graph = _every(seed) if kind == "every" else random_graph(kind, seed)
    structure, arrays = graph.pack()
    return Graph.unpack(structure, [array.astype("float32") for array in arrays])


def _every(seed):
    rng = np.random.default_rng(seed)

    def conv(shape, side, outputs, groups=1, **options):
        kernel = rng.normal(size=(side, side, shape[-1] // groups, outputs)) * 0.7
        return Conv(kernel, rng.normal(size=outputs), shape, groups=groups, **options)

    first = conv((6, 5, 2), 3, 4, 2, strides=(1, 2), padding=((1, 1), (1, 0)))
    shape = first.out_shape
    second = conv(shape, 2, 2, dilation=(2, 1), padding=((0, 0), (0, 1)))
    inner = second.out_shape
    pool = MaxPool(inner, (2, 2), (2, 2))
    flat = int(np.prod(pool.out_shape))
    branch = (Dense(rng.normal(size=(flat, 3)), np.zeros(3)), Relu((3,), 0.25))
    back = Dense(rng.normal(size=(3, flat)), np.zeros(flat))
    nodes = (
        Scale(np.array([-2.0, 1.5]), np.array([0.3, -0.1]), (6, 5, 2)),
        first,
        Relu(shape),
        second,
        Scale(rng.normal(size=inner), rng.normal(size=inner), inner),
        pool,
        Reshape(pool.out_shape, (flat,)),
        Sum((flat,), ((*branch, back), ())),
        Relu((flat,)),
        Dense(rng.normal(size=(flat, 3)), rng.normal(size=3)),
    )
    return Graph(nodes)


@lru_cache
def engine_of(kind):
    """`(network, engine)`, compiled at its first calls."""
    network = build_network(graph_of(kind, 0))
    return network, BoundEngine(network, BOXES)


def loaded(kind, seed):
    """Graph, engine with its weights, and a batch of boxes `(lower, upper)` of float32 numbers."""
    graph, (network, engine) = graph_of(kind, seed), engine_of(kind)
    network.set_weights(build_network(graph).get_weights())
    rng = np.random.default_rng(seed + 50)
    centre = rng.normal(size=(BOXES, *graph.in_shape))
    radius = np.array([0.02, 0.1, 0.4]).reshape(BOXES, *[1] * len(graph.in_shape))
    lower, upper = (np.float32(centre + sign * radius).astype("float64") for sign in (-1, 1))
    return graph, engine, lower, upper


def asked():
    """Forms `(batch, n, outputs)` and offsets for the engine."""
    return np.repeat(FORMS[None], BOXES, 0), np.repeat(OFFSET[None], BOXES, 0)


def all_bounds(engine, lower, upper, iterations=20):
    """Boxes of neurons, a dictionary of the bounds of each method, and slopes."""
    forms = asked()
    boxes = engine.neuron_boxes(lower, upper)
    alpha, slopes = engine.alpha_crown(lower, upper, *forms, boxes, iterations=iterations)
    return (
        boxes,
        {
            "ibp": engine.ibp(lower, upper, *forms),
            "crown-ibp": engine.crown(lower, upper, *forms),
            "crown": engine.crown(lower, upper, *forms, boxes),
            "alpha-crown": alpha,
        },
        slopes,
    )

"""A tiny classifier on three pixels whose every verdict can be found by brute force."""

from itertools import pairwise

import numpy as np

from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.exact.milp import exact_bound
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense, Relu
from keras_taps.verification.graph.unsafe import margin_forms
from tests.helpers import dense_network
from tests.verification.helpers import interval_boxes

EPS, COUNT = 0.08, 20


def tiny():
    """Network, images, labels; every fifth label is wrong."""
    network = dense_network(inputs=3, hidden=(4, 3), seed=3)
    for i, variable in enumerate(network.trainable_variables):
        variable.assign(variable.value * (1.0 if i % 2 else 4.0))
    x = np.random.default_rng(0).random((COUNT, 3)).astype("float32")
    y = read_network(network)(x).argmax(1)
    y[::5] = (y[::5] + 1) % 3
    return network, x, y


def deep():
    """Graph, point and label: of its box of 0.11 only boxes with slopes of their own prove it."""
    rng, nodes = np.random.default_rng(1), []
    for inputs, outputs in pairwise((4, 12, 12, 12, 12, 3)):
        kernel = rng.normal(size=(inputs, outputs)).astype("float32")
        bias = rng.normal(size=outputs).astype("float32") * 0.3
        nodes += [Dense(kernel, bias), Relu((outputs,), 0.1 if len(nodes) == 2 else 0.0)]
    graph = Graph(tuple(nodes[:-1]))
    x = np.random.default_rng(101).random(4)
    return graph, x, int(graph(x[None])[0].argmax())


def truth(network, x, y, eps=EPS):
    """List of verdicts by mixed-integer programming on the whole problem."""
    graph, found = read_network(network), []
    for point, label in zip(x, y, strict=True):
        if graph(point[None])[0].argmax() != label:
            found.append("misclassified")
            continue
        box = input_interval(point, eps)
        boxes = interval_boxes(graph, *box)
        brackets = [
            exact_bound(graph, *box, form, 0.0, boxes)
            for form in margin_forms(label, graph.outputs)
        ]
        assert all(abs(bracket.value) > 1e-4 for bracket in brackets)  # no close call
        broken = max(bracket.value for bracket in brackets) >= 0
        found.append("falsified" if broken else "certified")
    return found


def without_times(records):
    """Records by index, without what differs from run to run."""
    times = ("seconds", "stage_seconds", "bound")
    kept = [{k: v for k, v in record.items() if k not in times} for record in records]
    return sorted(kept, key=lambda record: record["index"])

"""Small random graphs of every kind of node, and their boxes by plain interval arithmetic."""

import numpy as np

from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum

KINDS = ("dense", "leaky", "conv", "strided", "grouped", "scale", "pool", "padded_pool", "residual")


def interval_boxes(graph, lower, upper):
    """Bounds on the input of each nonlinear node in depth-first order, in float64.

    Args:
        graph: `Graph`.
        lower: Array of the shape of one input.
        upper: Array of the same shape.

    Returns:
        List of pairs `(lower, upper)`.
    """
    boxes = []
    _pass(graph.nodes, np.asarray(lower)[None], np.asarray(upper)[None], boxes)
    return boxes


def _pass(nodes, lower, upper, boxes):
    for node in nodes:
        if isinstance(node, Sum):
            parts = [_pass(branch, lower, upper, boxes) for branch in node.branches]
            lower, upper = (sum(bounds) for bounds in zip(*parts, strict=True))
        elif isinstance(node, (Relu, MaxPool)):
            boxes.append((lower[0], upper[0]))
            lower, upper = node(lower), node(upper)
        else:
            centre, radius = node((lower + upper) / 2), node.absolute()((upper - lower) / 2)
            lower, upper = centre - radius, centre + radius
    return lower, upper


def inputs_of_sites(nodes, x, found):
    """Inputs of each nonlinear node in depth-first order, for a batch of points."""
    for node in nodes:
        if isinstance(node, Sum):
            x = sum(inputs_of_sites(branch, x, found) for branch in node.branches)
            continue
        if isinstance(node, (Relu, MaxPool)):
            found.append(x)
        x = node(x)
    return x


def random_graph(kind, seed):
    """A small graph with random weights and 3 outputs.

    Args:
        kind: One of `KINDS`.
        seed: Number.
    """
    rng = np.random.default_rng(seed)
    if kind in ("dense", "leaky"):
        slope = 0.2 if kind == "leaky" else 0.0
        nodes = [_dense(rng, 3, 5), Relu((5,), slope), _dense(rng, 5, 4), Relu((4,), slope)]
        return Graph((*nodes, _dense(rng, 4, 3)))
    shape = (5, 4, 2)
    nodes = {
        "conv": lambda: _conv(rng, shape, 3, 2, padding=((1, 1), (0, 1))),
        "strided": lambda: _conv(rng, shape, 3, 3, strides=(2, 1), padding=((1, 0), (1, 2))),
        "grouped": lambda: _conv(rng, shape, 2, 4, groups=2, dilation=(2, 1)),
        "scale": lambda: _conv(rng, shape, 2, 2, strides=(2, 2)),
        "pool": lambda: _conv(rng, shape, 2, 2),
        "padded_pool": lambda: _conv(rng, shape, 2, 2),
        "residual": lambda: _conv(rng, shape, 3, 2, strides=(2, 2), padding=((1, 1), (1, 1))),
    }[kind]()
    nodes = [nodes]
    last = nodes[-1].out_shape
    if kind == "scale":
        scale = rng.normal(size=last)
        nodes += [
            Scale(scale, rng.normal(size=last), last),
            Scale(np.array(-1.5), np.ones(2), last),
        ]
    elif kind == "pool":  # straight on a convolution, so that inputs of the windows have two signs
        nodes += [MaxPool(last, (2, 2), (2, 1))]
    elif kind == "padded_pool":
        nodes += [Relu(last), MaxPool(last, (3, 3), (2, 2), ((1, 1), (0, 1)))]
    elif kind == "residual":
        inner = _conv(rng, last, 3, 2, padding=((1, 1), (1, 1)))
        again = _conv(rng, last, 1, 2)
        nodes += [Relu(last), Sum(last, ((inner, Relu(last, 0.1), again), ()))]
    last = nodes[-1].out_shape
    nodes += [Relu(last), Reshape(last, (int(np.prod(last)),))]
    return Graph((*nodes, _dense(rng, int(np.prod(last)), 3)))


def random_box(graph, seed, radius=0.3):
    """Lower and upper bounds of a box around a random input."""
    centre = np.random.default_rng(seed).normal(size=graph.in_shape)
    return centre - radius, centre + radius


def limits_of(signs):
    """Limits of ReLUs' inputs where they have these signs: 1 for z >= 0, -1 for z <= 0, or 0."""
    signs = np.asarray(signs)
    return np.where(signs > 0, 0.0, -np.inf), np.where(signs < 0, 0.0, np.inf)


def sample(lower, upper, count, seed=0):
    """Random inputs `(count, ...)` of a box, half of them corners."""
    part = np.random.default_rng(seed).uniform(size=(count, *lower.shape))
    part[: count // 2] = np.round(part[: count // 2])
    return np.clip(lower + part * (upper - lower), lower, upper)


def _dense(rng, inputs, outputs):
    return Dense(rng.normal(size=(inputs, outputs)), rng.normal(size=outputs))


def _conv(rng, shape, side, outputs, groups=1, **options):
    kernel = rng.normal(size=(side, side, shape[-1] // groups, outputs))
    bias = rng.normal(size=outputs)
    return Conv(kernel, bias, shape, groups=groups, **options)

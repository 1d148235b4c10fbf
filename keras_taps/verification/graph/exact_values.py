"""What a graph gives at a point in exact arithmetic: whole numbers times a power of 2."""

from copy import copy
from fractions import Fraction

import numpy as np

from keras_taps.verification.graph.distance import has_distances
from keras_taps.verification.graph.nodes import Conv, Dense, Linear, MaxPool, Relu, Reshape
from keras_taps.verification.graph.traverse import curves

MOST = 3e7  # products of numbers; 5 to 10 s


def exact_forms(graph, point, forms, offset):
    """Linear forms of the outputs, `forms @ outputs + offset`, at a point, without any rounding.

    Args:
        graph: `Graph`; what counts are its numbers before any was rounded.
        point: Float array of the shape of one input.
        forms: Array `(n, outputs)`.
        offset: Array `(n,)`.

    Returns:
        List of n fractions, or `None` if the graph has no numbers but rounded ones, an activation
        whose values are not fractions, a distance node, or is too large.

    Example:

    >>> graph = Graph((Dense(np.array([[0.1, 2**60], [0.2, -(2**60)]]), np.zeros(2)),))
    >>> exact_forms(graph, np.array([1.0, 1.0]), np.array([[10.0, 0.0]]), np.array([-3.0]))
    [Fraction(3, 18014398509481984)]
    """
    nodes = graph.nodes if graph.unfolded is None else graph.unfolded
    if not nodes or curves(nodes) or has_distances(nodes) or sum(map(_products, nodes)) > MOST:
        return None
    outputs = _walk(nodes, _whole(np.asarray(point, "float64")[None]))
    last = Dense(np.asarray(forms, "float64").T, np.asarray(offset, "float64"))
    values, shift = _linear(last, outputs)
    return [Fraction(int(value), 1) / Fraction(2) ** shift for value in values[0]]


def _products(node):
    if isinstance(node, Conv):
        return node.kernel.size * np.prod(node.out_shape[:2])
    branches = getattr(node, "branches", ())
    inner = sum(_products(each) for branch in branches for each in branch)
    return inner + np.prod(node.in_shape) * (node.out_shape[0] if isinstance(node, Dense) else 1)


def _whole(array):
    """Whole numbers and `shift`: the array is `numbers / 2**shift`."""
    mantissas, exponents = np.frexp(np.asarray(array, "float64"))
    whole = np.ldexp(mantissas, 53).astype("int64")
    low = int(exponents[whole != 0].min(initial=2000))
    places = np.where(whole != 0, exponents - low, 0)
    found = whole.astype(object) * np.array([1 << int(n) for n in places.ravel()], object).reshape(
        places.shape
    )
    return found, 53 - low


def _walk(nodes, x):
    for node in nodes:
        x = _node(node, x)
    return x


def _node(node, x):
    values, shift = x
    if isinstance(node, Reshape):
        return node.apply(values), shift
    if isinstance(node, Linear):
        return _linear(node, x)
    if isinstance(node, Relu):
        slope, denominator = float(node.slope).as_integer_ratio()
        below = slope * values
        return np.where(values >= 0, denominator * values, below), shift + (
            denominator.bit_length() - 1
        )
    if isinstance(node, MaxPool):
        return node.windows(values).max(-1), shift
    parts = [_walk(branch, x) for branch in node.branches]
    most = max(shift for _, shift in parts)
    return sum(_scaled(part, most) for part in parts), most


def _linear(node, x):
    name = "kernel" if isinstance(node, (Dense, Conv)) else "scale"
    weights, own = _whole(getattr(node, name))
    exact = copy(node)
    object.__setattr__(exact, name, weights)  # the constructor would make floats of it
    values = x[0]
    if isinstance(node, Conv):  # NumPy would pad with zeros of its own type, which overflow
        zero = np.zeros((), object)
        values = np.pad(values, ((0, 0), *node.padding, (0, 0)), constant_values=zero)
        object.__setattr__(exact, "padding", ((0, 0), (0, 0)))
        object.__setattr__(exact, "in_shape", values.shape[1:])
    product, bias = (exact.apply(values), x[1] + own), _whole(node.bias)
    most = max(product[1], bias[1])
    return _scaled(product, most) + _scaled(bias, most), most


def _scaled(x, shift):
    return x[0] * (1 << (shift - x[1]))

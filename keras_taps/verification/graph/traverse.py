"""The order in which everything meets the nonlinear nodes of a graph."""

from keras_taps.verification.graph.curves import FUNCTIONS, Curve
from keras_taps.verification.graph.nodes import MaxPool, Relu, Sum


def curves(nodes):
    """Names of the activations of a chain that are not piecewise linear, in alphabetical order."""
    return sorted({node.function for node in nonlinear(nodes) if isinstance(node, Curve)})


def foreign(nodes):
    """Names of the functions of a chain that are somebody's own, in alphabetical order."""
    return [name for name in curves(nodes) if FUNCTIONS[name].foreign]


def nonlinear(nodes):
    """Nonlinear nodes of a chain in depth-first order."""
    for node in nodes:
        if isinstance(node, Sum):
            for branch in node.branches:
                yield from nonlinear(branch)
        elif isinstance(node, (Curve, Relu, MaxPool)):
            yield node

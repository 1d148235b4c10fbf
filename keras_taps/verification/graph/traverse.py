"""The order in which everything meets the nonlinear nodes of a graph."""

from keras_taps.verification.graph.nodes import MaxPool, Relu, Sum


def nonlinear(nodes):
    """Nonlinear nodes of a chain in depth-first order."""
    for node in nodes:
        if isinstance(node, Sum):
            for branch in node.branches:
                yield from nonlinear(branch)
        elif isinstance(node, (Relu, MaxPool)):
            yield node

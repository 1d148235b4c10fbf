"""Several ONNX nodes that together are one activation, and none of which can be read alone."""

from fractions import Fraction

from onnx import helper

HALF = Fraction(1, 2)


def fused(nodes, constants):
    """The nodes of a file with each GELU, in any order of its factors, as one `Erf` node.

    Where the opset has no GELU exporters write `x (1 + erf(k x)) / 2` with k near `sqrt(1 / 2)`.
    The new node has x as its input and the text of k, a fraction, as its attribute `factor`, which
    no valid file has.

    Args:
        nodes: List of `NodeProto`.
        constants: Dictionary from names to constant arrays.
    """
    graph = _Graph(nodes, constants)
    replaced = {}
    for node in nodes:
        if node.op_type == "Erf":
            found = graph.gelu(node)
            if found is not None:
                x, factor, parts = found
                new = helper.make_node(
                    "Erf", [x], list(parts[-1].output), node.name, factor=str(factor)
                )
                replaced |= {part.output[0]: None for part in parts}
                replaced[parts[-1].output[0]] = new
    found = [replaced.get(node.output[0], node) for node in nodes]
    return [node for node in found if node is not None]


class _Graph:
    def __init__(self, nodes, constants):
        self.constants = constants
        self.made = {name: node for node in nodes for name in node.output}
        self.readers = {}
        for node in nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def number(self, name):
        """A constant of one entry as a fraction, else `None`."""
        value = self.constants.get(name)
        try:
            return None if value is None or value.size != 1 else Fraction(value.item())
        except (OverflowError, ValueError):  # infinite, or not a number
            return None

    def next(self, node, op):
        """The one node that reads a node's output, and its other input, if it is of this kind."""
        found = self.readers.get(node.output[0], [])
        if len(found) != 1 or found[0].op_type != op or len(found[0].input) != 2:
            return None, None
        others = [name for name in found[0].input if name != node.output[0]]
        return (found[0], others[0]) if len(others) == 1 else (None, None)

    def scaled(self, name):
        """`(x, k)` of a tensor that is `k x`, else `(name, 1)`."""
        node = self.made.get(name)
        if node is not None and node.op_type in ("Div", "Mul"):
            first, second = node.input
            by = self.number(second)
            if by is not None and (node.op_type == "Mul" or by):
                return first, by if node.op_type == "Mul" else 1 / by
            if node.op_type == "Mul" and self.number(first) is not None:
                return second, self.number(first)
        return name, Fraction(1)

    def gelu(self, erf):
        """`(x, k, nodes)` of a GELU whose last node is the last one, else `None`."""
        x, factor = self.scaled(erf.input[0])
        add, one = self.next(erf, "Add")
        if add is None or self.number(one) != 1:
            return None
        first, other = self.next(add, "Mul")
        if first is None:
            return None
        if self.scaled(other) == (x, HALF):
            return x, factor, [erf, add, first]
        second, last = self.next(first, "Mul")
        if second is None:
            return None
        if (other == x and self.number(last) == HALF) or (self.number(other) == HALF and last == x):
            return x, factor, [erf, add, first, second]
        return None

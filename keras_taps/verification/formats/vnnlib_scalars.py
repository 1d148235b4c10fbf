"""VNNLIB 1.0: variables `X_i` and `Y_i`, commands of SMT-LIB."""

import re

from keras_taps.verification.formats.vnnlib_formulas import Formulas, Variable
from keras_taps.verification.formats.vnnlib_text import show

_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d*)", re.ASCII)


class Scalars(Formulas):
    """Commands of version 1.0 for an `OnnxNetwork`."""

    version, name = "1.0", None
    ignored = ("check-sat", "exit", "get-model", "set-info", "set-logic", "set-option")

    def __init__(self, network):
        self.network = network
        self.sizes = {"X": network.places.size, "Y": network.graph.outputs}
        self.declared = {}
        self.asked = None

    def command(self, form):
        """Disjunctions to conjoin, one an assertion."""
        head = form[0] if form else None
        if head in ("declare-const", "assert") and self.asked:
            raise ValueError(f"`{head}` after `{self.asked}`")
        if head in ("check-sat", "exit"):
            self.asked = head
        if head == "declare-const":
            self.declare(form)
        elif head == "assert":
            return [self.assertion(form)]
        elif head not in self.ignored:
            raise ValueError(
                f"unknown command {show(head)}; accepted: declare-const, assert, or all of "
                "version 2.0 in a file that begins with (vnnlib-version <2.0>)"
            )
        return []

    def declare(self, form):
        if len(form) != 3 or form[2] != "Real":
            raise ValueError(f"expected (declare-const NAME Real). Received: {show(form)}")
        match = _VARIABLE.fullmatch(form[1]) if isinstance(form[1], str) else None
        if not match:
            raise ValueError(f"variables are X_i and Y_i. Received: {show(form[1])}")
        if int(match[2]) >= self.sizes[match[1]]:
            kind = "inputs" if match[1] == "X" else "outputs"
            raise ValueError(f"{form[1]}: the network has {self.sizes[match[1]]} {kind}")
        self.declared[form[1]] = match[1], int(match[2])

    def variable(self, word):
        return self.declared.get(word)

    def spell(self, key):
        return f"{key[0]}_{key[1]}"

    def finished(self):
        shapes = {"X": self.network.onnx_shape, "Y": (self.network.graph.outputs,)}
        return tuple(Variable(n, self.network.element_type, s) for n, s in shapes.items())

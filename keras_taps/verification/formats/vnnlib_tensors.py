"""VNNLIB 2.0: a network is declared with tensors, whose entries have indices."""

import math
import re

from keras_taps.verification.formats.vnnlib_formulas import Formulas, Variable
from keras_taps.verification.formats.vnnlib_text import show

ELEMENT_TYPES = ("real", "float32", "float64")
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_INDEXED = re.compile(r"(\w+)\s*\[([\d\s,]*)\]", re.ASCII)
_SIDE = re.compile(r"\s*\d{1,9}\s*", re.ASCII)


class Tensors(Formulas):
    """Commands of version 2.0 for an `OnnxNetwork`."""

    version = "2.0"
    comparisons = (*Formulas.comparisons, "==", "!=")

    def __init__(self, network):
        self.network = network
        self.name = None
        self.tensors = {}  # "X" and "Y": what is declared
        self.known = {}  # word: key
        self.told, self.asserted = False, False

    def command(self, form):
        """Disjunctions to conjoin, one an assertion."""
        head = form[0] if form else None
        if not self.told:  # this is how the version was told
            if form[1:] != ["<2.0>"]:
                raise ValueError(f"expected (vnnlib-version <2.0>). Received: {show(form)}")
            self.told = True
        elif head == "declare-network":
            if self.asserted:
                raise ValueError("`declare-network` after `assert`")
            self.declare(form)
        elif head == "assert":
            if self.name is None:
                raise ValueError("`assert` before `declare-network`")
            self.asserted = True
            return [self.assertion(form)]
        else:
            raise ValueError(f"unknown command {show(head)}; accepted: declare-network, assert")
        return []

    def declare(self, form):
        name = form[1] if len(form) > 1 else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"expected (declare-network NAME ...). Received: {show(form)}")
        if self.name is not None:
            raise ValueError(
                f"network {name!r} after network {self.name!r}: properties of several networks "
                "are not supported"
            )
        self.name = name
        for part in form[2:]:
            head = part[0] if isinstance(part, list) and part else None
            if head in ("equal-to", "isomorphic-to"):
                raise ValueError(
                    f"network {name!r} is {show(part)}: properties of several networks are not "
                    "supported"
                )
            if head == "declare-hidden":
                raise ValueError(f"{show(part)}: hidden nodes are not supported")
            if head not in ("declare-input", "declare-output"):
                raise ValueError(
                    f"expected declare-input or declare-output in network {name!r}. "
                    f"Received: {show(part)}"
                )
            self.tensor(head == "declare-output", part)
        if len(self.tensors) != 2:
            raise ValueError(f"network {name!r} must declare one input and one output")

    def tensor(self, is_output, part):
        """Take a declaration such as `(declare-input X float32 [1,3])`."""
        side, kind = ("Y", "output") if is_output else ("X", "input")
        match = len(part) in (3, 4) and all(isinstance(word, str) for word in part)
        match = match and _NAME.fullmatch(part[1]) and _INDEXED.fullmatch(part[2])
        if not match:
            raise ValueError(f"expected (declare-{kind} NAME TYPE [SHAPE]). Received: {show(part)}")
        name, shape = part[1], _whole_numbers(match[2])
        if side in self.tensors or (side == "X" and "Y" in self.tensors):
            raise ValueError(
                f"{name!r} is an {kind} too many, or too late: networks of one input and then one "
                "output are supported"
            )
        if name in (self.name, *(tensor.name for tensor in self.tensors.values())):
            raise ValueError(f"the name {name!r} is used twice")
        own = self.network.names[is_output]
        if len(part) == 4 and part[3] != f'"{own}"':
            raise ValueError(f"the {kind} of the network is {own!r}. Received: {show(part)}")
        self.tensors[side] = Variable(name, self.kind(name, match[1]), shape)
        actual = self.network.output_shape if is_output else self.network.onnx_shape
        _check_shape(name, shape, actual or (self.network.graph.outputs,))

    def kind(self, name, word):
        """The element type of a variable, if the network has it."""
        kind = "real" if word == "Real" else word  # the standard writes both
        if kind not in ELEMENT_TYPES:
            accepted = ", ".join(ELEMENT_TYPES)
            raise ValueError(
                f"the element type of {name!r} must be one of {accepted}. Received: {word}"
            )
        if kind not in ("real", self.network.element_type):
            raise ValueError(
                f"{name!r} is declared as {kind}, and the network computes in "
                f"{self.network.element_type}"
            )
        return kind

    def variable(self, word):
        if word not in self.known:
            self.known[word] = self._variable(word)
        return self.known[word]

    def _variable(self, word):
        indexed = _INDEXED.fullmatch(word)
        name = indexed[1] if indexed else word
        side = next((s for s, tensor in self.tensors.items() if tensor.name == name), None)
        if side is None:
            return None
        shape = self.tensors[side].shape
        indices = _whole_numbers(indexed[2]) if indexed else ()
        if len(indices) != len(shape) or (indexed and not indices):
            raise ValueError(f"{word} has {len(indices)} indices, {name} the shape {list(shape)}")
        flat = 0
        for index, size in zip(indices, shape, strict=True):
            if index >= size:
                raise ValueError(f"{word} is beyond the shape {list(shape)}")
            flat = flat * size + index
        return side, flat

    def spell(self, key):
        tensor, indices, rest = self.tensors[key[0]], [], key[1]
        for size in reversed(tensor.shape):
            rest, index = divmod(rest, size)
            indices.insert(0, str(index))
        return tensor.name + (f"[{','.join(indices)}]" if indices else "")

    def finished(self):
        if self.name is None:
            raise ValueError("no network is declared")
        return self.tensors["X"], self.tensors["Y"]


def _whole_numbers(text):
    """Numbers between commas; none in an empty text."""
    if not text.strip():
        return ()
    parts = text.split(",")
    if not all(map(_SIDE.fullmatch, parts)):
        raise ValueError(
            f"expected whole numbers with commas between them. Received: [{show(text)}]"
        )
    return tuple(map(int, parts))


def _check_shape(name, shape, actual):
    """Raise unless a declared shape is that of the network, but for sides of 1, or flat."""
    kept, own = ([side for side in sides if side != 1] for sides in (shape, actual))
    if math.prod(shape) != math.prod(actual) or (kept != own and len(kept) > 1):
        raise ValueError(
            f"{name!r} is declared with shape {list(shape)}, and the network has {list(actual)}"
        )

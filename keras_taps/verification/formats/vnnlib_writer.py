"""Properties in VNNLIB, the format of the verification competition: written."""

import gzip
import itertools
import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from keras_taps.checks import check_choice
from keras_taps.files import write_atomically
from keras_taps.verification.graph.unsafe import Unsafe

VERSIONS = ("1.0", "2.0")


def write_vnnlib(
    sets: Sequence[Unsafe],
    path: str | Path,
    network_shape: tuple[int, ...],
    version: str = "1.0",
) -> None:
    """Write a property; it reads back exactly, for numbers are written with all their digits.

    Args:
        sets: List of `Unsafe`, at least one.
        path: Path of the `.vnnlib` or `.vnnlib.gz` file.
        network_shape: Shape of one input in the ONNX file that `write_onnx` writes: `(channels,
            height, width)` for images, whose variables come in that order.
        version: '1.0', or '2.0': a network `N` with an input `X` of shape `(1, *network_shape)`
            and an output `Y` of shape `(1, outputs)`, both real.

    Raises:
        ValueError: No sets, they do not fit the shape, or the version is another.

    Example:

    >>> write_vnnlib(sets, "property.vnnlib", (1, 28, 28))  # doctest: +SKIP
    """
    if not sets:
        raise ValueError("`sets` must hold at least one set: without any, there is no property")
    check_choice("version", version, VERSIONS)
    boxes = [[_in_file_order(side, network_shape) for side in (s.lower, s.upper)] for s in sets]
    shape, outputs = (1, *network_shape), sets[0].weights.shape[1]
    write = {"1.0": _Version1, "2.0": _Version2}[version](shape, outputs)
    lines = list(write.head)
    if all(np.array_equal(box, boxes[0]) for box in boxes):
        lines += [f"(assert {bound})" for bound in write.bounds(*boxes[0])]
        disjuncts = [write.outputs(unsafe) for unsafe in sets]
    else:
        pairs = zip(sets, boxes, strict=True)
        disjuncts = [[*write.bounds(*box), *write.outputs(unsafe)] for unsafe, box in pairs]
    if all(disjuncts):  # one that asks nothing of the outputs makes the others idle
        lines += ["(assert (or", *(f"    (and {' '.join(d)})" for d in disjuncts), "))"]
    text = "\n".join(lines) + "\n"
    raw = gzip.compress(text.encode()) if Path(path).suffix == ".gz" else text.encode()
    write_atomically(path, lambda temporary: temporary.write_bytes(raw))


def _in_file_order(side, shape):
    side, shape = np.asarray(side, "float64"), tuple(shape)
    side = side.transpose(2, 0, 1) if side.ndim == 3 else side
    if side.size != math.prod(shape) or (side.ndim == 3 and side.shape != shape):
        raise ValueError(f"a box must fit `network_shape` {shape}. Received: {side.shape}")
    if not np.all(np.isfinite(side)):
        raise ValueError("a box must be finite")
    return side.ravel()


class _Version1:
    """Variables `X_i` and `Y_i`."""

    def __init__(self, shape, outputs):
        self.x = [f"X_{i}" for i in range(math.prod(shape))]
        self.y = [f"Y_{i}" for i in range(outputs)]
        self.head = [f"(declare-const {name} Real)" for name in (*self.x, *self.y)]

    def digits(self, number):
        """All digits of a float64: the shortest text that names it lies beside it."""
        return format(Decimal(float(number) + 0.0), "f")  # + 0.0: no minus before a zero

    def bounds(self, lower, upper):
        for name, low, high in zip(self.x, lower, upper, strict=True):
            yield f"(<= {name} {self.digits(high)})"
            yield f"(>= {name} {self.digits(low)})"

    def outputs(self, unsafe):
        return [self.inequality(*pair) for pair in zip(unsafe.weights, unsafe.offset, strict=True)]

    def inequality(self, weights, offset):
        """`weights @ outputs + offset >= 0` in the shortest form."""
        indices = np.flatnonzero(weights)
        positive, negative = (np.flatnonzero(weights == sign) for sign in (1, -1))
        if len(indices) == 2 and len(positive) == len(negative) == 1 and not offset:
            return f"(>= {self.y[positive[0]]} {self.y[negative[0]]})"
        if len(indices) == len(positive) == 1:
            return f"(>= {self.y[positive[0]]} {self.digits(-offset)})"
        if len(indices) == len(negative) == 1:
            return f"(<= {self.y[negative[0]]} {self.digits(offset)})"
        terms = [f"(* {self.digits(weights[i])} {self.y[i]})" for i in indices]
        return f"(>= (+ {' '.join([*terms, self.digits(offset)])}) 0.0)"


class _Version2(_Version1):
    """Tensors of a network; numbers with a point, for whole ones have another type."""

    def __init__(self, shape, outputs):
        self.x, self.y = (
            [
                f"{name}[{','.join(map(str, index))}]"
                for index in itertools.product(*map(range, sides))
            ]
            for name, sides in (("X", shape), ("Y", (1, outputs)))
        )
        self.head = (
            "(vnnlib-version <2.0>)",
            "(declare-network N",
            f"    (declare-input X real [{','.join(map(str, shape))}])",
            f"    (declare-output Y real [1,{outputs}])",
            ")",
        )

    def digits(self, number):
        text = super().digits(number)
        return text if "." in text else f"{text}.0"

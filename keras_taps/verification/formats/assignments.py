"""Counterexamples as the competition (VNN-LIB 1.0) and the standard (2.0) have them."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from onnx import numpy_helper

from keras_taps.files import write_atomically
from keras_taps.verification.formats.vnnlib import Property


def assignment_text(found: Property, x: ArrayLike, y: ArrayLike) -> str:
    """Values of all variables, all digits given, in the format of the version of the property.

    Args:
        found: `Property`.
        x: Vector of the input, in the order of the ONNX file.
        y: Vector of the outputs.

    Example:

    >>> from keras_taps.verification.formats.vnnlib_formulas import Variable
    >>> variables = Variable("A", "real", (1, 2)), Variable("B", "real", (1,))
    >>> print(assignment_text(Property([], "2.0", "N", variables), [0.5, -1.0], [2.0]))
    A real [1,2]
    0.5
    -1.0
    B real [1]
    2.0
    >>> print(assignment_text(Property([], "1.0", None, variables), [0.5, -1.0], [2.0]))
    ((X_0 0.5)
     (X_1 -1.0)
     (Y_0 2.0))
    """
    sides = [np.ravel(side).tolist() for side in (x, y)]
    if found.version == "1.0":
        named = zip("XY", sides, strict=True)
        pairs = [f"({name}_{i} {value!r})" for name, side in named for i, value in enumerate(side)]
        return "({})".format("\n ".join(pairs))
    lines = []
    for variable, side in zip(found.variables, sides, strict=True):
        shape = ",".join(map(str, variable.shape))
        lines += [f"{variable.name} {variable.kind} [{shape}]", *map(repr, side)]
    return "\n".join(lines)


def write_tensors(found: Property, x: ArrayLike, y: ArrayLike, folder: str | Path) -> None:
    """Write a file `NAME.pb` a variable, a serialised `TensorProto` of its type and shape.

    Real variables are written in float64; what is declared as float32 is rounded to it.

    Args:
        found: `Property`.
        x: Vector of the input, in the order of the ONNX file.
        y: Vector of the outputs.
        folder: Folder of the files, made if there is none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for variable, side in zip(found.variables, (x, y), strict=True):
        dtype = "float64" if variable.kind == "real" else variable.kind
        tensor = np.asarray(side, dtype).reshape(variable.shape)
        raw = numpy_helper.from_array(tensor, variable.name).SerializeToString()
        path = folder / f"{variable.name}.pb"
        write_atomically(path, lambda temporary, raw=raw: temporary.write_bytes(raw))

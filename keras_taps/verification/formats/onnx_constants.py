"""Constants that an ONNX file computes, folded exactly.

A file means a function of the reals, so `2^60 + 1 - 2^60` is 1 there, whatever float64 makes of it.
Sums, products and quotients of constants are taken as fractions. What float64 holds comes back as
float64; what it does not hold stays a fraction, and is rounded once, where a node takes it.
"""

from fractions import Fraction

import numpy as np

from keras_taps.verification.graph.graph import SMALLEST

# These only move entries, so the reference implementation moves their numbers instead.
_MOVES = (
    *("Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze"),
    *("Tile", "Transpose", "Unsqueeze"),
)
_ARITHMETIC = {
    "Add": np.add,
    "Div": np.true_divide,
    "MatMul": np.matmul,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Reciprocal": lambda x: 1 / x,
    "Sub": np.subtract,
}
_EXACT = ("Abs", "Cast", "Ceil", "Constant", "ConstantOfShape", "Floor", "Max", "Min", "Relu")


def is_real(value):
    """Whether an array holds numbers that could have been rounded, not whole ones."""
    return value is not None and value.dtype.kind in "fO"


def folded(call, run):
    """The constant that a node without computed inputs stands for.

    Args:
        call: `Call` whose inputs are arrays or `None`.
        run: Function of a list of arrays: the node's first output by the reference implementation.

    Returns:
        An array; of fractions if float64 does not hold them.

    Raises:
        ValueError: If the operator rounds reals and has no exact form here.
    """
    op, inputs = call.node.op_type, call.inputs
    if not any(map(is_real, inputs)):
        found = np.asarray(run(inputs))
        if is_real(found) and op not in _EXACT:
            raise call.refuse("it computes a constant that may be rounded")
        return _unrounded(call, found) if op == "Cast" else found
    if op in _MOVES:
        return _moved(inputs, run)
    if op in _ARITHMETIC:
        try:
            return settled(_ARITHMETIC[op](*map(fractions, inputs)))
        except (ValueError, ZeroDivisionError) as error:
            raise call.refuse(error) from None
    if any(is_real(value) and value.dtype.kind == "O" for value in inputs):
        raise call.refuse("a constant before it is too long for float64")
    found = np.asarray(run(inputs))
    if is_real(found) and op not in _EXACT:
        raise call.refuse("it computes a constant that would have to be rounded")
    return _unrounded(call, found) if op == "Cast" and is_real(found) else found


def fractions(array):
    """The entries of an array as an array of fractions."""
    array = np.asarray(array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("a constant is not finite")
    flat = [Fraction(value) for value in array.ravel().tolist()]
    found = np.empty(array.size, object)
    found[:] = flat
    return found.reshape(array.shape)


def settled(exact):
    """An array of fractions as float64 if that holds them all, else as it is."""
    exact = np.asarray(exact, object)
    try:
        nearest = exact.astype("float64")
    except OverflowError:
        return exact
    return nearest if np.all(fractions(nearest) == exact) else exact


def rounded(call, array):
    """An array of fractions in float64, each rounded once."""
    try:
        nearest = array.astype("float64")
    except OverflowError:
        raise call.refuse("a constant is too large for float64") from None
    if np.any((np.abs(nearest) < SMALLEST) & (array != 0)):
        raise call.refuse("a constant is too small for float64")
    return nearest


def _moved(inputs, run):
    pool, given = [], []
    start = 0
    for value in inputs:
        if is_real(value):
            pool.append(value.ravel())
            value = start + np.arange(value.size).reshape(value.shape)
            start += value.size
        given.append(value)
    return np.concatenate(pool)[np.asarray(run(given))]


def _unrounded(call, found):
    """What a cast gave, if it changed no number."""
    if np.all(fractions(found) == fractions(call.inputs[0])):
        return found
    raise call.refuse("the cast rounds a constant")

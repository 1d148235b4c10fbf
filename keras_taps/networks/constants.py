"""Sums, products and extremes of a tensor and a constant, such as `2 * x` and `maximum(x, 0)`."""

import keras
import numpy as np

from keras_taps import layers as interval_layers

_KINDS = ("Add", "Divide", "Maximum", "Minimum", "Multiply", "Negative", "Subtract", "TrueDivide")


def with_constant(layer, node, dtype):
    """Interval layers of an operation on one symbolic tensor and a constant.

    Args:
        layer: Stock layer, which is none, or operation.
        node: The call.
        dtype: Precision of the result.

    Returns:
        List of interval layers, or `None` if it is no such call.

    Raises:
        ValueError: If a tensor divides or is divided by zero, or the constant repeats the tensor.
    """
    kind, name = type(layer).__name__, layer.name
    parts = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    symbolic = [isinstance(part, keras.KerasTensor) for part in parts]
    if isinstance(layer, keras.layers.Layer) or kind not in _KINDS or sum(symbolic) != 1:
        return None
    if kind == "Negative":
        return [_affine(name, -1.0, 0.0, dtype)]
    if len(parts) != 2 or isinstance(parts[symbolic.index(False)], keras.Variable):  # it is trained
        return None
    left, constant = symbolic[0], parts[symbolic.index(False)]
    constant = _one_sample(constant, node, name)
    if kind in ("Maximum", "Minimum"):
        sign = 1.0 if kind == "Maximum" else -1.0
        before = _affine(f"{name}_before", sign, -sign * constant, dtype)
        relu = interval_layers.IntervalReLU(name=name, dtype=dtype)
        return [before, relu, _affine(f"{name}_after", sign, constant, dtype)]
    if kind == "Add":
        scale, shift = 1.0, constant
    elif kind == "Subtract":
        scale, shift = (1.0, -constant) if left else (-1.0, constant)
    elif kind == "Multiply":
        scale, shift = constant, 0.0
    elif left and np.all(constant):
        scale, shift = 1 / constant, 0.0
    else:
        raise ValueError(
            f"Operation '{name}' divides by a tensor or by zero, which has no interval form. "
            "Accepted: a tensor divided by numbers other than 0."
        )
    return [_affine(name, scale, shift, dtype)]


def _one_sample(constant, node, name):
    """The constant as a float64 array that broadcasts with one sample."""
    array = np.asarray(keras.ops.convert_to_numpy(constant), "float64")
    before, after = node.input_tensors[0].shape, node.output_tensors[0].shape
    if array.ndim == len(before) and array.shape[0] == 1:
        array = array[0]
    if after[1:] != before[1:] or array.ndim >= len(before):
        raise ValueError(
            f"Operation '{name}' makes a tensor of shape {after} of one of shape {before} and a "
            f"constant of shape {array.shape}. Accepted: constants that broadcast with one sample."
        )
    return array


def _affine(name, scale, shift, dtype):
    """`scale * x + shift` with fixed numbers."""
    scale, shift = np.asarray(scale), np.asarray(shift)
    how = {"name": name, "dtype": dtype}
    if scale.ndim == shift.ndim == 0:
        return interval_layers.IntervalRescaling(float(scale), float(shift), **how)
    scale, shift = np.broadcast_arrays(scale, shift)
    layer = interval_layers.IntervalScale(scale.shape, **how)
    layer.build((None, *scale.shape))
    layer.set_weights([scale, shift])
    layer.trainable = False
    return layer

"""Where branches of a stock model meet: every way is a sum of what they become.

The larger of two tensors is the maximum over the rows of an image that has them as its rows: so its
box is as small as can be, and nothing but pooling has to be known.
"""

import math

import keras

from keras_taps import layers as interval_layers

_LAST = "channels_last"


def merge_of(layer, inputs):
    """Name of the way in which a layer or operation merges its inputs, or `None`."""
    kind, is_layer = type(layer), isinstance(layer, keras.layers.Layer)
    known = kind in MERGES if is_layer else kind.__name__ in OPERATIONS
    return kind.__name__ if known and len(inputs) > 1 else None


def merged(layer, inputs, branches, dtype):
    """Interval layers of the merge of branches.

    Args:
        layer: Stock layer or operation with a `merge_of`.
        inputs: Its symbolic tensors.
        branches: List of interval layers for each of them, from where all start.
        dtype: Precision of the result.

    Raises:
        ValueError: If tensors are joined along the batch, have unknown lengths or differ in shape.
    """

    def rescaling(factor):
        return interval_layers.IntervalRescaling(factor, name=f"{layer.name}_scale", dtype=dtype)

    after, kind = [], merge_of(layer, inputs)
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if kind == "Subtract":
        branches = [branches[0], [*branches[1], rescaling(-1.0)]]
    elif kind == "Average":
        after = [rescaling(1 / len(branches))]
    elif kind == "Concatenate":
        placed = _placed(layer, shapes, dtype)
        branches = [[*branch, *own] for branch, own in zip(branches, placed, strict=True)]
    elif kind in ("Maximum", "Minimum"):
        flip = [] if kind == "Maximum" else [rescaling(-1.0)]
        stacked = _stacked(layer, shapes, dtype)
        branches = [[*b, *flip, *own] for b, own in zip(branches, stacked, strict=True)]
        pool = interval_layers.IntervalMaxPooling2D(
            (len(shapes), 1), data_format=_LAST, name=layer.name, dtype=dtype
        )
        after = [pool, interval_layers.IntervalReshape(shapes[0][1:], dtype=dtype), *flip]
    return [interval_layers.IntervalResidual(branches, dtype=dtype), *after]


def _placed(layer, shapes, dtype):
    """For each tensor the layers that put zeros where the others stand."""
    axis = layer.axis % len(shapes[0])
    if axis == 0 or any(None in shape[1:] for shape in shapes):
        raise ValueError(
            f"Layer '{layer.name}' joins tensors of shapes {shapes} along axis {layer.axis}. "
            "Accepted: an axis other than the batch, and known lengths."
        )
    sizes = [shape[axis] for shape in shapes]
    whole = (*shapes[0][1:axis], sum(sizes), *shapes[0][axis + 1 :])
    rows, columns = math.prod(shapes[0][1:axis]), math.prod(shapes[0][axis + 1 :])
    for i, size in enumerate(sizes):
        pads = ((0, 0), (sum(sizes[:i]), sum(sizes[i + 1 :])))
        yield [
            interval_layers.IntervalReshape((rows, size, columns), dtype=dtype),
            interval_layers.IntervalZeroPadding2D(pads, data_format=_LAST, dtype=dtype),
            interval_layers.IntervalReshape(whole, dtype=dtype),
        ]


def _stacked(layer, shapes, dtype):
    """For each tensor the layers that make a row of an image of it, whose other rows are 0."""
    if len(set(shapes)) > 1 or None in shapes[0][1:]:
        raise ValueError(
            f"Layer '{layer.name}' compares tensors of shapes {shapes}. Accepted: one shape, of "
            "known lengths."
        )
    for i in range(len(shapes)):
        pads = ((i, len(shapes) - 1 - i), (0, 0))
        yield [
            interval_layers.IntervalReshape((1, -1, shapes[0][-1]), dtype=dtype),
            interval_layers.IntervalZeroPadding2D(pads, data_format=_LAST, dtype=dtype),
        ]


MERGES = {
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Concatenate,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Subtract,
}
OPERATIONS = ("Add", "Concatenate", "Maximum", "Minimum", "Subtract")  # of keras.ops

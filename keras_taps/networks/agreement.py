"""Whether what a layer was converted to computes the same."""

import keras
import numpy as np

from keras_taps.layers.residual import walk

_AVERAGES = (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)


def agree(stock, converted, shape):
    """Whether a stock layer and interval layers give the same for random inputs of a shape."""
    x = np.random.default_rng(0).random((2, *shape), "float32")
    own, other = (keras.ops.convert_to_numpy(y) for y in (stock(x), walk(converted, x)))
    return own.shape == other.shape and np.allclose(own, other, rtol=1e-4, atol=1e-4)


def check_padding(stock, converted):
    """Raise `ValueError` where Keras pads otherwise on this backend than it says."""
    averages = isinstance(stock, _AVERAGES)
    if not (averages or isinstance(stock, _TRANSPOSED)) or stock.padding != "same":
        return
    for shape in {node.input_tensors[0].shape[1:] for node in stock._inbound_nodes}:
        if None in shape or agree(stock, converted, shape):
            continue
        what = (
            "averages with padding 'same', for which Keras on PyTorch counts repeated border pixels"
            if averages
            else "spreads pixels with padding 'same', which older Keras on PyTorch cuts elsewhere"
        )
        raise ValueError(
            f"Layer '{stock.name}' {what}: on other backends it is another function. "
            "Accepted here: sizes for which the padding is even, padding 'valid', or the "
            "other backends."
        )


def check_expansion(layer, converted, shape):
    """Raise `ValueError` if a layer of a user's own is not what it expands to."""
    if not agree(layer, converted, shape):
        raise ValueError(
            f"Layer '{layer.name}' of type {type(layer).__name__} and the layers that its `expand` "
            f"returns give different outputs for inputs of shape {shape}. Accepted: built layers "
            "with weights that make them the same function."
        )

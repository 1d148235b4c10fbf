"""Checks at the boundary: a message names the argument, what came and what is accepted."""

import difflib
import numbers

import numpy as np


def check_real(name, value, low, high, low_open=False):
    """Return `value` as a float if it is a real number in [low, high], else raise `ValueError`."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if real and low <= value <= high and not (low_open and value == low):
        return float(value)
    interval = f"{'(' if low_open else '['}{low}, {high}{')' if high == float('inf') else ']'}"
    raise ValueError(f"`{name}` must be a number in {interval}. Received: {name}={value!r}")


def check_count(name, value, low=0):
    """Return `value` as an int if it is a whole number >= low, else raise `ValueError`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and value >= low:
        return int(value)
    raise ValueError(f"`{name}` must be a whole number >= {low}. Received: {name}={value!r}")


def check_seed(value):
    """Return `value` as an int if it is a whole number in [0, 2**31), else raise `ValueError`."""
    value = check_count("seed", value)
    if value < 2**31:
        return value
    raise ValueError(f"`seed` must be below 2**31 = {2**31}. Received: seed={value}")


def did_you_mean(name, known):
    """Text to end a message about an unknown name with: the nearest known ones, or nothing."""
    near = difflib.get_close_matches(str(name), known, n=3)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def check_choice(name, value, choices):
    """Return `value` if it is one of `choices`, else raise `ValueError`."""
    if value in choices:
        return value
    accepted = ", ".join(repr(choice) for choice in choices)
    raise ValueError(f"`{name}` must be one of {accepted}. Received: {name}={value!r}")


def check_text(name, value):
    """Return `value` if it is text that is not empty, else raise `ValueError`."""
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"`{name}` must be text. Received: {name}={value!r}")


def check_labels(y, num_classes, name="y"):
    """Raise `ValueError` unless the array `y` holds labels `(batch,)` in [0, num_classes)."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = " (one-hot labels: use argmax)" if y.ndim == 2 else ""
        raise ValueError(
            f"`{name}` must hold one integer label an image, shape (batch,). "
            f"Received: shape {y.shape}{hint}"
        )
    if y.dtype.kind not in "iufb":
        raise ValueError(
            f"`{name}` must hold whole numbers; keras.layers.StringLookup or numpy.unique turn "
            f"names into them. Received: dtype {y.dtype}"
        )
    wrong = ~((y == np.floor(y)) & (y >= 0) & (y < num_classes))
    if wrong.any():
        first = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"`{name}` must hold whole labels from 0 to {num_classes - 1}, one for each logit of "
            f"the network. Received: values from {y.min()} to {y.max()}; {wrong.sum()} of {len(y)} "
            f"are none of these, the first {y[first]} at index {first}"
        )

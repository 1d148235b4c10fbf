"""Margins `o_i - o_y` of the wrong classes, the last Dense layer merged into the difference."""

from typing import NamedTuple

import keras
from keras import ops

from keras_taps.layers.base import refuse_coarse_precision
from keras_taps.layers.dense import check_logits
from keras_taps.typing import Tensor


class MarginRows(NamedTuple):
    """The last Dense layer minus its row for the true class, for each wrong class of each sample.

    Args:
        weights: Tensor `(batch, classes, features)`, `W_i - W_y`.
        bias: Tensor `(batch, classes)`, `b_i - b_y`.
    """

    weights: Tensor
    bias: Tensor


def label_column(labels):
    """Labels `(batch,)` or `(batch, 1)` as an integer tensor `(batch, 1)`.

    Raises:
        ValueError: If they have another shape, as one-hot labels do.
    """
    shape = tuple(ops.shape(labels))
    if len(shape) > 1 and shape[1:] != (1,):
        raise ValueError(
            "`labels` must be whole numbers, one an image (one-hot labels: use argmax). Received: "
            f"shape {shape}"
        )
    return ops.cast(ops.reshape(labels, (-1, 1)), "int32")


def wrong_classes(labels: Tensor, num_classes: int) -> Tensor:
    """Tensor `(batch, num_classes - 1)` of the classes other than the true one, ascending.

    Example:

    >>> [int(i) for i in wrong_classes(ops.array([1]), 4)[0]]
    [0, 2, 3]
    """
    labels = label_column(labels)
    others = ops.arange(num_classes - 1, dtype="int32")[None, :]
    return others + ops.cast(others >= labels, "int32")


def margin_rows(
    dense: keras.layers.Dense, labels: Tensor, classes: Tensor | None = None
) -> MarginRows:
    """Gather the rows `W_i - W_y` of a Dense layer.

    Gathering rows needs `batch x classes x features` numbers; a tensor of all pairs of classes
    for each sample, as `batch x classes x classes`, is never built.

    Args:
        dense: Built Dense layer of logits.
        labels: Integer tensor `(batch,)`.
        classes: Integer tensor `(batch, n)`, by default the wrong classes.

    Returns:
        `MarginRows` with `n` rows a sample; the row of the true class, if asked for, is exactly 0.

    Raises:
        ValueError: If the layer does not give plain logits in float32 or better.

    References:
        Gowal et al. 2018, section 3 ("elision of the last layer").
    """
    check_logits(dense)
    refuse_coarse_precision(dense)
    labels = label_column(labels)
    if classes is None:
        classes = wrong_classes(labels, dense.units)
    rows = ops.transpose(dense.kernel)
    weights = ops.take(rows, classes, axis=0) - ops.take(rows, labels, axis=0)
    if not dense.use_bias:
        return MarginRows(weights, ops.zeros_like(weights[..., 0]))
    return MarginRows(weights, ops.take(dense.bias, classes) - ops.take(dense.bias, labels))


def point_margins(rows, features):
    """Margins at points.

    Args:
        rows: `MarginRows` with n classes a sample.
        features: Tensor `(batch, n or 1, features)`, the input of the last layer: one point for
            each class, or one for all.

    Returns:
        Tensor `(batch, n)`.
    """
    return ops.sum(rows.weights * features, axis=-1) + rows.bias


def logit_margins(logits, labels):
    """Margins of the wrong classes from logits.

    Args:
        logits: Tensor `(batch, classes)`.
        labels: Integer tensor `(batch,)`.

    Returns:
        Tensor `(batch, classes - 1)`.

    Example:

    >>> [float(margin) for margin in logit_margins(ops.array([[1.0, 3.0, 2.0]]), ops.array([1]))[0]]
    [-2.0, -1.0]
    """
    labels = label_column(labels)
    wrong = ops.take_along_axis(logits, wrong_classes(labels, logits.shape[-1]), axis=-1)
    return wrong - ops.take_along_axis(logits, labels, axis=-1)


def upper_margins(rows, box):
    """Upper bounds of the margins over a box.

    Args:
        rows: `MarginRows` with n classes a sample.
        box: `Interval` of tensors `(batch, features)`, the input of the last layer.

    Returns:
        Tensor `(batch, n)`.
    """
    centre, radius = box.centre[:, None, :], box.radius[:, None, :]
    return ops.sum(rows.weights * centre + ops.abs(rows.weights) * radius, axis=-1) + rows.bias


def lower_margins(rows, box):
    """Lower bounds of the margins over a box; arguments and result as `upper_margins`."""
    return -upper_margins(MarginRows(-rows.weights, -rows.bias), box)


def cross_entropy(margins: Tensor) -> Tensor:
    """`ln(1 + sum_i exp(margin_i))` along the last axis: the cross-entropy of the true class.

    Args:
        margins: Tensor `(..., classes - 1)` of `o_i - o_y`.

    Returns:
        Tensor `(...)`.
    """
    return ops.logsumexp(ops.concatenate([ops.zeros_like(margins[..., :1]), margins], -1), axis=-1)


def certified(margins: Tensor) -> Tensor:
    """Boolean tensor `(batch,)`: every margin is finite and below 0, so ties do not count."""
    return ops.all(ops.logical_and(ops.isfinite(margins), margins < 0), axis=-1)

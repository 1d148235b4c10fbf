"""The margins of many classes, a few classes at a time: memory for one chunk, not for all."""

from dataclasses import replace

import keras
from keras import ops

from keras_taps import backend
from keras_taps.attacks.box_attack import margins_at
from keras_taps.bounds.margins import margin_rows, wrong_classes
from keras_taps.interval import Interval
from keras_taps.objectives.connector import connect


def chunked_margins(segment, box, labels, search, c, size):
    """Margins of all wrong classes at points of their own, searched and evaluated in chunks.

    The backward pass computes each chunk again from its points. So the activations of
    `batch x size` points are held at a time; of all points only the points themselves.

    Args:
        segment: `Segment` that ends in a Dense layer of logits.
        box: `Interval` of its inputs, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.
        search: Maps classes `(batch, size)` and the number of the chunk to points
            `(batch, size, ...)` in the box, without gradient.
        c: Connector parameter in [0, 1].
        size: Classes at a time, in [1, classes - 1].

    Returns:
        Tensor `(batch, classes - 1)`.
    """
    wrong = wrong_classes(labels, segment.last.units)
    chunks = -(-wrong.shape[1] // size)
    # Classes that are computed twice fill the last chunk.
    filled = ops.concatenate([wrong, wrong[:, : chunks * size - wrong.shape[1]]], axis=1)
    parts = ops.transpose(ops.reshape(filled, (-1, chunks, size)), (1, 0, 2))
    variables, given = segment.variables, segment.given

    def one(chunk):
        number, classes = chunk

        def evaluate(points, lower, upper, *tensors):
            values, moments = tensors[: len(variables)], tensors[len(variables) :]
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                rows = margin_rows(segment.last, labels, classes)
                reached = connect(points, Interval(lower, upper), c)
                return margins_at(
                    replace(segment, given=given.with_tensors(moments)), reached, rows
                )

        points, values = search(classes, number), [variable.value for variable in variables]
        return backend.recomputed(evaluate, points, *box, *values, *given.tensors)

    found = ops.map(one, (ops.arange(chunks, dtype="int32"), parts))
    return ops.reshape(ops.transpose(found, (1, 0, 2)), (-1, chunks * size))[:, : wrong.shape[1]]

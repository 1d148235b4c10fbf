"""The slopes of all activations of a network, in one array and cut up for each."""

import numpy as np
from keras import ops

from keras_taps.bounds.nodes import Elementwise, Maximum, Sum


def sites_of(nodes):
    """The nonlinear nodes in the order in which a box meets them."""
    for node in nodes:
        if isinstance(node, Sum):
            for branch in node.branches:
                yield from sites_of(branch)
        elif isinstance(node, (Elementwise, Maximum)):
            yield node


def lines_of(traces):
    """The lines of all activations."""
    for trace in traces:
        if isinstance(trace, list):
            yield from lines_of(trace)
        elif hasattr(trace, "lower_slope"):
            yield trace


def flat_slopes(traces, rows=None):
    """The slopes `(batch, 1, neurons)` of the lower lines of all activations.

    With rows `(batch, n, neurons)` on the activations those `(batch, n, neurons)` of the lines that
    these meet: of curves the upper ones where rows are positive.
    """
    slopes = [lines.lower_slope for lines in lines_of(traces)]
    if rows is not None:
        slopes = [
            ops.where(ops.logical_and(row > 0, lines.around is not None), lines.upper_slope, slope)
            for lines, slope, row in zip(
                lines_of(traces), slopes, pieces_of(traces, rows), strict=True
            )
        ]
        return ops.concatenate([ops.reshape(s, (*rows.shape[:2], -1)) for s in slopes], -1)
    return ops.concatenate([ops.reshape(s, (-1, 1, int(np.prod(s.shape[2:])))) for s in slopes], -1)


def pieces_of(traces, slopes):
    """The slopes `(batch, n, neurons)` of all activations, cut up for each."""
    start, found = 0, []
    for lines in lines_of(traces):
        shape = tuple(lines.lower_slope.shape[2:])
        size = int(np.prod(shape))
        piece = slopes[:, :, start : start + size]
        found.append(ops.reshape(piece, (-1, slopes.shape[1], *shape)))
        start += size
    return found

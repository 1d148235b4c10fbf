"""How boxes and linear forms pass affine nodes and max pooling, with their rounding errors."""

from dataclasses import dataclass, replace

import numpy as np

from keras_taps.verification.certificate.places import WHOLE
from keras_taps.verification.certificate.rounding import ROUND, TINY, gamma, lost, size_of
from keras_taps.verification.graph.nodes import Conv, Reshape


@dataclass(frozen=True)
class AffineRecord:
    """`scale` bounds |W||x| + |b|; `lost` what underflow can take from a form on its way back."""

    scale: np.ndarray
    lost: float


@dataclass(frozen=True)
class PoolRecord:
    """Of each window: the input that bounds it below, whether it surely wins, and the maximum.

    `size` bounds |x| of the inputs.
    """

    chosen: np.ndarray
    decided: np.ndarray
    highest: np.ndarray
    size: np.ndarray


def affine_box(node, absolutes, box, size):
    """Boxes after an affine node, and its record for the way back.

    Args:
        node: Affine node.
        absolutes: Dictionary that keeps the affine nodes with absolute coefficients.
        box: Pair of arrays `(boxes, ...)`.
        size: Array of the shape of one input, at least |x| in all the boxes.
    """
    if id(node) not in absolutes:  # the graph keeps its nodes, so ids stay theirs
        absolutes[id(node)] = node.absolute()
    absolute = absolutes[id(node)]
    lower, upper = box
    centre = (lower + upper) / 2
    radius = np.maximum(upper - centre, centre - lower) * (1 + 4 * ROUND) + TINY
    scale = (absolute.apply(size[None])[0] + node.magnitude) * (1 + 1e-9) + TINY
    middle, spread = node(centre), absolute.apply(radius)
    pad = 2 * gamma(node.terms) * scale + TINY
    return (middle - spread - pad, middle + spread + pad), AffineRecord(scale, lost(size))


def affine_back(node, record, form):
    """The form on the inputs of an affine node."""
    place, scale = form.place, record.scale
    if isinstance(node, Reshape):
        rows = place.moved(form.rows, WHOLE, node.out_shape)
        return replace(form, rows=node.transpose(rows), place=WHOLE)
    error = gamma(node.terms + scale.size) * place.dot(np.abs(form.rows), scale) + record.lost
    form = form.plus(place.dot(form.rows, np.broadcast_to(node.bias, scale.shape)), error)
    target = place.before(node)
    if place is WHOLE:
        return replace(form, rows=node.transpose(form.rows))
    if isinstance(node, Conv):
        reach = place.reach(node)
        # What reaches over the border would multiply padding, which is exactly 0.
        rows = reach.cleared(node.spread(form.rows))
        return replace(form, rows=_settled(rows, reach, target, node), place=target)
    return replace(form, rows=place.times(form.rows, _like(node.scale, node.in_shape)))


def pool(node, box):
    """Box after max pooling, and the record of its way back."""
    low, high = (node.windows(bound[None])[0] for bound in box)
    best = low.argmax(-1)
    others = high.copy()
    np.put_along_axis(others, best[..., None], -np.inf, -1)
    decided = low.max(-1) >= others.max(-1)
    return (low.max(-1), high.max(-1)), PoolRecord(best, decided, high.max(-1), size_of(box))


def pool_back(node, record, form):
    """Below by the entry with the largest lower bound; above by it if it surely wins."""
    place = form.place
    rising = np.maximum(form.rows, 0)
    lifted = place.dot(rising, np.where(record.decided, 0.0, record.highest))
    loose = np.where(record.decided, 0.0, np.abs(record.highest))
    error = gamma(record.chosen.size) * place.dot(rising, loose)
    routed = np.minimum(form.rows, 0) + place.times(rising, record.decided.astype("float64"))
    chosen = np.take_along_axis(node.members(), record.chosen[..., None], -1)[..., 0]
    size, window = record.size.reshape(-1)[chosen], int(np.prod(node.size))
    error = error + gamma(window) * place.dot(np.abs(routed), size)
    form = form.plus(lifted, error)
    if place is WHOLE:
        rows = np.zeros((len(routed), int(np.prod(node.in_shape))))
        np.add.at(rows, (slice(None), chosen.reshape(-1)), routed.reshape(len(routed), -1))
        return replace(form, rows=rows.reshape(-1, *node.in_shape))
    reach, target = place.reach(node), place.before(node)
    rows = np.zeros((len(routed), *reach.size, routed.shape[-1]))
    for tap in range(window):
        first = divmod(tap, node.size[1])
        spans = (
            slice(start, start + stride * (count - 1) + 1, stride)
            for start, stride, count in zip(first, node.strides, place.size, strict=True)
        )
        mine = (record.chosen == tap).astype("float64")
        rows[(slice(None), *spans)] += place.times(routed, mine)
    return replace(form, rows=_settled(rows, reach, target, node), place=target)


def _settled(rows, reach, target, node):
    """Rows as they come from a crop, where the target has them."""
    return rows if target is not WHOLE else reach.moved(rows, WHOLE, node.in_shape)


def _like(values, shape):
    return np.ascontiguousarray(np.broadcast_to(values, shape))

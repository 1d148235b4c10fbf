"""Zonotopes with a box part, which go forward: the abstractions of DiffAI, from boxes to DeepZ.

For bounds alone `fixed_slopes` gives the numbers of DeepZ without generators; here they are kept,
because hybrid ones keep those of the image and no others.
"""

import math
from dataclasses import dataclass

from keras import ops

from keras_taps.bounds.margins import margin_rows
from keras_taps.bounds.nodes import Elementwise, Maximum, Sum, unfold
from keras_taps.checks import check_choice
from keras_taps.interval import Interval
from keras_taps.layers.residual import add_all
from keras_taps.networks.segment import Segment
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.typing import Tensor

# Which slope a crossing ReLU has, and where its new error goes: into the box part but for 'deepz'.
ABSTRACTIONS = ("box", "hbox", "hswitch", "hdiag", "hzono", "deepz")


@dataclass(frozen=True, eq=False)
class Zonotope:
    """The points `centre + errors . e + radius * f` for all e and f in [-1, 1].

    Args:
        centre: Tensor `(batch, ...)`.
        errors: Tensor `(batch, n, ...)`, n generators that coordinates share; n may be 0.
        radius: Tensor `(batch, ...)` of numbers >= 0, an error of its own for each coordinate.

    References:
        Mirman, Gehr, Vechev, "Differentiable Abstract Interpretation for Provably Robust Neural
        Networks", 2018; Singh et al., "Fast and Effective Robustness Certification" (DeepZ), 2018.
    """

    centre: Tensor
    errors: Tensor
    radius: Tensor

    @classmethod
    def of(cls, box: Interval, abstraction: str = "deepz") -> "Zonotope":
        """A box: one shared error for each coordinate, or none for 'box'.

        Args:
            box: `Interval` of tensors `(batch, ...)`.
            abstraction: One of `ABSTRACTIONS`.
        """
        if abstraction == "box":
            return cls(box.centre, _no_errors(box.centre, 0), box.radius)
        return cls(box.centre, _diagonal(box.radius), ops.zeros_like(box.radius))

    @property
    def box(self) -> Interval:
        """The smallest box around it."""
        reach = self.radius + ops.sum(ops.abs(self.errors), axis=1)
        return Interval(self.centre - reach, self.centre + reach)


def zonotope_margins(
    network: IntervalSequential | Segment, box: Interval, labels: Tensor, abstraction: str = "hbox"
) -> Tensor:
    """Upper bounds of the margins by a zonotope that goes forward, with its gradient.

    Memory grows with the numbers of pixels times those of the largest layer, for each sample.

    Args:
        network: `IntervalSequential`, or a `Segment`, that ends in a Dense layer.
        box: `Interval` of inputs to it, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.
        abstraction: How a ReLU whose input crosses zero is bounded. 'deepz': by the chord and its
            parallel, with an error that what follows shares. The others lose sight of the new
            error, a box: 'hzono' with the slope of the chord, 'hdiag' with 1, 'hbox' with 0,
            'hswitch' with the one of these two that adds less. 'box' shares no error at all: IBP.

    Returns:
        Tensor `(batch, classes - 1)`.

    Raises:
        ValueError: If there is no such abstraction, or for a layer without a relaxation.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> box = input_box(ops.zeros((2, 8, 8, 1)), 0.1)
    >>> ops.shape(zonotope_margins(network, box, ops.array([3, 4]), "hbox"))
    (2, 9)

    References:
        Mirman, Gehr, Vechev 2018, section 4; Mirman, Singh, Vechev, "A Provable Defense for Deep
        Residual Networks", 2019.
    """
    check_choice("abstraction", abstraction, ABSTRACTIONS)
    segment = network.segment
    nodes = unfold(segment.body.layers, segment.given)
    features = _through(nodes, Zonotope.of(box, abstraction), abstraction)
    rows = margin_rows(segment.last, labels)
    shared = ops.einsum("bkf,bnf->bkn", rows.weights, features.errors)
    own = ops.sum(ops.abs(rows.weights) * features.radius[:, None], axis=-1)
    centre = ops.sum(rows.weights * features.centre[:, None], axis=-1)
    return centre + own + ops.sum(ops.abs(shared), axis=-1) + rows.bias


def _through(nodes, zonotope, abstraction):
    for node in nodes:
        if isinstance(node, Elementwise):
            zonotope = _activated(node, zonotope, abstraction)
        elif isinstance(node, Sum):
            parts = [_through(branch, zonotope, abstraction) for branch in node.branches]
            zonotope = _sum(parts, zonotope.errors.shape[1])
        elif isinstance(node, Maximum):  # it has no slope, so nothing of the errors is left
            box = node.layer(zonotope.box)
            errors = _no_errors(box.centre, zonotope.errors.shape[1])
            zonotope = Zonotope(box.centre, errors, box.radius)
        else:
            zonotope = _affine(node, zonotope)
    return zonotope


def _affine(node, zonotope):
    """Errors go through the linear part, centre and box part as a box does."""
    centre, radius, errors = zonotope.centre, zonotope.radius, zonotope.errors
    box = node.bounds(Interval(centre - radius, centre + radius))
    count = errors.shape[1]
    if not count:
        return Zonotope(box.centre, _no_errors(box.centre, 0), box.radius)
    merged = ops.reshape(errors, (-1, *errors.shape[2:]))
    linear = node.function(merged) - node.function(ops.zeros_like(merged[:1]))
    return Zonotope(box.centre, ops.reshape(linear, (-1, count, *linear.shape[1:])), box.radius)


def _activated(node, zonotope, abstraction):
    slope, low, high = _lines(node, zonotope.box, abstraction)
    centre = slope * zonotope.centre + (low + high) / 2
    errors = ops.expand_dims(slope, 1) * zonotope.errors
    radius, new = ops.abs(slope) * zonotope.radius, (high - low) / 2
    if abstraction != "deepz":
        return Zonotope(centre, errors, radius + new)
    return Zonotope(centre, ops.concatenate([errors, _diagonal(new)], axis=1), radius)


def _lines(node, box, abstraction):
    """`(slope, low, high)`: parallel lines between which an activation lies on a box."""
    if node.slope is None and abstraction in ("box", "hbox"):
        bounds = node.bounds(box)
        return ops.zeros_like(bounds.lower), *bounds
    slope, above, _, below = node.parallel(box)[:4]
    if node.slope is None or abstraction in ("deepz", "hzono"):
        return slope, below, above
    steeper = {
        "hdiag": ops.ones_like(slope),
        "hswitch": ops.cast(box.upper > -box.lower, slope.dtype),
    }
    steep = node.slope + (1 - node.slope) * steeper.get(abstraction, 0.0)
    slope = ops.where(ops.logical_and(box.lower < 0, box.upper > 0), steep, slope)
    # At 0 they touch from below; above, at the end that is further off. Where stable, both are 0.
    ends = (node.slope - slope) * ops.minimum(box.lower, 0), (1 - slope) * ops.maximum(box.upper, 0)
    return slope, ops.zeros_like(slope), ops.maximum(*ends)


def _sum(parts, shared):
    """Branches share the errors that came in; those that they added are their own."""
    common = add_all([part.errors[:, :shared] for part in parts])
    own = [part.errors[:, shared:] for part in parts]
    return Zonotope(
        add_all([part.centre for part in parts]),
        ops.concatenate([common, *own], axis=1),
        add_all([part.radius for part in parts]),
    )


def _diagonal(values):
    """One generator `(batch, size, ...)` for each coordinate."""
    shape = values.shape[1:]
    unit = ops.reshape(ops.eye(math.prod(shape), dtype=values.dtype), (1, -1, *shape))
    return unit * ops.expand_dims(values, 1)


def _no_errors(centre, count):
    """`count` generators of 0."""
    one = ops.expand_dims(ops.zeros_like(centre), 1)
    return ops.repeat(one, count, axis=1) if count else one[:, :0]

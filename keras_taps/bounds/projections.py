"""Estimates of fixed-slope bounds by random projections: cheap, for training, never a certificate.

A neuron's radius is a sum of absolute values. Cauchy numbers in place of the errors make it the
scale of a Cauchy number, which the median of some draws estimates. One forward pass of these draws
bounds all neurons, where exact bounds send one row back for each.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import keras
from keras import ops

from keras_taps import backend
from keras_taps.bounds.fixed_slopes import parallel_nodes
from keras_taps.bounds.lines import Lines
from keras_taps.bounds.margins import margin_rows
from keras_taps.bounds.nodes import Elementwise, Sum, concretise, propagate, substitute
from keras_taps.interval import Interval
from keras_taps.layers import IntervalNormalization
from keras_taps.layers.residual import add_all
from keras_taps.typing import Tensor

_LARGEST = 1e10
_FLOATS = 2**24  # numbers in the draws of a layer that exist at a time
_STREAM = 5_000_011  # of a step's seed, from which attacks draw too


class Projected(NamedTuple):
    """What is known after some layers.

    Args:
        box: `Interval` by interval arithmetic between the lines: its centre is right.
        images: Tensor `(batch, generations, k, ...)`: k draws for the errors of the image, and k
            for those of each activation.
    """

    box: Interval
    images: Tensor

    @property
    def estimate(self) -> Interval:
        """Box about the same centre with the radii that the images speak for."""
        ordered = ops.sort(ops.abs(self.images), axis=2)
        count = ordered.shape[2]
        middle = (ordered[:, :, (count - 1) // 2] + ordered[:, :, count // 2]) / 2
        radius = ops.sum(middle, axis=1)
        return Interval(self.box.centre - radius, self.box.centre + radius)


def projected_margins(segment, box, labels, seed, count, floats=_FLOATS):
    """Margins between parallel lines on estimated boxes: neither upper nor lower bounds.

    Only the boxes of activations are estimated; the margins themselves are sent back exactly. The
    gradient of a median is that of the draw in the middle, so it stays noisy with many draws. The
    batch is cut into parts, which the backward pass computes again, and all of them share the
    draws: so the parts change nothing.

    Args:
        segment: `Segment` that ends in a Dense layer of logits.
        box: `Interval` of its inputs, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.
        seed: As `projected_traces`.
        count: As `projected_traces`.
        floats: About how many numbers the draws of a layer hold at a time.

    Returns:
        Tensor `(batch, classes - 1)`.

    Raises:
        ValueError: For a layer without a slope.

    References:
        Wong et al., "Scaling Provable Adversarial Defenses", 2018.
    """
    while isinstance(segment.layers[0], IntervalNormalization):
        # Before the parts: TensorFlow's loops have no gradient around constants of a layer.
        box, segment = segment.layers[0](box), replace(segment, layers=segment.layers[1:])
    variables, given = segment.variables, segment.given

    def margins(segment, box, labels):
        nodes, traces, _ = projected_traces(segment.body, box, seed, count)
        rows = margin_rows(segment.last, labels)
        return concretise(box, *substitute(nodes, traces, *rows))

    most = max(1, floats // (count * _draws_of_one(segment.body, box)))
    batch = ops.shape(box.lower)[0]
    if isinstance(batch, int) and batch <= most:
        return margins(segment, box, labels)
    parts = -(-batch // most)
    size = -(-batch // parts)

    def cut(tensor):
        filled = ops.concatenate([tensor, tensor[: parts * size - batch]], axis=0)
        return ops.reshape(filled, (parts, size, *tensor.shape[1:]))

    def one(part):
        lower, upper, own = part

        def evaluate(lower, upper, *tensors):
            values, moments = tensors[: len(variables)], tensors[len(variables) :]
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                under = replace(segment, given=given.with_tensors(moments))
                return margins(under, Interval(lower, upper), own)

        values = [variable.value for variable in variables]
        return backend.recomputed(evaluate, lower, upper, *values, *given.tensors)

    found = ops.map(one, tuple(map(cut, (*box, labels))))
    return ops.reshape(found, (-1, found.shape[-1]))[:batch]


def _draws_of_one(segment, box):
    """How many numbers one draw for one sample takes, where they are most."""
    one = Interval(*(bound[:1] for bound in box))
    activations, sizes = 0, [math.prod(box.lower.shape[1:])]
    traces = propagate(parallel_nodes(segment), one)[1]
    while traces:
        trace = traces.pop()
        if isinstance(trace, Lines):
            activations += 1
            sizes.append(math.prod(trace.upper_slope.shape[2:]))
        elif isinstance(trace, list):  # of branches, each with its own
            traces.extend(trace)
        else:
            sizes.append(math.prod(trace))
    return (1 + activations) * max(sizes)


def projected_traces(segment, box, seed, count):
    """Nodes of a `Segment` and their traces between parallel lines, on estimated boxes.

    The box of the first activation is that of interval arithmetic, which is exact.

    Args:
        segment: `Segment` without the layer whose forms will be bounded.
        box: `Interval` of its inputs.
        seed: Tensor of two integers, that of the step; all images of the batch share the draws.
        count: Number of draws k; 50 in the published codes, where one estimate has a standard
            deviation of a fifth of the radius.

    Returns:
        `(nodes, traces, projected)`: the first two for `substitute`, and the `Projected` outputs.

    Raises:
        ValueError: For a layer without a slope.

    References:
        Wong et al., "Scaling Provable Adversarial Defenses", 2018; Balunovic and Vechev,
        "Adversarial Training and Provable Defenses: Bridging the Gap", 2020.
    """
    nodes = parallel_nodes(segment)
    draws = _Draws(seed, count)
    images = ops.expand_dims(ops.expand_dims(box.radius, 1), 1) * draws(box.radius.shape[1:])
    projected, traces = _walk(nodes, Projected(box, images), draws)
    return nodes, traces, projected


def through_affine(nodes, projected):
    """`Projected` after affine nodes."""
    for node in nodes:
        projected = _affine(node, projected)[0]
    return projected


class _Draws:
    """Cauchy numbers, others at each call; it also knows whether an activation has been met."""

    def __init__(self, seed, count):
        self.seed, self.count, self.calls, self.first = seed, count, 0, True

    def __call__(self, shape):
        """A tensor `(1, 1, k, ...)`."""
        self.calls += 1
        share = backend.uniform((1, 1, self.count, *shape), self.seed + _STREAM + 7919 * self.calls)
        return ops.clip(ops.tan(math.pi * (share - 0.5)), -_LARGEST, _LARGEST)


def _walk(nodes, projected, draws):
    traces = []
    for node in nodes:
        if isinstance(node, Sum):
            parts, own = zip(*(_walk(b, projected, draws) for b in node.branches), strict=True)
            projected, trace = _sum(parts, projected.images.shape[1]), list(own)
        elif isinstance(node, Elementwise):
            projected, trace = _activated(node, projected, draws)
        else:
            projected, trace = _affine(node, projected)
        traces.append(trace)
    return projected, traces


def _affine(node, projected):
    box, trace = node.forward(projected.box, None, None)
    images = projected.images
    merged = ops.reshape(images, (-1, *images.shape[3:]))
    linear = node.function(merged) - node.function(ops.zeros_like(merged[:1]))
    linear = ops.reshape(linear, (-1, *images.shape[1:3], *linear.shape[1:]))
    return Projected(box, linear), trace


def _activated(node, projected, draws):
    arrived = projected.box if draws.first else projected.estimate
    draws.first = False
    box, lines = node.forward(arrived, lambda node, box, pull: box, None)
    slope = ops.expand_dims(lines.upper_slope, 1)
    half = ops.expand_dims(lines.upper_intercept - lines.lower_intercept, 1) / 2
    images = [slope * projected.images, half * draws(half.shape[3:])]
    return Projected(box, ops.concatenate(images, axis=1)), lines


def _sum(parts, shared):
    """Branches share the draws that came in; those that they added are their own."""
    common = add_all([part.images[:, :shared] for part in parts])
    own = [part.images[:, shared:] for part in parts]
    images = ops.concatenate([common, *own], axis=1)
    return Projected(add_all([part.box for part in parts]), images)

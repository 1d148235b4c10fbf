"""Adversarial points in the zonotope after an extractor, found in the space of its errors."""

import math
from dataclasses import dataclass
from functools import partial

from keras import ops

from keras_taps import backend
from keras_taps.attacks.box_attack import constants, features_at
from keras_taps.attacks.pgd import maximise, step_sizes
from keras_taps.bounds.fixed_slopes import fixed_slope_traces
from keras_taps.bounds.lines import Lines
from keras_taps.bounds.margins import cross_entropy, margin_rows, point_margins
from keras_taps.bounds.nodes import Elementwise, Sum, substitute
from keras_taps.bounds.projections import projected_traces
from keras_taps.interval import Interval
from keras_taps.layers.folding import fold
from keras_taps.layers.residual import walk
from keras_taps.networks.segment import Segment


@dataclass(frozen=True, eq=False)
class LatentZonotope:
    """The zonotope of the outputs of an extractor over a box, as a function of its errors.

    An activation is replaced by the middle of its parallel lines plus an error of its own, so that
    one ordinary forward pass evaluates a point. Nothing of it has a gradient.

    Args:
        extractor: `Segment`.
        box: `Interval` of images.
        nodes: Nodes of the extractor.
        traces: Their traces, from `fixed_slope_traces`.
        out: `Interval` of the outputs by interval arithmetic between the lines.
        images: Draws of `Projected` outputs if the boxes of activations are estimates, else `None`.

    References:
        Balunovic and Vechev, "Adversarial Training and Provable Defenses: Bridging the Gap", 2020.
    """

    extractor: Segment
    box: Interval
    nodes: list
    traces: list
    out: Interval
    images: object = None

    @classmethod
    def of(cls, extractor, box, seed=None, projections=None):
        """The zonotope after a `Segment`, whose weights are constants of it.

        Args:
            extractor: `Segment`.
            box: `Interval` of images.
            seed: Tensor of two integers for random projections.
            projections: Number of draws by which the boxes of activations are estimated; `None`
                for exact ones.
        """
        stop = ops.stop_gradient
        box, images = Interval(*(stop(bound) for bound in box)), None
        with constants(extractor) as frozen:
            if projections is None:
                nodes, traces, out = fixed_slope_traces(frozen, box)
            else:
                nodes, traces, (out, images) = projected_traces(frozen, box, seed, projections)
                images = stop(images)
        return cls(extractor, box, nodes, _stopped(traces), Interval(*map(stop, out)), images)

    @property
    def shapes(self):
        """Shapes of the errors: that of an image, then one for each activation."""
        return [tuple(self.box.lower.shape[1:]), *_shapes(self.nodes, self.traces)]

    @property
    def size(self):
        """Number of errors."""
        return sum(math.prod(shape) for shape in self.shapes)

    def points(self, errors):
        """Outputs `(batch, ...)` at errors `(batch, size)` in [-1, 1]."""
        parts, start = [], 0
        for shape in self.shapes:
            stop = start + math.prod(shape)
            parts.append(ops.reshape(errors[:, start:stop], (-1, *shape)))
            start = stop
        image, *rest = parts
        return _evaluate(self.nodes, self.traces, self.box.centre + self.box.radius * image, rest)

    def pull(self, rows, constant):
        """Upper bounds `rows . outputs + constant` as such on images; only rows have a gradient."""
        with constants(self.extractor):
            return substitute(self.nodes, self.traces, rows, constant)


def noise_attack(zonotope, classifier, labels, seed, steps=7, step_size=0.125):
    """Points of a latent zonotope that maximise the cross-entropy, one a sample.

    Projected sign-gradient ascent on the errors, from a uniform start; the best point is kept.
    Without an activation in the extractor it is PGD on the image.

    Args:
        zonotope: `LatentZonotope` of the extractor.
        classifier: `Segment` after the extractor, which ends in a Dense layer of logits.
        labels: Integer tensor `(batch,)`.
        seed: Tensor of two integers for the random start.
        steps: Gradient steps >= 0.
        step_size: First step in (0, 1] relative to the width 2 of the errors.

    Returns:
        Tensor `(batch, ...)` of latent points, without gradient. Entries may be negative after a
        ReLU, as the zonotope is.

    References:
        Balunovic and Vechev 2020, section 4.
    """
    extractor = zonotope.extractor.layers
    whole = Segment((*extractor, *classifier.layers), classifier.given)
    with constants(whole) as frozen:
        rows = margin_rows(classifier.last, labels)
        layers = frozen.layers[len(extractor) : -1]
        body = partial(walk, fold(layers, tuple(zonotope.out.lower.shape[1:]), frozen.given))

        def objective(errors):
            points = zonotope.points(errors[:, 0])
            features = features_at(body, ops.expand_dims(points, 1))
            return cross_entropy(point_margins(rows, features))[:, None]

        shape = (ops.shape(zonotope.box.lower)[0], 1, zonotope.size)
        start = 2 * backend.uniform(shape, seed) - 1
        ends = Interval(-ops.ones_like(start), ops.ones_like(start))
        errors, _ = maximise(objective, start, ends, step_sizes(steps, step_size))
        return ops.stop_gradient(zonotope.points(errors[:, 0]))


def _stopped(trace):
    """A trace without gradient, whatever it is made of."""
    if isinstance(trace, list):
        return [_stopped(each) for each in trace]
    if isinstance(trace, Lines):
        return Lines(*map(ops.stop_gradient, trace[:4]))
    return trace


def _shapes(nodes, traces):
    found = []
    for node, trace in zip(nodes, traces, strict=True):
        if isinstance(node, Elementwise):
            found.append(tuple(trace.upper_slope.shape[2:]))
        elif isinstance(node, Sum):
            for branch, own in zip(node.branches, trace, strict=True):
                found += _shapes(branch, own)
    return found


def _evaluate(nodes, traces, x, errors):
    """Outputs of the linearised nodes; takes what errors they need from the front of the list."""
    for node, trace in zip(nodes, traces, strict=True):
        if isinstance(node, Elementwise):
            slope, over, _, under = (line[:, 0] for line in trace[:4])
            x = slope * x + under + (over - under) / 2 * (1 + errors.pop(0))
        elif isinstance(node, Sum):
            x = sum(
                _evaluate(branch, own, x, errors)
                for branch, own in zip(node.branches, trace, strict=True)
            )
        else:
            x = node.function(x)
    return x

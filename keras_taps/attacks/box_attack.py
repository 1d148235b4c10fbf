"""Adversarial points in a box at the entrance of a network or of its classifier."""

import contextlib
from dataclasses import replace
from functools import partial

import keras
from keras import ops

from keras_taps import backend
from keras_taps.attacks.pgd import climb, keep_best, maximise, step_sizes
from keras_taps.bounds.margins import MarginRows, cross_entropy, margin_rows, point_margins
from keras_taps.interval import Interval
from keras_taps.layers.folding import around, fold
from keras_taps.layers.residual import walk
from keras_taps.networks.segment import Segment
from keras_taps.typing import Tensor

ESTIMATORS = ("multi", "single")


@contextlib.contextmanager
def constants(segment):
    """Context in which the weights of a segment are constants of a search.

    It yields the segment with batch moments that are constants too.
    """
    frozen = [(v, ops.stop_gradient(v.value)) for v in segment.variables]
    with keras.StatelessScope(state_mapping=frozen):
        yield replace(segment, given=segment.given.stopped())


def margins_at(segment: Segment, points: Tensor, rows: MarginRows) -> Tensor:
    """Margins of a network or classifier at several points a sample.

    Args:
        segment: `Segment` that ends in the Dense layer from which `rows` come.
        points: Tensor `(batch, n, ...)`, n points for each sample.
        rows: `MarginRows` of the samples.

    Returns:
        Tensor `(batch, classes)`: with n > 1, the margin of class i at point i.
    """
    return point_margins(rows, features_at(segment.body, points))


def features_at(body, points):
    """Inputs `(batch, n, features)` of a last layer at points `(batch, n, ...)`.

    Args:
        body: Function of tensors `(batch, ...)`, such as a `Segment` without its last layer.
        points: Tensor `(batch, n, ...)`.
    """
    shape = ops.shape(points)
    features = body(ops.reshape(points, (-1, *points.shape[2:])))
    return ops.reshape(features, (-1, shape[1], features.shape[-1]))


def box_attack(
    segment: Segment,
    box: Interval,
    labels: Tensor,
    seed: Tensor,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    estimator: str = "multi",
    start_share: float = 1.0,
    classes: Tensor | None = None,
    dtype: str | None = None,
) -> Tensor:
    """Search a box for the points that maximise the margins.

    In latent space this is the attack of TAPS; with the whole network and the box of an image it
    is PGD. Weights, box and batch statistics are constants of the search: only gradients with
    respect to the points are taken, and none flows out.

    Args:
        segment: `Segment` that ends in a Dense layer of logits.
        box: `Interval` of its inputs, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.
        seed: Tensor of two integers from which the random starts are drawn.
        steps: Gradient steps S >= 0.
        step_size: First step relative to the width of the box, by default `max(0.2, 2 / S)`.
        restarts: Random starts >= 1; the best point over all is kept.
        estimator: 'multi': one point for each wrong class, maximising its margin. 'single': one
            point, maximising the cross-entropy.
        start_share: Starts are uniform in the box shrunk by this factor in [0, 1] about its centre.
        classes: With 'multi', integer tensor `(batch, n)` of the classes to attack, by default all
            wrong ones.
        dtype: Precision of the search, 'bfloat16' for instance, by default that of the network.
            In a lower one, kernels and the offsets of points from the centre are rounded once,
            and the last point of each search, put back into the box, stands for the best.

    Returns:
        Tensor `(batch, n or 1, ...)` of points in the box, without gradient; n is
        `num_classes - 1` by default.

    References:
        Mao et al. 2023, sections 3.1 and 3.3.
    """
    sizes = step_sizes(steps, step_size)
    box = Interval(*(ops.expand_dims(ops.stop_gradient(bound), 1) for bound in box))
    with constants(segment) as frozen:
        rows = margin_rows(frozen.last, labels, classes)
        count = rows.weights.shape[1] if estimator == "multi" else 1
        layers = fold(frozen.body.layers, box.lower.shape[2:], frozen.given)
        if dtype is None:
            body, region = partial(walk, layers), box
        else:
            centre = box.centre
            body = around(layers, centre[:, 0], count, dtype)
            region = Interval(*(ops.cast(bound - centre, dtype) for bound in box))

        def objective(points):
            margins = point_margins(rows, features_at(body, points))
            return margins if estimator == "multi" else cross_entropy(margins)[:, None]

        shape = ops.shape(box.lower)
        best = None
        for restart in range(restarts):
            noise = backend.uniform((shape[0], count, *shape[2:]), seed + restart)
            if start_share != 1:
                noise = 0.5 + start_share * (noise - 0.5)
            noise = ops.cast(noise, region.lower.dtype)
            start = ops.minimum(region.lower + noise * region.width, region.upper)
            if dtype is None:
                found = maximise(objective, start, region, sizes)
            else:
                points = climb(objective, start, region, sizes)
                found = points, objective(points) if restarts > 1 else None
            best = found if best is None else keep_best(best, found)
    points = best[0]
    if dtype is not None:
        points = centre + ops.cast(points, centre.dtype)
        points = ops.minimum(ops.maximum(points, box.lower), box.upper)
    return ops.stop_gradient(points)

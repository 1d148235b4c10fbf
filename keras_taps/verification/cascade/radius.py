"""Certified radius: the largest eps, input by input, at which robustness is proved."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.checks import check_real
from keras_taps.networks.load import ModelLike
from keras_taps.radii import Radii
from keras_taps.typing import Progress
from keras_taps.verification.cascade.given import (
    check_stages,
    checked_data,
    load_network,
    own_outputs,
)
from keras_taps.verification.cascade.options import Options
from keras_taps.verification.cascade.stages import Verifier
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.cascade.tightener import EACH
from keras_taps.verification.certificate.schema import CERTIFIED

BOUNDS = ("ibp", "crown-ibp", "crown", "alpha-crown")


def certified_radius(
    model: ModelLike,
    x: ArrayLike,
    y: ArrayLike,
    high: float = 0.5,
    tolerance: float = 0.001,
    *,
    eps: ArrayLike = 1.0,
    domain: Any = "model",
    stages: str | Sequence[str] = BOUNDS,
    timeout: float = 60,
    progress: Progress | None = None,
    **options: Any,
) -> np.ndarray:
    """Bisect the radius of every input.

    Branch and bound is not among the stages unless you ask for it: at each halving that fails it
    would search until the timeout, and near the radius every search is a hard one.

    Args:
        model: As for `certify`.
        x: Array `(count, ...)` of inputs in the domain.
        y: Integer array `(count,)` of labels.
        high: Largest radius to try, above 0 and at most the width of the domain.
        tolerance: Width > 0 at which the bisection ends.
        eps: Radius in which radii are measured, as for `certify`: a number, an array that
            broadcasts to one input, such as the deviation of each feature, or one for each input. A
            box of radius r has the radius `r * eps`.
        domain: What values inputs may take, as for `certify`.
        stages: Names out of `STAGES` that decide about one radius.
        timeout: Seconds for one radius of one input.
        progress: Called as `progress(done, total)` with numbers of halvings.
        **options: Fields of `Options`.

    Returns:
        Array `(count,)`: a radius at which each input is certified, at most `tolerance` below one
        at which it was not, or `high`; 0 if none was found, -1 for misclassified inputs.

    Raises:
        ValueError: If an argument is out of range or a layer cannot be verified.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> certified_radius(network, np.zeros((1, 8, 8, 1)), np.zeros(1, int), 0.1, 0.05).shape
    (1,)
    """
    network, graph, domain = load_network(model, domain)
    x, y = checked_data(x, y, network, domain)
    stages = check_stages(stages)
    units = Radii.of(eps, graph.in_shape, len(x), domain)
    largest = np.max(units.shared if units.rows is None else units.rows)
    if not largest > 0:
        raise ValueError(f"`eps` must be above 0 somewhere. Received: {eps=}")
    most = domain.width / largest
    check_real("high", high, 0, most, low_open=True)
    check_real("tolerance", tolerance, 0, most, low_open=True)
    own = own_outputs(network, Options.of(options).batch_size)
    verifier = Verifier(graph, own, **options)
    right = np.flatnonzero(own(x).argmax(-1) == y) if len(x) else []
    low, top = np.full(len(x), -1.0), np.full(len(x), float(high))
    low[right] = 0.0

    def proved(eps, chosen):
        tasks = [
            Task.around(x[i], int(y[i]), eps[i] * units[i], graph.outputs, i, domain)
            for i in chosen
        ]
        for stage in stages:
            verifier.run(stage, tasks, timeout, budget=None if stage == "bab" else EACH)
        return np.array([task.query.index for task in tasks if task.verdict == CERTIFIED], int)

    halvings = max(0, math.ceil(math.log2(high / tolerance)))
    done = proved(top, right)
    low[done] = high
    left = np.setdiff1d(right, done)
    for halving in range(halvings):
        if progress:
            progress(halving, halvings)
        middle = (np.maximum(low, 0) + top) / 2
        held = proved(middle, left)
        low[held] = middle[held]
        fell = np.setdiff1d(left, held)
        top[fell] = middle[fell]
    if progress:
        progress(halvings, halvings)
    return low

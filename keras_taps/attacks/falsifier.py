"""Search for points of arbitrary boxes at which linear forms of the outputs are at least 0."""

import math
import time

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.attacks.box_attack import constants
from keras_taps.attacks.pgd import keep_best, maximise, step_sizes
from keras_taps.checks import check_count, check_seed
from keras_taps.interval import Interval
from keras_taps.networks.segment import Segment
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.typing import Tensor

DIVERSIFYING = [0.5] * 3  # step sizes of the walk along a random direction of the outputs


class Falsifier:
    """Compiled PGD search for points that reach an unsafe set, to be called again and again.

    An unsafe set is a conjunction: it is reached where all forms of its group are at least 0.
    Each call with the same shapes runs the same compiled function. The weights of the network
    are read again at each call.

    Args:
        network: `IntervalSequential`, or a `Segment` of one.
        groups: Integer array `(n,)`: forms with equal numbers belong to one conjunction. Groups
            are ordered by their numbers.
        steps: Gradient steps >= 0.
        restarts: Starts >= 1: the centre of the box first, then uniform in it, every second of them
            moved by a few steps along a random direction of the outputs, into other basins.
        step_size: First step relative to the width of the box, as for `step_sizes`.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Tashiro et al., "Diversity can be Transferred: Output Diversification for White- and
        Black-box Attacks", 2020 (the starts).

    Example:

    >>> network = IntervalSequential([IntervalDense(2)], input_shape=(3,))
    >>> falsifier = Falsifier(network, groups=[0])
    >>> box = Interval(ops.zeros((4, 3)), ops.ones((4, 3)))
    >>> points, values = falsifier(box, ops.ones((4, 1, 2)), ops.zeros((4, 1)))
    >>> tuple(points.shape), tuple(values.shape)
    ((4, 1, 3), (4, 1))
    """

    def __init__(
        self,
        network: IntervalSequential | Segment,
        groups: np.ndarray,
        steps: int = 40,
        restarts: int = 1,
        step_size: float | None = None,
    ):
        self.segment = network.segment
        self.members = group_members(groups)
        self.forms = len(groups)
        self.sizes = step_sizes(steps, step_size)
        self.restarts = check_count("restarts", restarts, low=1)
        self._run = backend.compiled(self._search, self.segment.variables)

    def __call__(
        self,
        box: Interval,
        weights: Tensor,
        offset: Tensor,
        seed: int = 0,
        seconds: float = math.inf,
    ) -> tuple[Tensor, Tensor]:
        """Search every box for one point a group.

        The search ends early when every input of the batch has a group whose value is at least 0.

        Args:
            box: `Interval` of tensors `(batch, ...)`. It is searched in Keras' `floatx`, to which
                its bounds are rounded.
            weights: Tensor `(batch, n, outputs)`.
            offset: Tensor `(batch, n)`.
            seed: Whole number from which the starts after the first are drawn.
            seconds: No further start is made after so many.

        Returns:
            `(points, values)`: tensors `(batch, groups, ...)` and `(batch, groups)`, the points
            found and the minimum of their group's forms `weights @ outputs + offset` there. A
            value is -inf where nothing but NaN was found; the point is then the start.

        Raises:
            ValueError: If shapes do not fit together.
        """
        check_seed(seed)
        dtype = keras.config.floatx()
        tensors = [ops.convert_to_tensor(t, dtype=dtype) for t in (*box, weights, offset)]
        self._check_shapes(*tensors)
        best, began = None, time.monotonic()
        for restart in range(self.restarts):
            share, turned = (
                ops.convert_to_tensor(float(flag), dtype=dtype)
                for flag in (restart > 0, restart > 0 and restart % 2 == 0)
            )
            seeds = [backend.seed_tensor(seed, restart + n * self.restarts) for n in (0, 1)]
            found = self._run(*tensors, *seeds, share, turned)
            best = found if best is None else keep_best(best, found)
            reached = bool(ops.convert_to_numpy(all_reached(best[1])))
            if reached or time.monotonic() - began >= seconds:
                break
        return best

    def _search(self, lower, upper, weights, offset, seed, turn, share, turned):
        box = Interval(*(ops.expand_dims(bound, 1) for bound in (lower, upper)))
        groups, most = self.members.shape
        outputs = weights.shape[-1]
        shape = (ops.shape(lower)[0], groups, *lower.shape[1:])
        noise = 0.5 + share * (backend.uniform(shape, seed) - 0.5)  # share 0 is the centre
        start = ops.maximum(box.lower, ops.minimum(box.lower + noise * box.width, box.upper))
        members = self.members.reshape(-1)
        rows = ops.reshape(ops.take(weights, members, axis=1), (-1, groups, most, outputs))
        shift = ops.reshape(ops.take(offset, members, axis=1), (-1, groups, most))

        # Along direction 0 the gradient is 0, so that start stays where it is.
        direction = turned * (2 * backend.uniform((shape[0], groups, outputs), turn) - 1)

        def outputs_at(points):
            found = self.segment(ops.reshape(points, (-1, *lower.shape[1:])))
            return ops.reshape(found, (-1, groups, outputs))

        def lowest_form(points):
            forms = ops.sum(rows * outputs_at(points)[:, :, None], axis=-1)
            return ops.min(forms + shift, axis=-1)

        def along(points):
            return ops.sum(direction * outputs_at(points), axis=-1)

        with constants(self.segment):
            start, _ = maximise(along, start, box, DIVERSIFYING)
            return tuple(maximise(lowest_form, start, box, self.sizes, all_reached))

    def _check_shapes(self, lower, upper, weights, offset):
        batch = lower.shape[0]
        fits = (
            tuple(lower.shape) == tuple(upper.shape)
            and len(weights.shape) == 3
            and tuple(weights.shape[:2]) == tuple(offset.shape) == (batch, self.forms)
        )
        if not fits:
            raise ValueError(
                f"A box (batch, ...) needs weights (batch, {self.forms}, outputs) and an offset "
                f"(batch, {self.forms}), one form for each entry of `groups`. Received: bounds "
                f"{tuple(lower.shape)} and {tuple(upper.shape)}, weights {tuple(weights.shape)}, "
                f"offset {tuple(offset.shape)}"
            )


def falsify(
    network: IntervalSequential | Segment,
    box: Interval,
    weights: Tensor,
    offset: Tensor,
    groups: np.ndarray,
    seed: int = 0,
    steps: int = 40,
    restarts: int = 1,
    step_size: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Search boxes once for points that reach unsafe sets; see `Falsifier` for many calls.

    Args:
        network: `IntervalSequential`, or a `Segment` of one.
        box: `Interval` of tensors `(batch, ...)`, not necessarily an eps box.
        weights: Tensor `(batch, n, outputs)` of linear forms.
        offset: Tensor `(batch, n)`.
        groups: Integer array `(n,)`: forms with equal numbers belong to one conjunction.
        seed: Whole number; the same seed gives the same points on one backend.
        steps: Gradient steps >= 0.
        restarts: Starts >= 1: the centre of the box first, then uniform in it.
        step_size: First step relative to the width of the box, as for `step_sizes`.

    Returns:
        `(points, values)`, as `Falsifier` returns them: input b reaches set g if
        `values[b, g] >= 0`, up to rounding.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit together.

    Example:

    >>> network = IntervalSequential([IntervalDense(2)], input_shape=(3,))
    >>> box = Interval(ops.zeros((4, 3)), ops.ones((4, 3)))
    >>> points, values = falsify(network, box, ops.ones((4, 2, 2)), ops.zeros((4, 2)), [0, 1])
    >>> tuple(points.shape), tuple(values.shape)
    ((4, 2, 3), (4, 2))
    """
    return Falsifier(network, groups, steps, restarts, step_size)(box, weights, offset, seed)


def group_members(groups):
    """Which forms make up each group.

    Args:
        groups: Integer array `(n,)`, n > 0.

    Returns:
        Integer array `(groups, most)`: the forms of each group, in the order of their numbers;
        smaller groups repeat their first form, which changes no minimum.

    Raises:
        ValueError: If `groups` is not such an array.

    Example:

    >>> group_members([5, 2, 5]).tolist()
    [[1, 1], [0, 2]]
    """
    found = np.asarray(groups)
    if found.ndim != 1 or not found.size or found.dtype.kind not in "iu":
        raise ValueError(
            f"`groups` must hold one whole number for each form, shape (n,). Received: {groups!r}"
        )
    lists = [np.flatnonzero(found == number) for number in np.unique(found)]
    most = max(map(len, lists))
    return np.stack([np.pad(x, (0, most - len(x)), constant_values=x[0]) for x in lists])


def all_reached(values):
    """Boolean scalar: every input of `(batch, groups)` has a value of at least 0."""
    return ops.all(ops.any(values >= 0, axis=-1))

"""The gradient connector: how a latent point passes its gradient on to the box it was found in."""

from keras import ops

from keras_taps.checks import check_real
from keras_taps.interval import Interval
from keras_taps.typing import Tensor

_FEW_POINTS = 16
_TOLERANCE = 1e-5  # boxes narrower than this have no direction


def connector_weights(
    points: Tensor, lower: Tensor, upper: Tensor, c: float
) -> tuple[Tensor, Tensor]:
    """Pseudo-derivatives of a point with respect to the bounds of its box.

    Args:
        points: Tensor of points in the box.
        lower: Lower bounds, broadcasting with `points`.
        upper: Upper bounds, broadcasting with `points`.
        c: Connector parameter in [0, 1]: 0 binary, 1 linear.

    Returns:
        `(dz_dlower, dz_dupper)`, tensors like `points` with values in [0, 1].

    References:
        Mao et al. 2023, section 3.2 and Figure 3.
    """
    width = upper - lower
    narrow = width <= _TOLERANCE
    if c == 0:
        weights = [ops.cast(points == bound, points.dtype) for bound in (lower, upper)]
    else:
        reach = ops.maximum(c * width, 1e-30)  # narrow boxes are overruled below; only no 0 / 0
        weights = [ops.maximum(0.0, 1 - gap / reach) for gap in (points - lower, upper - points)]
    return tuple(ops.where(narrow, 0.5, weight) for weight in weights)


def connect(points: Tensor, box: Interval, c: float = 0.5) -> Tensor:
    """Return `points` unchanged, with the rectified linear connector as their gradient.

    Backward, the gradient of point z goes to the bounds of its box with the weights
    `max(0, 1 - (z - lower) / (c width))` and `max(0, 1 - (upper - z) / (c width))`, summed over
    the points of a sample. Where the box has no width both weights are 0.5.

    Args:
        points: Tensor `(batch, n, ...)`, n points for each box.
        box: `Interval` of tensors `(batch, ...)`.
        c: Connector parameter in [0, 1]; 0.5 in the paper.

    Returns:
        Tensor equal to `points`, bit for bit.

    Raises:
        ValueError: If `c` is outside [0, 1].

    Example:

    >>> box = Interval(ops.zeros((1, 2)), ops.ones((1, 2)))
    >>> ops.shape(connect(ops.ones((1, 3, 2)), box))
    (1, 3, 2)

    References:
        Mao et al. 2023, section 3.2.
    """
    c = check_real("c", c, 0, 1)

    @ops.custom_gradient
    def connector(points, lower, upper):
        def gradient(*args, upstream=None):
            (upstream,) = (upstream,) if upstream is not None else args
            bounds = (ops.expand_dims(bound, 1) for bound in (lower, upper))
            weights = connector_weights(points, *bounds, c)
            down = tuple(_sum_of_points(upstream * weight) for weight in weights)
            return ops.zeros_like(points), *down

        return ops.copy(points), gradient

    return connector(points, box.lower, box.upper)


def _sum_of_points(x):
    """Sum `(batch, ...)` of a tensor `(batch, n, ...)` over its points.

    Term by term if they are few: XLA's sums over an axis in the middle take twenty times as long on
    a CPU, and a matrix product would be of lower precision on some GPUs.
    """
    if x.shape[1] > _FEW_POINTS:
        return ops.sum(x, axis=1)
    return sum(x[:, i] for i in range(x.shape[1]))

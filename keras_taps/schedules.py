"""The radius as a function of the training step."""

from keras import ops

from keras_taps.typing import Tensor

SHAPES = ("smooth", "linear")
_MID = 0.25  # share of the annealing after which the radius grows linearly
_EXPONENT = 4


def smooth_eps(step: Tensor, start: Tensor, end: Tensor, final: float) -> Tensor:
    """Radius at a training step: 0 until `start`, smooth up to `final` at `end`, then constant.

    A quarter of the way grows with the fourth power, the rest linearly; value and slope are
    continuous where the two meet.

    Args:
        step: Scalar integer tensor or number, steps taken so far.
        start: Step at which annealing begins.
        end: Step from which the radius is exactly `final`; `end <= start` means no annealing.
        final: Final radius in pixel units.

    Returns:
        Scalar float tensor.

    Example:

    >>> [round(float(smooth_eps(step, 0, 100, 0.1)), 4) for step in (0, 25, 100, 200)]
    [0.0, 0.0077, 0.1, 0.1]

    References:
        Shi et al. 2021, appendix; the smoothed scheduler of Xu et al., "auto_LiRPA", 2020.
    """
    t = progress(step, start, end)
    slope = _EXPONENT / (_MID + _EXPONENT * (1 - _MID))
    at_mid = slope * _MID / _EXPONENT
    power = at_mid * (t / _MID) ** _EXPONENT
    share = ops.where(t < _MID, power, at_mid + slope * (t - _MID))
    return final * ops.where(t >= 1, 1.0, share)


def progress(step: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Share of the way from `start` to `end` at a training step, a scalar tensor in [0, 1].

    Example:

    >>> [float(progress(step, 10, 20)) for step in (0, 15, 30)]
    [0.0, 0.5, 1.0]
    """
    step, start, end = (ops.cast(value, "float32") for value in (step, start, end))
    t = ops.clip((step - start) / ops.maximum(end - start, 1.0), 0.0, 1.0)
    return ops.where(step >= end, 1.0, t)

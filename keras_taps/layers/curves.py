"""Where each activation bends which way, and where the ones that fall and rise are lowest."""

from dataclasses import dataclass, replace

from keras import ops


@dataclass(frozen=True)
class Curve:
    """An activation in pieces, each of which is convex, concave or a line.

    Args:
        slope: Function of a tensor, the derivative in the pieces that are not lines.
        knots: Where pieces meet, ascending.
        bends: Of each piece 1 if it is convex, -1 if it is concave, 0 if it is a line.
        bottom: Where the function is lowest, if it falls up to there and rises from there on;
            `None` if it never falls.
        flattest: The smallest slope that lines can need.
        steepest: The largest.
    """

    slope: object
    knots: tuple
    bends: tuple
    bottom: float | None = None
    flattest: float = 0.0
    steepest: float = 1.0


def _bell(x):
    small = ops.exp(-ops.abs(x))
    return small / (1 + small) ** 2


def _silu_slope(x):
    return ops.sigmoid(x) + x * _bell(x)


def _gelu_slope(x):
    density = ops.exp(-x * x / 2) * 0.3989422804014327
    return (1 + ops.erf(x * 0.7071067811865476)) / 2 + x * density


def elu_curve(alpha, scale=1.0):
    """The curve of `scale * elu(x)` whose negative part has the size `alpha`."""
    most = max(1.0, alpha)
    return Curve(
        lambda x: scale * alpha * ops.exp(ops.minimum(x, 0.0)),
        (0.0,),
        (1, 0),
        steepest=scale * most,
    )


def clip_curve(low, high, slope=1.0):
    """The curve of a line between two constants."""
    return Curve(ops.zeros_like, (low, high), (0, 0, 0), steepest=slope)


_SIGMOID = Curve(_bell, (0.0,), (1, -1), steepest=0.25)
_SOFTPLUS = Curve(ops.sigmoid, (), (1,))
CURVES = {
    "relu6": clip_curve(0.0, 6.0),
    "hard_tanh": clip_curve(-1.0, 1.0),
    "hard_sigmoid": clip_curve(-3.0, 3.0, 1 / 6),
    "sigmoid": _SIGMOID,
    "tanh": Curve(lambda x: 4 * _bell(2 * x), (0.0,), (1, -1)),
    "softsign": Curve(lambda x: 1 / (1 + ops.abs(x)) ** 2, (0.0,), (1, -1)),
    "softplus": _SOFTPLUS,
    "log_sigmoid": replace(_SOFTPLUS, slope=lambda x: ops.sigmoid(-x), bends=(-1,)),
    "exponential": Curve(ops.exp, (), (1,), steepest=1e30),
    "elu": elu_curve(1.0),
    "celu": elu_curve(1.0),
    "selu": elu_curve(1.6732632423543772, 1.0507009873554805),
    "silu": Curve(
        _silu_slope, (-2.3993573, 2.3993573), (-1, 1, -1), -1.2784645427610738, -0.1, 1.1
    ),
    "gelu": Curve(
        _gelu_slope, (-1.4142136, 1.4142136), (-1, 1, -1), -0.7517915244667226, -0.13, 1.13
    ),
    "hard_silu": Curve(lambda x: (2 * x + 3) / 6, (-3.0, 3.0), (0, 1, 0), -1.5, -0.5, 1.5),
}

"""What ONNX operators that are activations mean as nodes of a graph."""

import math
import operator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from keras_taps.verification.graph.activations import activation, clip, scale, steep
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.nodes import Relu, Scale
from keras_taps.verification.graph.storage import pack


def _curve(name):
    def translate(call):
        x = call.value()
        return x.then(Curve(x.shape, name))

    return translate


def _relu(call):
    x = call.value()
    return x.then(Relu(x.shape))


def _leaky_relu(call):
    x, slope = call.value(), call.get("alpha", float(np.float32(0.01)))
    if not 0 <= slope <= 1:
        raise call.refuse(f"alpha must be in [0, 1]. Received: {slope}")
    return x.then(Relu(x.shape, slope))


def _elu(call, alpha=1.0, factor=None):
    x, alpha = call.value(), call.get("alpha", alpha)
    if not 0 <= alpha < 1e9:
        raise call.refuse(f"alpha must be >= 0. Received: {alpha}")
    x = x.then(Curve(x.shape, "elu", alpha))
    return x if factor is None else x.then(scale(x.shape, factor))


def _selu(call):
    return _elu(call, 1.6732631921768188, call.get("gamma", 1.0507010221481323))


def _celu(call):
    """`alpha elu(x / alpha)`."""
    x, alpha = call.value(), call.get("alpha", 1.0)
    if not 0 < alpha < 1e9:
        raise call.refuse(f"alpha must be > 0. Received: {alpha}")
    if alpha == 1:
        return x.then(Curve(x.shape, "elu"))
    call.rounded = True
    return x.then(scale(x.shape, 1 / alpha), Curve(x.shape, "elu"), scale(x.shape, alpha))


def _gelu(call):
    if call.get("approximate", "none") != "none":
        raise call.refuse("only the exact gelu")
    return _curve("gelu")(call)


def _erf(call):
    """`x (1 + erf(k x)) / 2`, which is `gelu(r x) / r` for the r of `r = k sqrt(2)`."""
    factor = call.get("factor", None)
    root = float(Fraction(factor)) * math.sqrt(2) if factor else 0.0
    if not 0.9 < root < 1.1:
        raise call.refuse("only in x (1 + erf(x / sqrt(2))) / 2")
    x = call.value()
    call.rounded = True
    return x.then(scale(x.shape, root), Curve(x.shape, "gelu"), scale(x.shape, 1 / root))


def _clip(call):
    low, high = call.get("min", -np.inf), call.get("max", np.inf)
    low, high = (
        float(np.ravel(call.constant(index, np.array(bound)))[0])
        for index, bound in ((1, low), (2, high))
    )
    # Exporters write the largest float32 where there is no bound.
    low, high = (None if abs(bound) >= 3e38 else bound for bound in (low, high))
    if None not in (low, high) and not low < high:
        raise call.refuse(f"min must be below max. Received: {low} and {high}")
    x = call.value()
    if None not in (low, high):
        call.rounded = call.rounded or Fraction(high) - Fraction(low) != Fraction(high - low)
    return x.then(*clip(x.shape, low, high))


def _hard_sigmoid(call):
    x = call.value()
    factor, shift = call.get("alpha", float(np.float32(0.2))), call.get("beta", 0.5)
    return x.then(scale(x.shape, factor, shift), *clip(x.shape, 0.0, 1.0))


def _prelu(call):
    x = call.value()
    slope = np.broadcast_to(call.constant(1), x.places.shape)
    return x.then(steep(x.shape, x.to_graph(slope)))


def _beyond(x, other):
    """The nodes that lead from one value to another, or `None` if they do not."""
    common, added = other.nodes[: len(x.nodes)], other.nodes[len(x.nodes) :]
    same = len(common) == len(x.nodes) and all(map(operator.is_, x.nodes, common))
    return added if same and np.array_equal(x.places, other.places) else None


def _same(nodes, others):
    """Whether two chains are the same function, number by number."""
    (kinds, numbers), (wanted, its) = pack(nodes), pack(others)
    return kinds == wanted and all(np.all(a == b) for a, b in zip(numbers, its, strict=True))


def as_gated(call, left, right):
    """`x sigmoid(x)`, or `x clip(a x + 1 / 2)` as `hard_silu(6 a x) / (6 a)`, else `None`."""
    for x, gate in ((left, right), (right, left)):
        added = _beyond(x, gate)
        if not added:
            continue
        first = added[0]
        if len(added) == 1 and isinstance(first, Curve) and first.function == "sigmoid":
            return x.then(Curve(x.shape, "silu"))
        if isinstance(first, Scale) and first.scale.size == 1:
            slope = float(first.scale.ravel()[0])
            hard = (scale(x.shape, slope, 0.5), *clip(x.shape, 0.0, 1.0))
            if 0.1 < slope < 0.2 and _same(added, hard):
                call.rounded = True
                around = scale(x.shape, 6 * slope), scale(x.shape, 1 / (6 * slope))
                return x.then(around[0], Curve(x.shape, "hard_silu"), around[1])
    return None


def as_softsign(x, below):
    """The value of `x / (1 + |x|)` if `below` is what it is divided by, else `None`."""
    added = _beyond(x, below)
    wanted = (steep(x.shape, -1.0), scale(x.shape, 1.0, 1.0))
    return x.then(Curve(x.shape, "softsign")) if added and _same(added, wanted) else None


def _log(call):
    """The logarithm of a sigmoid alone."""
    x = call.value()
    last = x.nodes[-1] if x.nodes else None
    if not (isinstance(last, Curve) and last.function == "sigmoid"):
        raise call.refuse("only of a sigmoid")
    return replace(x, nodes=(*x.nodes[:-1], *activation("log_sigmoid", x.shape)))


ACTIVATIONS = {
    "Celu": _celu,
    "Clip": _clip,
    "Elu": _elu,
    "Erf": _erf,
    "Exp": _curve("exponential"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _curve("hard_silu"),
    "LeakyRelu": _leaky_relu,
    "Log": _log,
    "PRelu": _prelu,
    "Relu": _relu,
    "Selu": _selu,
    "Sigmoid": _curve("sigmoid"),
    "Softplus": _curve("softplus"),
    "Softsign": _curve("softsign"),
    "Tanh": _curve("tanh"),
}

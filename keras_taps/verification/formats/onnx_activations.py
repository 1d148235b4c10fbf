"""What ONNX operators that are activations mean as nodes of a graph."""

import operator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from keras_taps.verification.graph.activations import activation, clip, scale, steep
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.nodes import Relu
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


def as_silu(left, right):
    """The value of `x * sigmoid(x)` if one factor is the sigmoid of the other, else `None`."""
    for x, gate in ((left, right), (right, left)):
        last = gate.nodes[-1] if gate.nodes else None
        same = len(gate.nodes) == len(x.nodes) + 1 and all(
            a is b for a, b in zip(x.nodes, gate.nodes, strict=False)
        )
        same = same and np.array_equal(x.places, gate.places)
        if same and isinstance(last, Curve) and last.function == "sigmoid":
            return x.then(Curve(x.shape, "silu"))
    return None


def as_softsign(x, below):
    """The value of `x / (1 + |x|)` if `below` is what it is divided by, else `None`."""
    common, added = below.nodes[: len(x.nodes)], below.nodes[len(x.nodes) :]
    same = len(common) == len(x.nodes) and all(map(operator.is_, x.nodes, common))
    if not same or not np.array_equal(x.places, below.places):
        return None
    (kinds, numbers), (wanted, its) = pack(added), pack((steep(x.shape, -1), scale(x.shape, 1, 1)))
    equal = kinds == wanted and all(np.all(a == b) for a, b in zip(numbers, its, strict=True))
    return x.then(Curve(x.shape, "softsign")) if equal else None


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

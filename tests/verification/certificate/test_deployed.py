"""What floating point adds to margins never exceeds the bound, in whatever order sums are taken."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from keras import ops

from keras_taps import layers as kl
from keras_taps.networks import IntervalSequential, resnet
from keras_taps.verification import certify, read_network, recheck
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.deployed import FLOAT32, Arithmetic, DeployedNetwork
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.graph.batch_norm import BatchNorm
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum
from keras_taps.verification.graph.unsafe import margin_forms
from tests.helpers import conv_network, randomise
from tests.verification.helpers import KINDS, random_box, random_graph, sample

FORMS = margin_forms(0, 3)
KINDS = (*KINDS, "batch_norm")


def single(node):
    """The node with numbers that float32 has."""
    if isinstance(node, Sum):
        return replace(node, branches=tuple(tuple(map(single, b)) for b in node.branches))
    arrays = {k: v for k, v in vars(node).items() if isinstance(v, np.ndarray) and k != "magnitude"}
    rounded = {name: array.astype("float32").astype("float64") for name, array in arrays.items()}
    if isinstance(node, (Dense, Conv, Scale)):
        rounded["magnitude"] = None
    return replace(node, **rounded)


def network(kind, seed):
    """A graph of float32 numbers, as a network has them."""
    if kind != "batch_norm":
        return Graph.of(tuple(map(single, random_graph(kind, seed).nodes)))
    conv, relu, *rest = random_graph("conv", seed).nodes
    rng, channels = np.random.default_rng(seed), conv.out_shape[-1]
    mean, gamma = rng.normal(size=(2, channels)) * 5
    norm = BatchNorm(gamma, 3 - gamma, mean, rng.random(channels), 1e-3, conv.out_shape)
    return Graph.of(tuple(map(single, (conv, norm, relu, *rest))))


class Float32:
    """A network in float32 with sums in random orders, fused or not."""

    def __init__(self, seed, operands=None):
        self.rng = np.random.default_rng(seed)
        self.operands = operands or (lambda x: x)

    def through(self, nodes, x):
        for node in nodes:
            x = self.node(node, x)
            assert x.dtype == np.float32
        return x

    def node(self, node, x):
        if isinstance(node, Reshape):
            return node.apply(x)
        if isinstance(node, Relu):
            return np.maximum(x, np.float32(node.slope) * x)
        if isinstance(node, MaxPool):
            return node.windows(x).max(-1)
        if isinstance(node, Sum):
            parts = [self.through(branch, x) for branch in node.branches]
            return sum(parts[1:], parts[0])
        if isinstance(node, BatchNorm):
            return self.batch_norm(node, x)
        if isinstance(node, Scale):
            return x * node.scale.astype("float32") + node.bias.astype("float32")
        return self.linear(node, x)

    def batch_norm(self, node, x):
        gamma, beta, mean, variance = (
            v.astype("float32") for v in (node.gamma, node.beta, node.mean, node.variance)
        )
        inverse = np.float32(1) / np.sqrt(variance + np.float32(node.epsilon))
        if self.rng.random() < 0.5:
            return (x - mean) * inverse * gamma + beta
        scale = inverse * gamma
        return x * scale + (beta - mean * scale)

    def linear(self, node, x):
        size, outputs = int(np.prod(node.in_shape)), int(np.prod(node.out_shape))
        rows = node.apply(np.eye(size).reshape(-1, *node.in_shape)).reshape(size, outputs)
        bias = np.broadcast_to(node.bias, node.out_shape).reshape(-1).astype("float32")
        flat = self.operands(x.reshape(len(x), -1))
        found = np.empty((len(x), outputs), "float32")
        for j in range(outputs):
            used = self.rng.permutation(np.flatnonzero(rows[:, j]))
            weights = self.operands(rows[used, j].astype("float32"))
            found[:, j] = self.sum(flat[:, used], weights, bias[j])
        return found.reshape(-1, *node.out_shape)

    def sum(self, x, weights, bias):
        how = self.rng.integers(3)
        if how == 0:  # one after the other, fused: the product of two float32 is exact in float64
            total = np.full(len(x), bias)
            for k, weight in enumerate(weights):
                total = (total.astype("float64") + x[:, k] * np.float64(weight)).astype("float32")
            return total
        terms = [np.full(len(x), bias), *(x[:, k] * weight for k, weight in enumerate(weights))]
        while len(terms) > 1:  # in whatever tree
            pair = (0, 1) if how == 1 else (0, len(terms) // 2)
            terms[pair[0]] = terms[pair[0]] + terms.pop(pair[1])
        return terms[0]


def bound(graph, lower, upper, arithmetic=FLOAT32):
    _, boxes = Checker(graph).bounds_and_boxes(lower, upper, FORMS, np.zeros(2))
    return DeployedNetwork(graph, arithmetic).margin_errors(lower, upper, boxes, FORMS)


def gaps(graph, points, outputs):
    """How much the margins of float32 outputs exceed the real ones."""
    return (outputs.astype("float64") - graph(points)) @ FORMS.T


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_sums_in_any_order(kind):
    """10^5 points over all kinds, half of them corners of boxes of all sizes."""
    worst = 0
    for seed in range(4):
        graph = network(kind, seed)
        lower, upper = random_box(graph, seed, radius=10.0 ** (seed - 3))
        lower, upper = (side.astype("float32").astype("float64") for side in (lower, upper))
        points = sample(lower, upper, 2500, seed).astype("float32")
        points = np.clip(points, lower, upper).astype("float32")
        limit = bound(graph, lower, upper)
        found = gaps(graph, points, Float32(seed).through(graph.source, points))
        assert np.all(np.abs(found) <= limit)
        worst = max(worst, np.max(np.abs(found) / limit))
    assert worst > 2e-3  # the bound is of the size of what happens


@pytest.mark.once
def test_errors_add_up_from_layer_to_layer():
    """Where a layer is one product the bound is met within a factor of a few."""
    rng = np.random.default_rng(0)
    layers = [single(Dense(rng.uniform(0.9, 1.1, (1, 1)), np.zeros(1))) for _ in range(40)]
    graph = Graph((*layers, single(Dense(np.array([[0.7, 1.9, 3.1]]), np.zeros(3)))))
    points = rng.uniform(0.5, 1, (10000, 1)).astype("float32")
    limit = bound(graph, np.full(1, 0.5), np.ones(1))
    found = np.abs(gaps(graph, points, Float32(0).through(graph.source, points))).max(0)
    assert np.all(found <= limit)
    assert np.all(found > limit / 20)
    last_alone = bound(Graph((graph.nodes[-1],)), np.full(1, 0.5), np.full(1, 1.5))
    assert np.all(found > last_alone)


@pytest.mark.once
@pytest.mark.parametrize("bits", [10, 7])
def test_operands_of_fewer_bits(bits):
    """TF32 and bfloat16 products with sums in float32."""

    def cut(x):
        mantissa, exponent = np.frexp(np.asarray(x, "float64"))
        scale = 2.0 ** (bits + 1)
        return np.ldexp(np.rint(mantissa * scale) / scale, exponent).astype("float32")

    for seed in range(3):
        graph = network("conv", seed)
        lower, upper = random_box(graph, seed)
        points = np.clip(sample(lower, upper, 500, seed).astype("float32"), lower, upper)
        points = points.astype("float32")
        limit = bound(graph, lower - 1e-6, upper + 1e-6, Arithmetic(operands=2.0 ** -(bits + 1)))
        found = np.abs(gaps(graph, points, Float32(seed, cut).through(graph.source, points)))
        assert np.all(found <= limit)
        assert np.any(found > bound(graph, lower - 1e-6, upper + 1e-6))


def networks():
    averages = [kl.IntervalRescaling(2.0, -0.5), kl.IntervalAveragePooling2D(2, padding="same")]
    layers = [*averages, kl.IntervalConv2D(3, 3), kl.IntervalLeakyReLU(negative_slope=0.1)]
    layers += [kl.IntervalMaxPooling2D(2, strides=1), kl.IntervalGlobalAveragePooling2D()]
    pooled = IntervalSequential([*layers, kl.IntervalDense(3)], input_shape=(9, 9, 1))
    return {
        "conv": conv_network(),
        "residual": randomise(resnet((8, 8, 1), 3, width=2, mean=0.4, std=0.5), 3),
        "pooled": randomise(pooled, 1),
    }


@pytest.mark.parametrize("name", ["conv", "residual", "pooled"])
def test_margins_of_the_backend(name):
    model = networks()[name]
    graph = read_network(model)
    x = np.random.default_rng(0).random(graph.in_shape).astype("float32")
    for eps in (0.0, 0.1):
        lower, upper = input_interval(x, eps)
        points = np.clip(sample(lower, upper, 400).astype("float32"), lower, upper)
        points = np.where((points >= lower) & (points <= upper), points, x).astype("float32")
        outputs = ops.convert_to_numpy(model(ops.convert_to_tensor(points)))
        limit = bound(graph, lower, upper)
        assert np.all(np.abs(gaps(graph, points, outputs)) <= limit)
        assert np.all(limit < 1e-2)


def test_the_claims_differ(tmp_path):
    """Real arithmetic keeps 1e-4 beside 1e5; float32 does not, and gives another class."""
    first = kl.IntervalDense(1)
    last = kl.IntervalDense(2)
    model = IntervalSequential([first, kl.IntervalReLU(), last], input_shape=(1,))
    first.set_weights([np.ones((1, 1)), np.array([-0.5])])
    last.set_weights([np.full((1, 2), 1e6), np.array([0.0, 1e-4])])
    x, y = np.array([[0.5]], "float32"), np.array([1])
    out = tmp_path / "report.jsonl"
    report = certify(model, x, y, 0.1, stages=["ibp"], out=out, certificates=True)
    shares = report.accuracies()
    assert (shares["certified"], shares["certified_as_deployed"]) == (1.0, 0.0)
    assert ops.convert_to_numpy(model(ops.convert_to_tensor(x + 0.09))).argmax() == 0
    assert recheck(out, read_network(model), x, y).accuracies() == {
        "natural": 1.0,
        "certified": 1.0,
        "certified_as_deployed": 0.0,
    }
    text = out.read_text()
    out.write_text(text.replace('"deployed": false', '"deployed": true'))
    assert "as it is deployed" in recheck(out).rejected[0]
    last.set_weights([np.full((1, 2), 1e6), np.array([0.0, 1e4])])
    assert certify(model, x, y, 0.1, stages=["ibp"]).accuracies()["certified_as_deployed"] == 1


@pytest.mark.once
def test_what_may_overflow_is_not_proved():
    large = Dense(np.full((2, 3), 2.0**100), np.zeros(3))
    graph = Graph((large, Relu((3,)), Dense(np.full((3, 3), 2.0**30), np.array([3.0, 0, 0]))))
    box = np.zeros(2), np.ones(2)
    assert np.all(np.isinf(bound(graph, *box)))
    assert np.all(np.isfinite(bound(network("dense", 0), -np.ones(3), np.ones(3))))
    tiny = Arithmetic(unit=2.0**-8)  # more terms than its roundings can bound
    wide = Graph((Dense(np.ones((300, 3)), np.zeros(3)),))
    assert np.all(np.isinf(bound(wide, np.zeros(300), np.ones(300), tiny)))


@pytest.mark.once
def test_underflow_counts():
    """Weights that vanish in float32 leave an error of their own size."""
    kernel = np.array([[2.0**-149, 0.0, 0.0]])
    graph = Graph((Dense(kernel, np.zeros(3)), Dense(np.eye(3) * 2.0**60, np.zeros(3))))
    assert np.all(bound(graph, np.zeros(1), np.ones(1)) >= 2.0**-149 * 2.0**60)


@pytest.mark.parametrize("unit", [2.0**-24, 2.0**-8, 0.01])
def test_relative_errors_are_those_of_as_many_roundings(unit):
    arithmetic = Arithmetic(unit)
    for terms in (1, 3, 20):
        real = (1 + Fraction(unit)) ** (terms + 2) - 1
        assert Fraction(float(arithmetic.of(np.array(terms)))) >= real
        assert Fraction(arithmetic.few(terms + 2)) >= real
    assert arithmetic.few(int(1 / unit) + 1) == np.inf
    assert arithmetic.of(np.array(int(1 / unit) + 1)) == np.inf


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_an_error_that_lifts_an_input_above_0(slope):
    """A real input just below 0 is computed above it: the output is wrong by nearly the error."""
    node, error = Relu((3,), slope), np.full(3, 0.5)
    upper = np.array([-0.125, -0.5, -1.0])
    _, found = DeployedNetwork(Graph((node,)))._relu(node, 2 * error, error, upper - 1, upper)
    for real in (upper, upper - 0.25):
        computed = real + error
        wrong = np.maximum(computed, slope * computed) - slope * real
        assert np.all(found >= wrong)

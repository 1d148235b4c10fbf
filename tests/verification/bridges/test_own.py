"""Layers of one's own, in the ways that a class can describe itself."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_taps as kt
from keras_taps.bounds import crown_ibp_margins, fixed_slope_margins, ibp_margins
from keras_taps.bounds.lines import given_lines, parallel_given_lines
from keras_taps.interval import Interval, input_box
from keras_taps.layers import IntervalOwn
from keras_taps.layers.own import RULES, layer_of
from keras_taps.verification import certify, read_network, recheck, register_function
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.formats.onnx_writer import write_onnx
from keras_taps.verification.graph.curves import FUNCTIONS, Curve
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Dense
from tests.cli.helpers import call, refused
from tests.helpers import assert_contains, close, jitted, numbers, numpy, randomise
from tests.verification.helpers import sample

EPS = 0.03


@pytest.fixture(autouse=True)
def registries():
    """What tests register is gone after them."""
    tables = FUNCTIONS, RULES, keras.saving.get_custom_objects()
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


DIP = """
import numpy as np
from keras_taps.verification import register_function

known = {
    "value": lambda x: x * x / (1 + np.abs(x)),
    "slope": lambda x: np.sign(x) * (1 - 1 / (1 + np.abs(x)) ** 2),
    "flattest": -1.0,
}
register_function("dip", **known)
"""


def register_dip(**changed):
    exec(DIP.replace("**known)", "**{**known, **changed})"), {"changed": changed})


class Dip(layers.Layer):
    """Falls to 0 and rises from there; convex everywhere."""

    function = "dip"

    def call(self, x):
        return x * x / (1 + ops.abs(x))


class Twice(layers.Layer):
    def build(self, shape):
        self.dense = layers.Dense(shape[-1])
        self.dense.build(shape)

    def call(self, x):
        return ops.minimum(2 * self.dense(x), 0.7)

    def expand(self, shape):
        x = keras.Input(shape)
        return keras.Model(x, ops.minimum(2 * self.dense(x), 0.7))


class Norm(layers.Layer):
    def call(self, x):
        return ops.sum(ops.abs(x), -1, keepdims=True) * ops.ones_like(x)

    def box(self, lower, upper):
        least = ops.maximum(ops.maximum(lower, -upper), 0.0)
        most = ops.maximum(-lower, upper)
        return tuple(
            ops.sum(side, -1, keepdims=True) * ops.ones_like(side) for side in (least, most)
        )


def network(layer):
    chain = [layers.Dense(5, activation="relu"), layers.Dense(4), layer, layers.Dense(3)]
    return kt.convert(randomise(keras.Sequential([keras.Input((4,)), *chain])))


def saved(network, path):
    network.save(path)
    box = input_box(numbers(2, 4), EPS, None)
    close(keras.saving.load_model(path)(box), network(box), 0)


def test_a_function_is_bounded(tmp_path):
    register_dip()
    found = network(kt.register_layer(Dip)())
    assert found.relus == 2
    assert found.layers[3].rule.curve.bottom == pytest.approx(0, abs=1e-6)
    saved(found, tmp_path / "own.keras")
    graph = read_network(found)
    box = Interval(*(ops.convert_to_tensor(numbers(1, 4) + side) for side in (-EPS, EPS)))
    points = sample(*(numpy(bound)[0] for bound in box), 500)
    assert_contains(found(box), graph(points))
    bounds = numpy(jitted(lambda box: crown_ibp_margins(found, box, ops.array([0])))(box))[0]
    margins = graph(points)[:, 1:] - graph(points)[:, :1]
    assert np.all(margins <= bounds + 1e-5)
    assert np.all(bounds <= margins.max(0) + 0.1)


@pytest.mark.once
def test_a_function_is_certified_and_trusted_by_name(tmp_path, capsys):
    register_dip()
    found = network(kt.register_layer(Dip)())
    graph = read_network(found)
    x, out = numbers(6, 4), tmp_path / "report.jsonl"
    y = numpy(found(ops.convert_to_tensor(x))).argmax(-1)
    stages = ["ibp", "attack", "crown", "alpha-crown"]
    report = certify(found, x, y, 0.01, stages=stages, domain=None, out=out, certificates=True)
    assert report.accuracies()["certified"] > 0.5
    assert report.accuracies()["certified_as_deployed"] == 0
    assert report.header["trusts"] == ["dip"]
    assert "rests on what was said of functions of one's own: dip." in report.summary()
    for trusted in ((), "other"):
        with pytest.raises(ValueError, match=r"functions of somebody's own: \['dip'\].*Accepted"):
            recheck(out, graph, x, y, domain=None, trusted=trusted)
    again = recheck(out, graph, x, y, domain=None, trusted=["dip"])
    assert again.holds, again.rejected
    assert again.trusted == ("dip",)

    (tmp_path / "dip.py").write_text(DIP)
    command = "recheck", out, "--domain", "none"
    refused(capsys, "functions of somebody's own: ['dip']", *command)
    refused(capsys, "must be a Python file", *command, "--trust", tmp_path / "none.py")
    code, printed, _ = call(capsys, *command, "--trust", tmp_path / "dip.py")
    assert code == 0
    assert "rests on functions that you trust: dip." in printed

    register_dip(
        value=lambda x: -x * x / (1 + np.abs(x)),
        slope=lambda x: np.sign(x) * (1 / (1 + np.abs(x)) ** 2 - 1),
        bends=[-1],
    )
    assert recheck(out, x=x, y=y, domain=None, trusted=["dip"]).rejected  # of another function
    with pytest.raises(ValueError, match="does not compute what the network does"):
        read_network(found)
    del FUNCTIONS["dip"]
    with pytest.raises(ValueError, match=r"cannot be read.*'dip'.*must be registered before"):
        recheck(out, trusted=["dip"])


@pytest.mark.once
def test_an_expanded_layer_is_its_layers(tmp_path):
    found = network(kt.register_layer(Twice)())
    assert not any(isinstance(layer, IntervalOwn) for layer in found.layers)
    del RULES[Twice]
    saved(found, tmp_path / "own.keras")
    write_onnx(read_network(found), tmp_path / "own.onnx")

    class Wrong(Twice):
        def expand(self, shape):
            return [layers.ReLU()]

    with pytest.raises(ValueError, match="type Wrong and the layers that its `expand`"):
        network(kt.register_layer(Wrong)())
    with pytest.raises(ValueError, match=r"type Twice has no interval form.*register_layer"):
        network(Twice())


def test_a_box_is_trained_and_not_certified(tmp_path):
    found = network(kt.register_layer(Norm)())
    saved(found, tmp_path / "own.keras")
    box = input_box(numbers(1, 4), EPS, None)
    points = sample(*(numpy(bound)[0] for bound in box), 300).astype("float32")
    assert_contains(found(box), numpy(found(ops.convert_to_tensor(points))))
    model = kt.IBPModel(found, eps=0.02)
    model.compile(keras.optimizers.Adam(0.02))
    x, y = np.abs(numbers(16, 4)), np.arange(16) % 3
    losses = model.fit(x, y, batch_size=8, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="type Norm has no rule but those for boxes"):
        certify(model, x, y, 0.01)
    with pytest.raises(ValueError, match="type Norm has no linear relaxation"):
        crown_ibp_margins(found, box, ops.array([0]))


class Square(layers.Layer):
    """A function of each coordinate: below its tangents, above the chord."""

    def call(self, x):
        return x * x

    def box(self, lower, upper):
        ends = lower * lower, upper * upper
        least = ops.where(ops.logical_and(lower < 0, upper > 0), 0.0, ops.minimum(*ends))
        return least, ops.maximum(*ends)

    def lines(self, lower, upper):
        slope, middle = lower + upper, (lower + upper) / 2
        return slope, -middle * middle, slope, -lower * upper


def test_lines_train_with_linear_bounds_and_prove_nothing():
    """They hold, whatever slope they are given, are better than boxes, and `certify` refuses."""
    found = network(kt.register_layer(Square)())
    x = numbers(3, 4)
    box, labels = input_box(x, 0.2, None), ops.array([0, 1, 2])
    ibp, crown, deep = jitted(
        lambda lower, upper: (
            ibp_margins(found, Interval(lower, upper), labels),
            crown_ibp_margins(found, Interval(lower, upper), labels),
            fixed_slope_margins(found, Interval(lower, upper), labels),
        )
    )(*box)
    for bound in (crown, deep):
        assert np.mean(numpy(bound) < numpy(ibp)) > 0.5
        for i in range(3):
            points = sample(numpy(box.lower)[i], numpy(box.upper)[i], 300).astype("float32")
            logits = numpy(found(ops.convert_to_tensor(points)))
            margins = np.delete(logits, i, 1) - logits[:, i : i + 1]
            assert np.all(margins <= numpy(bound)[i] + 1e-4)
    given = Interval(*(ops.convert_to_tensor(side) for side in (-x[:1] - 1, x[:1] + 2)))
    square = partial(Square.lines, None)
    t = np.linspace(0, 1, 50)[:, None]
    inputs = numpy(given.lower) * (1 - t) + numpy(given.upper) * t
    for lines in (given_lines(square, given), parallel_given_lines(square, given)):
        for slope in (None, -3.0, 0.0, 5.0):
            under, over = lines[3], lines[1]
            slopes = lines.lower_slope, lines.upper_slope
            if slope is not None:
                slopes = (ops.full_like(under, slope),) * 2
                under, over = lines.around(slopes[0])
            assert np.all(inputs * numpy(slopes[0]) + numpy(under) <= inputs**2 + 1e-5)
            assert np.all(inputs * numpy(slopes[1]) + numpy(over) >= inputs**2 - 1e-5)
    model = kt.CrownIBPModel(found, eps=0.02, domain=None)
    model.compile(keras.optimizers.Adam(0.02))
    losses = model.fit(x, np.arange(3), batch_size=3, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="type Square has no rule but those for boxes and lines"):
        certify(model, x, np.arange(3), 0.01)


@pytest.mark.once
def test_classes_that_say_nothing_or_too_much():
    class Both(Norm):
        function = "dip"

    for cls in (layers.Dense, Both):
        with pytest.raises(ValueError, match=f"Class {cls.__name__} must have one of the methods"):
            kt.register_layer(cls)
    with pytest.raises(ValueError, match=r"must be a class of Keras layers. Received: 3"):
        kt.register_layer(3)
    with pytest.raises(ValueError, match=r"Received: 'dip'. Known: "):
        kt.register_layer(Dip)
    with pytest.raises(ValueError, match=r"`layer` must be of a class.*Received: Dip"):
        IntervalOwn(Dip())
    with pytest.raises(ValueError, match="No layer applies the function 'dip'"):
        layer_of("dip")
    register_dip()
    graph = Graph((Curve((2,), "dip"), Dense(np.eye(2), np.zeros(2))))
    with pytest.raises(ValueError, match="No layer applies the function 'dip'"):
        build_network(graph)


@pytest.mark.once
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bends": (-1,)}, "bends otherwise"),
        ({"knots": (0.0,), "bends": (0, 1)}, "is no line between -inf and 0"),
        ({"slope": np.sign}, "has another slope"),
        ({"flattest": 0.0}, "has slopes out of range"),
        ({"flattest": np.nan}, "at most `steepest`"),
        ({"knots": (np.nan,), "bends": (1, 1)}, "`knots` must be finite"),
        ({"value": lambda x: np.where(x > 3, np.nan, x)}, "is NaN"),
        ({"knots": (1.0, 0.0), "bends": (1, 1, 1)}, "between ascending `knots`"),
        ({"bends": (1, 1)}, "for each piece"),
        ({"value": np.sum}, "must return an array"),
        ({"floor": -1.0}, "`floor`"),
    ],
)
def test_what_a_grid_shows_to_be_wrong(changed, message):
    with pytest.raises(ValueError, match=message):
        register_dip(**changed)
    assert "dip" not in FUNCTIONS


@pytest.mark.once
def test_names_and_shapes_of_functions():
    with pytest.raises(ValueError, match=r"none of tanh.*Received: 'tanh'"):
        register_function("tanh", np.tanh, np.tanh)
    wave = {"knots": [-1.0, 1.0], "bends": [0, 0, 0]}
    value = lambda x: np.where(np.abs(x) < 1, -x, np.sign(x) * (np.abs(x) - 2))  # noqa: E731
    register_function("wave", value, np.ones_like, flattest=-1.0, **wave)

    class Wave(layers.Layer):
        function = "wave"

    with pytest.raises(ValueError, match="'wave' falls after it has risen"):
        kt.register_layer(Wave)

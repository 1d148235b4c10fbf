"""Each cell of the table of layers and activations, on a network that has little else.

    python -m tests.verification.test_coverage_table

writes the table anew. What is proved of the rules, for every box, stands elsewhere: boxes in
`layers/test_activations`, lines in `bounds/test_lines` and `certificate/test_curves`.
"""

import re
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_taps
from keras_taps.layers.activations import _KNOWN
from keras_taps.networks import convert
from keras_taps.networks.convert import _STOCK, _TRAINING_ONLY
from keras_taps.networks.merge import MERGES
from keras_taps.networks.rewrite import REWRITTEN
from keras_taps.training import IBPModel
from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.bridges.to_keras import build_network
from keras_taps.verification.cascade.certify import certify
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.formats.onnx_writer import write_onnx
from keras_taps.verification.graph.unsafe import margin_forms
from keras_taps.verification.search.engine import BoundEngine
from tests.helpers import BACKEND, numpy, randomise
from tests.verification.helpers import sample

pytestmark = pytest.mark.once

PAGE = Path(keras_taps.__file__).parent.parent / "docs" / "coverage.md"
COLUMNS = ("train", "CROWN", "alpha", "checked", "branch and bound", "ONNX out", "ONNX in")
EPS = 0.02
ROW, SIGNAL, IMAGE = (4,), (6, 2), (4, 4, 2)


def _branches(merge):
    return lambda x: merge([layers.Dense(2)(x), x])


def _built(layer):
    return lambda x: layer()(x)


LAYERS = {
    "Dense": (IMAGE, _built(lambda: layers.Dense(3))),
    "Conv1D": (SIGNAL, _built(lambda: layers.Conv1D(2, 3, padding="causal"))),
    "Conv2D": (IMAGE, _built(lambda: layers.Conv2D(2, 3, strides=2, padding="same"))),
    "Conv1DTranspose": (SIGNAL, _built(lambda: layers.Conv1DTranspose(2, 3, strides=2))),
    "Conv2DTranspose": (IMAGE, _built(lambda: layers.Conv2DTranspose(1, 2, strides=2))),
    "DepthwiseConv1D": (SIGNAL, _built(lambda: layers.DepthwiseConv1D(3))),
    "DepthwiseConv2D": (IMAGE, _built(lambda: layers.DepthwiseConv2D(3))),
    "SeparableConv1D": (SIGNAL, _built(lambda: layers.SeparableConv1D(2, 3))),
    "SeparableConv2D": (IMAGE, _built(lambda: layers.SeparableConv2D(2, 3))),
    "BatchNormalization": (IMAGE, _built(lambda: layers.BatchNormalization())),
    "Normalization": (IMAGE, _built(lambda: layers.Normalization(mean=0.5, variance=0.25))),
    "Rescaling": (IMAGE, _built(lambda: layers.Rescaling(-2.0, 0.5))),
    "AveragePooling1D": (SIGNAL, _built(lambda: layers.AveragePooling1D(2))),
    "AveragePooling2D": (IMAGE, _built(lambda: layers.AveragePooling2D(2))),
    "MaxPooling1D": (SIGNAL, _built(lambda: layers.MaxPooling1D(2))),
    "MaxPooling2D": (IMAGE, _built(lambda: layers.MaxPooling2D(2))),
    "GlobalAveragePooling1D": (SIGNAL, _built(lambda: layers.GlobalAveragePooling1D())),
    "GlobalAveragePooling2D": (IMAGE, _built(lambda: layers.GlobalAveragePooling2D())),
    "GlobalMaxPooling1D": (SIGNAL, _built(lambda: layers.GlobalMaxPooling1D())),
    "GlobalMaxPooling2D": (IMAGE, _built(lambda: layers.GlobalMaxPooling2D())),
    "AdaptiveAveragePooling1D": (SIGNAL, lambda x: layers.AdaptiveAveragePooling1D(3)(x)),
    "AdaptiveAveragePooling2D": (IMAGE, lambda x: layers.AdaptiveAveragePooling2D(2)(x)),
    "AdaptiveMaxPooling1D": (SIGNAL, lambda x: layers.AdaptiveMaxPooling1D(3)(x)),
    "AdaptiveMaxPooling2D": (IMAGE, lambda x: layers.AdaptiveMaxPooling2D(2)(x)),
    "Flatten": (IMAGE, _built(lambda: layers.Flatten())),
    "Reshape": (IMAGE, _built(lambda: layers.Reshape((2, 8, 2)))),
    "Permute": (IMAGE, _built(lambda: layers.Permute((3, 1, 2)))),
    "RepeatVector": (ROW, _built(lambda: layers.RepeatVector(2))),
    "ZeroPadding1D": (SIGNAL, _built(lambda: layers.ZeroPadding1D(1))),
    "ZeroPadding2D": (IMAGE, _built(lambda: layers.ZeroPadding2D(1))),
    "Cropping1D": (SIGNAL, _built(lambda: layers.Cropping1D(1))),
    "Cropping2D": (IMAGE, _built(lambda: layers.Cropping2D(1))),
    "UpSampling1D": (SIGNAL, _built(lambda: layers.UpSampling1D(2))),
    "UpSampling2D": (IMAGE, _built(lambda: layers.UpSampling2D(2))),
    "Add": (IMAGE, _branches(layers.Add())),
    "Subtract": (IMAGE, _branches(layers.Subtract())),
    "Average": (IMAGE, _branches(layers.Average())),
    "Maximum": (IMAGE, _branches(layers.Maximum())),
    "Minimum": (IMAGE, _branches(layers.Minimum())),
    "Concatenate": (IMAGE, _branches(layers.Concatenate())),
    "ReLU": (ROW, _built(lambda: layers.ReLU(max_value=0.5, negative_slope=1.5))),
    "LeakyReLU": (ROW, _built(lambda: layers.LeakyReLU())),
    "ELU": (ROW, _built(lambda: layers.ELU(0.5))),
    "Activation": (ROW, _built(lambda: layers.Activation("relu"))),
    "Dropout": (ROW, _built(lambda: layers.Dropout(0.5))),
    "GaussianNoise": (ROW, _built(lambda: layers.GaussianNoise(0.5))),
    "RandomFlip": (IMAGE, _built(lambda: layers.RandomFlip())),
}
OPERATIONS = {
    "x + y, x - y": (IMAGE, lambda x: layers.Dense(2)(x) - (x + layers.Dense(2)(x))),
    "2 * x, 1 - x / 3": (IMAGE, lambda x: 1 - 2 * x / np.array([3.0, -2.0])),
    "ops.maximum, ops.minimum": (ROW, lambda x: ops.maximum(ops.minimum(-x, 0.4), -x / 2)),
    "ops.concatenate": (IMAGE, lambda x: ops.concatenate([x, layers.Dense(1)(x)], -1)),
    "ops.relu": (ROW, lambda x: ops.relu(x)),
}
ACTIVATIONS = {
    f"activation {name}": (ROW, _built(lambda name=name: layers.Activation(name)))
    for name in sorted(_KNOWN)
}
REFUSED = {
    "LayerNormalization": (ROW, _built(lambda: layers.LayerNormalization())),
    "GroupNormalization": (IMAGE, _built(lambda: layers.GroupNormalization(1))),
    "Multiply": (IMAGE, _branches(layers.Multiply())),
    "Dot": (ROW, lambda x: layers.Dot(1)([x, layers.Dense(4)(x)])),
    "Conv3D": (IMAGE, lambda x: layers.Conv3D(1, 1)(layers.Reshape((4, 4, 2, 1))(x))),
    "LSTM": (SIGNAL, _built(lambda: layers.LSTM(2))),
    "MultiHeadAttention": (SIGNAL, lambda x: layers.MultiHeadAttention(1, 2)(x, x)),
    "Embedding": (ROW, _built(lambda: layers.Embedding(3, 2))),
}
TINY = {**LAYERS, **OPERATIONS, **ACTIVATIONS, **REFUSED}
NEWER = {name for name in TINY if name.startswith("Adaptive") and not hasattr(layers, name)}


def cells(name, folder):
    """Dictionary from each column to whether it works; what gives numbers gives the right ones."""
    keras.utils.set_random_seed(0)
    shape, wire = TINY[name]
    x = keras.Input(shape)
    stock = randomise(keras.Model(x, _logits(wire(layers.Dense(shape[-1])(x)))))
    random = np.random.default_rng(0)
    images = random.uniform(0.2, 0.8, (4, *shape)).astype("float32")
    expected = numpy(stock(images, training=False))
    if name in REFUSED:
        with pytest.raises(ValueError, match="has no interval form"):
            convert(stock)
        return dict.fromkeys(("convert", *COLUMNS), False)
    network = convert(stock)
    graph, found = read_network(network), {"convert": True}
    np.testing.assert_allclose(graph(images), expected, rtol=1e-4, atol=1e-4)
    labels = expected.argmax(-1)
    found["train"] = name not in ("Dropout", "GaussianNoise", "RandomFlip")
    with nullcontext() if found["train"] else pytest.raises(ValueError, match="another network"):
        _train(convert(stock), images, labels)

    lower, upper = images[:1] - EPS, images[:1] + EPS
    forms, offset = margin_forms(int(labels[0]), 3)[None], np.zeros((1, 2))
    worst = (graph(sample(lower[0], upper[0], 300)) @ forms[0].T).max(0)
    engine = BoundEngine(build_network(graph), 1)
    boxes = engine.neuron_boxes(lower, upper)
    crown = engine.crown(lower, upper, forms, offset, boxes)[0]
    alpha, slopes = engine.alpha_crown(lower, upper, forms, offset, boxes, iterations=2)
    assert np.all(worst <= crown + 1e-4)
    assert np.all(worst <= alpha[0] + 1e-4)
    assert np.all(alpha[0] <= crown + 1e-4)
    checker = Checker(graph)
    how = (lower[0], upper[0], forms[0], offset[0])
    for bounds, method, given in ((crown, "crown", None), (alpha[0], "alpha-crown", slopes[0])):
        proved = checker.upper_bounds(*how, method, given)
        assert np.all(proved >= worst)
        np.testing.assert_allclose(proved, bounds, rtol=1e-2, atol=1e-2)
    found |= {"CROWN": True, "alpha": True, "checked": True}

    (record,) = certify(network, images[:1], labels[:1], EPS, stages=["bab"]).records
    found["branch and bound"] = "error" not in record
    if found["branch and bound"]:
        assert record["verdict"] in ("certified", "falsified")

    write_onnx(graph, folder / "tiny.onnx")
    again = read_onnx(folder / "tiny.onnx").graph
    np.testing.assert_allclose(
        again(images.reshape(4, *again.in_shape)), expected, rtol=1e-4, atol=1e-4
    )
    return found | {"ONNX out": True, "ONNX in": True}


def _logits(x):
    return layers.Dense(3)(layers.Flatten()(x) if len(x.shape) > 2 else x)


def _train(network, images, labels):
    model = IBPModel(network, eps=EPS, classifier_relus=network.legal_splits[0])
    model.compile("sgd", jit_compile=False)
    before = network.get_weights()
    model.train_on_batch(images, labels)
    moved = [not np.array_equal(*pair) for pair in zip(before, network.get_weights(), strict=True)]
    assert moved[0]  # of the first Dense layer: the gradient came through
    assert all(np.all(np.isfinite(weight)) for weight in network.get_weights())


def line(name, found):
    marks = ("yes" if found[column] else "no" for column in ("convert", *COLUMNS))
    return f"| `{name}` | {' | '.join(marks)} |"


def head():
    return f"| Layer | {' | '.join(('convert', *COLUMNS))} |\n|{' --- |' * (len(COLUMNS) + 2)}"


@pytest.mark.parametrize("name", TINY)
def test_cells(name, tmp_path):
    if name in NEWER:
        pytest.skip("this Keras has no such layer")
    assert line(name, cells(name, tmp_path)) in PAGE.read_text().splitlines()


def test_the_table_is_whole():
    known = {stock.__name__ for stock in {*_STOCK, *REWRITTEN, *MERGES}}
    assert known <= {*LAYERS}
    assert {*LAYERS} - known <= {stock.__name__ for stock in _TRAINING_ONLY if stock} | NEWER
    rows = re.findall(r"^\| `(.*)` \|", PAGE.read_text(), re.MULTILINE)
    assert rows == list(TINY)
    assert head() in PAGE.read_text()


if __name__ == "__main__":
    import tempfile

    assert BACKEND == "torch", "with KERAS_BACKEND=torch, which starts fastest"
    with tempfile.TemporaryDirectory() as folder:
        lines = [line(name, cells(name, Path(folder))) for name in TINY]
    start = "<!-- table: written by tests/verification/test_coverage_table.py -->"
    end = "<!-- table end -->"
    text = "\n".join([head(), *lines])
    before, _, rest = PAGE.read_text().partition(start)
    PAGE.write_text(f"{before}{start}\n\n{text}\n\n{end}{rest.partition(end)[2]}")

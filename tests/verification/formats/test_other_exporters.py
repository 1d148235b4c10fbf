"""Networks that PyTorch and Keras write are read as what they compute, to 2e-7 of it in float64."""

import warnings

import keras
import numpy as np
import pytest

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.formats.onnx_reader import read_onnx
from keras_taps.verification.formats.onnx_writer import write_onnx

pytestmark = pytest.mark.once

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
VECTOR, IMAGE, SIGNAL, ROWS = (6,), (2, 6, 5), (2, 6), (3, 4)


class Function(nn.Module):
    """A function of the input and of layers."""

    def __init__(self, run, *layers):
        super().__init__()
        self.run, self.layers = run, nn.ModuleList(layers)

    def forward(self, x):
        return self.run(x, *self.layers)


def activated(activation):
    return lambda: (nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 3)), VECTOR)


def on_images(size, *layers):
    def make():
        made = [layer() for layer in layers]
        return nn.Sequential(*made, nn.Flatten(), nn.Linear(size, 3)), IMAGE

    return make


def function(shape, run, *layers):
    """A module of `run(x, *layers)`; layers are made when the network is."""
    return lambda: (Function(run, *(layer() for layer in layers)), shape)


def linear(n, m):
    return lambda: nn.Linear(n, m)


def conv(n, m, size, **options):
    return lambda: nn.Conv2d(n, m, size, **options)


TWO = linear(6, 8), linear(6, 8), linear(8, 3)
NETWORKS = {
    "relu6": activated(nn.ReLU6),
    "tanh": activated(nn.Tanh),
    "celu": activated(lambda: nn.CELU(2.0)),
    "selu": activated(nn.SELU),
    "prelu": activated(lambda: nn.PReLU(8)),
    "silu": activated(nn.SiLU),
    "gelu": activated(nn.GELU),
    "hard swish": activated(nn.Hardswish),
    "soft sign": activated(nn.Softsign),
    "log sigmoid": activated(nn.LogSigmoid),
    "absolute": activated(lambda: Function(torch.abs)),
    "batch norm of a vector": activated(lambda: nn.Sequential(nn.BatchNorm1d(8), nn.ELU(0.5))),
    "conv, batch norm": on_images(
        120, conv(2, 4, 3, padding=1), lambda: nn.BatchNorm2d(4), nn.ReLU
    ),
    "depthwise, strided": on_images(
        18, conv(2, 4, 3, groups=2, stride=2, padding=1), nn.ReLU, conv(4, 2, 1), nn.ReLU
    ),
    "pools": on_images(
        32, lambda: nn.MaxPool2d(3, 2, 1), lambda: nn.AvgPool2d(2, 1, 1, count_include_pad=False)
    ),
    "adaptive": on_images(4, conv(2, 4, 3), nn.ReLU, lambda: nn.AdaptiveAvgPool2d(1)),
    "largest": on_images(4, conv(2, 4, 3), nn.ReLU, lambda: nn.AdaptiveMaxPool2d(1)),
    "transposed convolution": on_images(
        360,
        lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU,
    ),
    "nearest pixels": on_images(96, conv(2, 2, 3), nn.ReLU, lambda: nn.Upsample(scale_factor=2)),
    "shuffled pixels": on_images(48, conv(2, 4, 3), lambda: nn.PixelShuffle(2), nn.ReLU),
    "mean": function(
        IMAGE, lambda x, c, end: end(F.relu(c(x)).mean((2, 3))), conv(2, 4, 3), linear(4, 3)
    ),
    "sum": function(
        VECTOR,
        lambda x, a, end: end(F.relu(a(x)).reshape(-1, 2, 4).sum(1)),
        linear(6, 8),
        linear(4, 3),
    ),
    "residual": function(
        IMAGE,
        lambda x, a, b, end: end(F.relu(b(F.relu(a(x))) + x).flatten(1)),
        conv(2, 4, 3, padding=1),
        conv(4, 2, 3, padding=1),
        linear(60, 3),
    ),
    "difference": function(VECTOR, lambda x, a, b, end: end(F.relu(1 - a(x) - b(x) / 3)), *TWO),
    "maximum": function(VECTOR, lambda x, a, b, end: end(torch.maximum(a(x), -b(x))), *TWO),
    "minimum": function(
        VECTOR, lambda x, a, b, end: end(torch.minimum(a(x), b(x)).clamp(max=0.2)), *TWO
    ),
    "joined": function(
        VECTOR,
        lambda x, a, b, end: end(torch.cat([F.relu(a(x)), b(x)], 1)),
        *TWO[:2],
        linear(16, 3),
    ),
    "joined images": function(
        IMAGE,
        lambda x, a, end: end(torch.cat([x, F.relu(a(x))], 1).flatten(1)),
        conv(2, 2, 3, padding=1),
        linear(120, 3),
    ),
    "halves": function(
        VECTOR,
        lambda x, a, end: end((lambda p, q: F.relu(p) + q)(*a(x).chunk(2, 1))),
        linear(6, 8),
        linear(4, 3),
    ),
    "cropped": function(
        IMAGE,
        lambda x, c, end: end(F.relu(c(x[:, 1:, 1:-1, ::2])).flatten(1)),
        conv(1, 2, 3),
        linear(4, 3),
    ),
    "groups of channels": function(
        IMAGE,
        lambda x, c, d, end: end(
            F.relu(d(c(x).view(-1, 2, 2, 6, 5).transpose(1, 2).reshape(-1, 4, 6, 5))).flatten(1)
        ),
        conv(2, 4, 3, padding=1),
        conv(4, 2, 1, groups=2),
        linear(60, 3),
    ),
    "channels last": function(
        (6, 5, 2),
        lambda x, c, end: end(
            F.relu(c(2 * x.permute(0, 3, 1, 2) - 1)).permute(0, 2, 3, 1).flatten(1)
        ),
        conv(2, 4, 3),
        linear(48, 3),
    ),
    "rows": function(
        ROWS,
        lambda x, a, b, end: end(F.relu(b(F.relu(a(x)).transpose(1, 2))).flatten(1)),
        linear(4, 5),
        linear(3, 2),
        linear(10, 3),
    ),
    "signal": lambda: (
        nn.Sequential(
            nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2),
            nn.AvgPool1d(2, 1), nn.Flatten(), nn.Linear(8, 3),
        ),
        SIGNAL,
    ),
}  # fmt: skip
OLD = {"gelu": 13, "hard swish": 13}  # opsets that have no such operator
BOTH = ("gelu", "cropped", "signal")  # written by both exporters


def written(name, path, dynamic, dynamo=False):
    """`(network, shape of an input)` of a file of PyTorch."""
    torch.manual_seed(0)
    network, shape = NETWORKS[name]()
    network.eval()
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    options = {"input_names": ["input"], "output_names": ["output"]}
    if dynamo:
        options |= {"verbose": False}
        options |= {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamic else {}
    else:
        options |= {"opset_version": OLD[name]} if name in OLD else {}
    if dynamic and not dynamo:
        options["dynamic_axes"] = {"input": {0: "batch"}, "output": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.rand(1 + dynamic, *shape)
        torch.onnx.export(network, (x,), str(path), dynamo=dynamo, **options)
    return network, shape


def assert_same(found, network, shape):
    x = torch.rand(20, *shape) * 2 - 1
    with torch.no_grad():
        wanted = network.double()(x.double()).numpy()
    got = found.graph(found.to_graph(x.numpy().reshape(20, -1)))
    assert np.all(np.abs(got - wanted) <= 2e-7 * np.maximum(1, np.abs(wanted)))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_older_exporter_of_pytorch(name, tmp_path):
    """With a batch of one or of any size, in turns; what is read is bounded and written again."""
    dynamic = list(NETWORKS).index(name) % 2
    network, shape = written(name, tmp_path / "network.onnx", dynamic)
    found = read_onnx(tmp_path / "network.onnx")
    assert_same(found, network, shape)
    write_onnx(found.graph, tmp_path / "again.onnx")
    again = read_onnx(tmp_path / "again.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, (5, *found.graph.in_shape))
    flat = (x.transpose(0, 3, 1, 2) if x.ndim == 4 else x).reshape(5, -1)
    np.testing.assert_allclose(again.graph(again.to_graph(flat)), found.graph(x), atol=2e-6)
    box = np.full(found.graph.in_shape, -1.0), np.full(found.graph.in_shape, 1.0)
    bounds = Checker(found.graph).upper_bounds(*box, np.eye(3), np.zeros(3), "crown")
    assert np.all(found.graph(x) <= bounds)
    assert np.all(np.isfinite(bounds))


@pytest.mark.parametrize("name", BOTH)
def test_the_newer_exporter_of_pytorch(name, tmp_path):
    pytest.importorskip("onnxscript")
    network, shape = written(name, tmp_path / "network.onnx", BOTH.index(name) % 2, dynamo=True)
    assert_same(read_onnx(tmp_path / "network.onnx"), network, shape)


def test_the_exporter_of_keras(tmp_path):
    """Channels stay last in the input, so nothing has to move before the first convolution."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Rescaling(2.0, -1.0),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Conv2D(3, 2, strides=2, padding="same", activation="tanh"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    x = np.random.default_rng(0).uniform(-1, 1, (4, 6, 5, 2)).astype("float32")
    wanted = model.predict(x, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(str(tmp_path / "network.onnx"), format="onnx", verbose=False)
    found = read_onnx(tmp_path / "network.onnx")
    assert found.graph.in_shape == (6, 5, 2)
    np.testing.assert_allclose(found.graph(x), wanted, atol=5e-7)
    kinds = [type(node).__name__ for node in found.graph.nodes]
    assert kinds.index("Conv") < kinds.index("Dense")

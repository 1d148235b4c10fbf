import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.interval import input_box
from keras_taps.layers import IntervalConv2D, IntervalDense, IntervalZeroPadding2D
from keras_taps.networks import cnn3, cnn5, cnn7, conv_med, conv_med_big, mlp, resnet
from tests.helpers import assert_contains, close, images, jitted, numpy, randomise

ALL = {
    "cnn3": cnn3,
    "cnn5": cnn5,
    "cnn7": cnn7,
    "resnet": resnet,
    "conv_med": conv_med,
    "conv_med_big": conv_med_big,
    "mlp": mlp,
}


def affine(n_in, n_out, kernel=1):
    """Weights of a convolution or Dense layer."""
    return kernel * kernel * n_in * n_out + n_out


def test_cnn3_weights():
    network = cnn3((28, 28, 1), 10, width=16)
    flat = 7 * 7 * 32
    assert network.count_params() == affine(1, 16, 5) + affine(16, 32, 4) + affine(flat, 10)
    assert network.output_shape == (None, 10)
    assert network.relus == 2


def test_cnn3_of_figure_1():
    assert cnn3((28, 28, 1), 10, width=1).count_params() == 26 + 34 + 98 * 10 + 10


def test_cnn5_weights():
    network = cnn5((28, 28, 1), 10)
    convolutions = affine(1, 16, 3) + affine(16, 16, 4) + affine(16, 32, 4)
    assert network.count_params() == convolutions + affine(7 * 7 * 32, 512) + affine(512, 10)
    assert network.relus == 4


@pytest.mark.parametrize(
    ("shape", "classes", "last_stride", "side"),
    [((28, 28, 1), 10, 1, 14), ((32, 32, 3), 10, 1, 16), ((56, 56, 3), 200, 2, 14)],
)
def test_cnn7_weights(shape, classes, last_stride, side):
    """The paper's sizes on MNIST, CIFAR-10 and TinyImageNet, at a narrower width."""
    w = 4
    network = cnn7(shape, classes, width=w, last_stride=last_stride)
    convolutions = affine(shape[-1], w, 3) + affine(w, w, 3) + affine(w, 2 * w, 3)
    convolutions += 2 * affine(2 * w, 2 * w, 3)
    dense = affine(side * side * 2 * w, 8 * w) + affine(8 * w, classes)
    batch_norm = 4 * (w + w + 2 * w + 2 * w + 2 * w + 8 * w)
    assert network.count_params() == convolutions + dense + batch_norm
    assert network.relus == 6
    assert network.output_shape == (None, classes)


def test_cnn7_is_64_filters_wide():
    network = cnn7((8, 8, 1), 10)
    filters = [layer.filters for layer in network.layers if isinstance(layer, IntervalConv2D)]
    assert filters == [64, 64, 128, 128, 128]
    units = [layer.units for layer in network.layers if isinstance(layer, IntervalDense)]
    assert units == [512, 10]


def test_resnet_weights():
    w = 2
    network = resnet((28, 28, 1), 10, width=w)
    total = affine(1, w, 3) + 4 * w
    for n_in, n_out in ((w, 2 * w), (2 * w, 4 * w)):
        total += affine(n_in, n_out, 3) + affine(n_out, n_out, 3) + affine(n_in, n_out)
        total += 3 * 4 * n_out
    total += affine(4 * 4 * 4 * w, 8 * w) + 4 * 8 * w + affine(8 * w, 10)
    assert network.count_params() == total
    assert network.relus == 6


@pytest.mark.parametrize("name", ALL)
def test_odd_sizes_and_colours(name):
    network = randomise(ALL[name]((9, 7, 3), 4, width=1, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)))
    x, _ = images(2, (9, 7, 3))
    both = jitted(lambda x, box: (network(x), network(box)))
    logits, box = map(numpy, both(ops.convert_to_tensor(x), input_box(x, 0.05)))
    assert logits.shape == (2, 4)
    assert np.all(box.lower <= logits + 1e-4)
    assert np.all(logits <= box.upper + 1e-4)


def test_normalisation_comes_first():
    network = cnn3((6, 6, 1), 3, width=1, mean=0.25, std=0.5)
    (layer,) = network.leading_normalization
    close(layer(ops.ones((1, 6, 6, 1))), np.full((1, 6, 6, 1), 1.5))
    assert cnn3((6, 6, 1), 3, width=1).leading_normalization == ()


def test_padding_is_symmetric():
    """Keras' own "same" padding is lopsided at stride 2."""
    network = cnn7((28, 28, 1), 10, width=1)
    layers = [layer for layer in network.layers if isinstance(layer, IntervalZeroPadding2D)]
    assert [layer.padding for layer in layers] == [((1, 1), (1, 1))] * 5
    for layer in network.layers:
        assert getattr(layer, "padding", "valid") in ("valid", ((1, 1), (1, 1)))


def test_defaults_of_batch_normalisation():
    layers = [x for x in cnn7((8, 8, 1), 3, width=1).layers if "batch" in x.name]
    assert {(layer.epsilon, layer.momentum) for layer in layers} == {(1e-5, 0.9)}


@pytest.mark.parametrize(
    "arguments",
    [
        {"width": 0},
        {"width": 1.5},
        {"num_classes": 1},
        {"input_shape": (28, 28)},
        {"input_shape": 28},
        {"mean": [0.1, 0.2], "std": 0.1},
        {"mean": 0.1},
        {"std": [1.0, 2.0], "mean": 0.0},
        {"std": 0.0, "mean": 0.0},
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_bad_arguments(name, arguments):
    argument = "std" if arguments == {"mean": 0.1} else next(iter(arguments))
    with pytest.raises(ValueError, match=f"`{argument}` must be .*Received"):
        ALL[name](**{"input_shape": (8, 8, 1), "num_classes": 10, **arguments})


def test_mlp_takes_rows():
    network = mlp((5,), 2, width=4, depth=3, mean=[0.0] * 5, std=np.arange(1, 6))
    assert network.relus == 3
    weights = sum(np.prod(w.shape) for w in network.trainable_variables)
    assert weights == affine(5, 4) + 2 * affine(4, 4) + affine(4, 2)
    assert_contains(network(input_box(np.zeros((1, 5)), 0.5)), numpy(network(np.zeros((1, 5)))))


@pytest.mark.parametrize("name", ["cnn7", "resnet"])
def test_save_and_load(name, tmp_path):
    network = randomise(ALL[name]((7, 7, 1), 3, width=1, mean=0.2, std=0.4))
    box = input_box(images(2, (7, 7, 1))[0], 0.1)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    close(loaded(box), network(box), 0)
    assert loaded.legal_splits == network.legal_splits
    assert loaded.count_params() == network.count_params()


@pytest.mark.parametrize("make", [cnn3, cnn7, resnet])
def test_the_order_of_the_axes_is_that_of_the_input_shape(make):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        shapes = [w.shape for w in make((8, 8, 1), 3, width=1).weights]
    finally:
        keras.config.set_image_data_format(before)
    assert shapes == [w.shape for w in make((8, 8, 1), 3, width=1).weights]


def test_conv_med_and_conv_med_big():
    """CNN5 is ConvMedBig(1, 1, 1, 512); ConvMed is CNN3 with a hidden Dense layer."""
    big = conv_med_big((32, 32, 3), 10, width=16, units=512)
    assert big.count_params() == cnn5((32, 32, 3), 10, width=16).count_params()
    assert (big.relus, conv_med((28, 28, 1), 10).relus) == (4, 3)
    shapes = [tuple(layer.kernel.shape) for layer in conv_med((28, 28, 1), 10, w2=2).affine_layers]
    assert shapes == [(5, 5, 1, 16), (4, 4, 16, 64), (3136, 250), (250, 10)]
    big = conv_med_big((32, 32, 3), 10, w1=2, w2=2, w3=4)
    shapes = [tuple(layer.kernel.shape) for layer in big.affine_layers]
    assert shapes == [(3, 3, 3, 32), (4, 4, 32, 32), (4, 4, 32, 128), (8192, 250), (250, 10)]


def test_initializer_of_hidden_layers():
    wide, narrow = (cnn3((28, 28, 1), 10, initializer=name) for name in ("fan-in", "ibp"))
    deviations = [float(numpy(net.affine_layers[1].kernel).std()) for net in (wide, narrow)]
    assert deviations == pytest.approx([(3 * 256) ** -0.5, (2 * np.pi) ** 0.5 / 256], rel=0.05)
    with pytest.raises(ValueError, match=r"`initializer` must be one of 'ibp', 'fan-in'.*'he'"):
        cnn3((28, 28, 1), 10, initializer="he")

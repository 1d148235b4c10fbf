import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_taps.interval import input_box
from keras_taps.layers import IntervalReLU, IntervalResidual
from keras_taps.networks import agreement, convert
from tests.helpers import (
    BACKEND,
    assert_contains,
    close,
    conv_network,
    images,
    numbers,
    numpy,
    randomise,
)


def sequential():
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Rescaling(2.0, -1.0),
            layers.Conv2D(3, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.LeakyReLU(negative_slope=0.1),
            layers.MaxPooling2D(),
            layers.DepthwiseConv2D(2, activation="elu"),
            layers.Activation("tanh"),
            layers.ZeroPadding2D(1),
            layers.AveragePooling2D(2, strides=1),
            layers.Reshape((-1, 2, 3)),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(4, activation="sigmoid"),
            layers.ReLU(max_value=0.7),
            layers.Dense(3),
        ]
    )


def pooled():
    return keras.Sequential(
        [keras.Input((6, 5, 2)), layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()]
    )


def max_pooled():
    return keras.Sequential(
        [keras.Input((6, 5, 2)), layers.ELU(alpha=0.5), layers.GlobalMaxPooling2D()]
    )


def functional(wire, shape=(6, 5, 2)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, wire(inputs))


def identity_shortcut(x):
    x = layers.Conv2D(3, 3, activation="relu")(x)
    return layers.ReLU()(layers.Add()([layers.Conv2D(3, 3, padding="same")(x), x]))


def projection_shortcut(x):
    main = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    main = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(main))
    return layers.Add()([layers.Conv2D(4, 1, strides=2)(x), main])


def pre_activation(x):
    x = layers.Conv2D(3, 3)(x)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Add()([layers.Conv2D(3, 3, padding="same")(y), x])
    return x


def three_branches(x):
    branches = [layers.Conv2D(3, size, padding="same")(x) for size in (1, 2, 3)]
    return layers.Add()(branches)


def nested_residual(x):
    inner = layers.Add()([layers.Conv2D(2, 1)(x), x])
    inner = layers.ReLU()(inner)
    return layers.Add()([layers.Conv2D(2, 3, padding="same")(inner), x])


def written(x):
    """Without layers: `x + y`, keras.ops.add and keras.ops.relu."""
    inner = ops.relu(layers.Conv2D(2, 3, padding="same")(x) + x)
    return ops.add(inner, layers.Conv2D(2, 1)(x))


def doubled(x):
    return layers.Add()([x, x])


def nested_model(x):
    block = functional(identity_shortcut)
    head = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    return head(block(x))


def shared_layer(x):
    layer = layers.Conv2D(2, 3, padding="same", activation="relu")
    return layer(layer(x))


def shared_over_branches(x):
    layer = layers.Conv2D(2, 3, padding="same")
    return layers.Add()([layer(x), layers.ReLU()(layer(x))])


def crossed(x):
    """Not series-parallel: one branch is read twice, so it is computed twice."""
    a, b = layers.Conv2D(2, 1)(x), layers.Conv2D(2, 1)(x)
    return layers.Add()([layers.Add()([a, b]), layers.Conv2D(2, 1)(a)])


def merges(x):
    main = layers.Conv2D(2, 3, padding="same")(x)
    y = layers.Average()([layers.Subtract()([main, layers.ReLU()(x)]), main, x]) - x
    y = layers.Concatenate()([x, y, layers.Conv2D(1, 1)(y)])
    return ops.concatenate([y, y], axis=1)


def separable(x):
    x = layers.SeparableConv2D(3, 3, strides=2, padding="same", activation="relu")(x)
    return layers.SeparableConv2D(2, 2, depth_multiplier=2, use_bias=False)(x)


def signals(x):
    """Of length 30, from all layers that take some."""
    x = layers.ZeroPadding1D((1, 2))(layers.Reshape((30, 2))(x))
    x = layers.Conv1D(4, 3, strides=2, activation="relu")(x)
    x = layers.Conv1D(4, 3, dilation_rate=2, padding="causal", groups=2)(x)
    x = layers.MaxPooling1D(3, strides=2, padding="same")(layers.BatchNormalization()(x))
    x = layers.SeparableConv1D(3, 3, strides=2, depth_multiplier=2, padding="same")(x)
    x = layers.AveragePooling1D(2, strides=1)(layers.Cropping1D((1, 0))(x))
    whole = layers.GlobalAveragePooling1D(keepdims=True)(x)
    return layers.Add()([layers.Flatten()(whole), layers.GlobalMaxPooling1D()(x)])


def extremes(x):
    """Of branches, and of a branch and a constant; sums and products with constants."""
    y = layers.Conv2D(2, 3, padding="same")(x)
    y = ops.minimum(layers.Maximum()([x, y, 0.5 * y]), -x / np.array([3.0, 0.5]))
    y = ops.minimum(0.4, y) * np.full((6, 5, 1), 0.7, "float32")
    return 1.0 - ops.maximum(y - 0.1, np.array([0.1, -0.2]))


def transposed(x):
    """From 6 x 5 to 12 x 5 and, as a signal, from length 60 to 179."""
    how = {"strides": (2, 1), "padding": "same", "activation": "relu", "kernel_regularizer": "l2"}
    x = layers.Reshape((60, 1))(layers.Conv2DTranspose(1, (3, 2), **how)(x))
    return layers.Conv1DTranspose(2, 2, strides=3, output_padding=0, use_bias=False)(x)


def deep(x):
    """Sixteen blocks, as a ResNet-34 has: the search for their ends must not be exponential."""
    for _ in range(16):
        x = layers.Add()([layers.LeakyReLU()(x), x])
    return layers.Rescaling(1e-4)(x)


WIRINGS = [
    identity_shortcut,
    projection_shortcut,
    pre_activation,
    three_branches,
    nested_residual,
    written,
    doubled,
    nested_model,
    shared_layer,
    shared_over_branches,
    crossed,
    merges,
    *([] if BACKEND == "jax" else [separable, transposed]),  # which compiles each operation
    signals,
    extremes,
    deep,
]


def training_only():
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.RandomFlip("horizontal"),
            layers.Conv2D(3, 3),
            layers.SpatialDropout2D(0.5),
            layers.GaussianNoise(0.3),
        ]
    )


MODELS = [sequential, pooled, max_pooled, training_only] + [
    lambda wire=wire: functional(wire) for wire in WIRINGS
]
NAMES = ["sequential", "pooled", "max_pooled", "training_only"] + [
    wire.__name__ for wire in WIRINGS
]


@pytest.mark.parametrize("make", MODELS, ids=NAMES)
def test_same_outputs(make):
    stock = randomise(make())
    network = convert(stock)
    x = ops.convert_to_tensor(images(3, (6, 5, 2))[0])
    close(network(x), stock(x, training=False))
    assert network.name == stock.name
    assert network.output_shape == stock.output_shape
    assert_contains(network(input_box(x, 0.05)), numpy(network(x)))


def test_fused_activation_becomes_a_place_to_cut():
    network = convert(sequential())
    assert network.relus == 6
    assert network.legal_splits == tuple(range(7))
    assert isinstance(network.layers[2], IntervalReLU)


def test_shared_layer_stays_one_layer():
    stock = functional(shared_layer)
    network = convert(stock)
    assert network.layers[0] is network.layers[2]
    assert len(network.weights) == len(stock.weights) == 2


def test_nested_blocks_are_nested():
    network = convert(functional(nested_residual))
    (outer,) = network.layers
    assert isinstance(outer, IntervalResidual)
    assert any(isinstance(x, IntervalResidual) for branch in outer.branches for x in branch)


def test_adapted_normalization():
    x = images(20, (6, 5, 2))[0]
    normalization = layers.Normalization()
    normalization.adapt(x)
    stock = keras.Sequential([keras.Input((6, 5, 2)), normalization, layers.Flatten()])
    network = convert(stock)
    close(network(ops.convert_to_tensor(x)), stock(ops.convert_to_tensor(x)))
    assert abs(numpy(network(ops.convert_to_tensor(x))).mean()) < 1e-3
    assert len(network.leading_normalization) == 1


def test_weights_are_copies():
    stock = randomise(sequential())
    network = convert(stock)
    x = ops.convert_to_tensor(images(3, (6, 5, 2))[0])
    before = numpy(stock(x)).copy()
    for weight in network.weights:
        weight.assign(ops.zeros(weight.shape))
    close(stock(x), before, 0)


def test_interval_network_is_copied():
    network = conv_network()
    copy = convert(network)
    x = ops.convert_to_tensor(images()[0])
    close(copy(x), network(x))
    assert not {id(v) for v in copy.variables} & {id(v) for v in network.variables}


def test_sequential_built_by_a_call_forgets_the_batch_size():
    stock = keras.Sequential([layers.Dense(3)])
    stock(ops.ones((7, 4)))
    assert convert(stock).input_shape == (None, 4)


def test_converted_network_is_saved(tmp_path):
    network = convert(randomise(functional(nested_residual)))
    network.save(tmp_path / "network.keras")
    box = input_box(images(2, (6, 5, 2))[0], 0.1)
    close(keras.saving.load_model(tmp_path / "network.keras")(box), network(box), 0)


def two_inputs():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    return keras.Model(inputs, layers.Add()(inputs))


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(2)(inputs)])


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def subclassed():
    model = Subclassed()
    model(ops.ones((1, 2)))
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: functional(layers.RandomCrop(2, 2, name="crop")), "'crop' of type RandomCrop"),
        (lambda: functional(lambda x: layers.Multiply(name="times")([x, x])), "'times' of type Mu"),
        (lambda: functional(lambda x: layers.Dense(2)(layers.Softmax(name="soft")(x))), "'soft'"),
        (lambda: functional(lambda x: layers.Add()([x, layers.Softmax()(x)])), "not the end"),
        (lambda: functional(lambda x: 1 / x), "divides by a tensor or by zero"),
        (
            lambda: functional(lambda x: x + np.ones((2, 6, 5, 2))),
            r"shape \(2, 6, 5, 2\). Accepted",
        ),
        (lambda: functional(lambda x: x * keras.Variable(2.0)), "of type Multiply has no"),
        (
            lambda: functional(lambda x: layers.Minimum()([x, layers.MaxPooling2D((6, 1))(x)])),
            "one shape",
        ),
        (lambda: functional(layers.LayerNormalization(name="own")), "'own'.*deviation of its own"),
        (
            lambda: functional(layers.Conv2DTranspose(2, 3, kernel_constraint="max_norm")),
            "constrains its kernel along an axis",
        ),
        (lambda: functional(layers.Conv2DTranspose(2, 3), (None, 4, 2)), "Accepted: known lengths"),
        (lambda: functional(lambda x: x * x), "Operation 'multiply.*' of type Multiply"),
        (lambda: functional(lambda x: ops.square(x)), "has no interval form. Accepted: "),
        (
            lambda: functional(lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x)),
            "'bilinear', which has no interval form. Accepted: 'nearest'",
        ),
        (
            lambda: functional(layers.Conv1D(2, 3, kernel_constraint="max_norm"), (6, 4)),
            "constrains its kernel along an axis.*Accepted: constraints without",
        ),
        (
            lambda: functional(layers.MaxPooling1D(2, data_format="channels_first"), (4, 6)),
            "MaxPooling1D has data_format 'channels_first'.*Accepted: 'channels_last'",
        ),
        (two_inputs, "Received: 2 inputs, 1 outputs"),
        (two_outputs, "Received: 1 inputs, 2 outputs"),
        (lambda: keras.Sequential([layers.Dense(2)]), "is not built"),
        (subclassed, "is subclassed"),
        (lambda: layers.Dense(2), "must be a Keras model. Received: Dense"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        convert(make())


def test_a_layer_of_another_model_is_no_input():
    """A sub-model of a functional graph starts at its own input, not at the image."""
    stock = functional(lambda x: layers.Dense(3)(layers.Flatten()(x)))
    inner = keras.Model(stock.layers[1].output, stock.output)
    x = np.ones((2, 60), "float32")
    close(convert(inner)(ops.convert_to_tensor(x)), inner(ops.convert_to_tensor(x)))


def test_a_global_policy_does_not_change_the_precision():
    """Neither of images nor of activations, sums and residual blocks."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(4, activation="relu")(inputs)
    total = keras.layers.Add()([hidden, keras.layers.Dense(4)(hidden)])
    stock = keras.Model(inputs, keras.layers.Dense(3)(ops.relu(total) + hidden))
    x = np.full((1, 4), 0.7081, "float32")
    expected = numpy(stock(x))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = convert(stock)
        close(network(x), expected, 1e-6)
        box = numpy(network(input_box(x, 1e-4)))
    finally:
        keras.config.set_dtype_policy(before)
    assert np.all(box.lower <= expected)
    assert np.all(box.upper >= expected)


def test_activity_regularizer_stays_after_its_activation():
    layer = keras.layers.Dense(
        4, activation="relu", activity_regularizer=keras.regularizers.L2(1.0)
    )
    stock = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(2)])
    network = convert(stock)
    x = ops.convert_to_tensor(numbers(5, 3))
    losses = []
    for model in (stock, network):
        model(x)
        losses.append([float(numpy(loss)) for loss in model.losses])
    assert losses[0] == pytest.approx(losses[1])
    assert network.relus == 1


@pytest.mark.once
def test_transposed_convolutions_that_keras_pads_otherwise_are_refused(monkeypatch):
    monkeypatch.setattr(agreement, "agree", lambda *_: False)
    how = {"strides": 2, "padding": "same", "name": "up"}
    assert convert(functional(layers.Conv2DTranspose(2, 3, **{**how, "padding": "valid"})))
    with pytest.raises(ValueError, match=r"'up' spreads pixels with padding 'same'.*Accepted here"):
        convert(functional(layers.Conv2DTranspose(2, 3, **how)))


def test_quantised_layers_are_refused():
    stock = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="small")])
    stock.quantize("int8")
    with pytest.raises(ValueError, match=r"'small' is quantised \(int8\).*Accepted"):
        convert(stock)


@pytest.mark.parametrize("name", ["linear", "relu", "softmax"])
@pytest.mark.parametrize(
    "make",
    [
        lambda own: layers.Dense(2, activation=own),
        lambda own: layers.Dense(2, activation=own, activity_regularizer="l2"),
        lambda own: layers.Activation(own),
    ],
)
def test_functions_of_ones_own_with_the_name_of_a_known_one(name, make):
    def own(x):
        return -ops.abs(x)

    own.__name__ = name
    model = keras.Sequential([layers.Input((2,)), make(own), layers.Dense(2)])
    with pytest.raises(ValueError, match=rf"{name}'.* no bounds are known"):
        convert(model)

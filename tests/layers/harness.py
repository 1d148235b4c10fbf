"""Every interval layer with several configurations, and what each of them must do."""

from dataclasses import dataclass, field

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps import layers as interval_layers
from keras_taps.interval import Interval
from keras_taps.layers import (
    IntervalBatchNormalization,
    IntervalConv2D,
    IntervalReLU,
    IntervalResidual,
)
from keras_taps.networks import IntervalSequential
from tests.helpers import (
    BACKEND,
    assert_contains,
    close,
    gradients,
    numbers,
    numpy,
    random_box,
    randomise,
    sample_points,
)

IMAGE = (7, 5, 2)


@dataclass
class Case:
    """One layer: the name of its stock form, its arguments and the shape of one input."""

    name: str
    shape: tuple = IMAGE
    config: dict = field(default_factory=dict)

    def __str__(self):
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.config.items())])

    def skip_unsupported(self):
        channels_first = self.config.get("data_format") == "channels_first"
        if BACKEND == "tensorflow" and channels_first:
            pytest.skip("TensorFlow's CPU kernels know no channels_first")

    def interval(self, dtype=None):
        """Interval layer, not built."""
        cls = getattr(interval_layers, f"Interval{self.name}")
        return cls(**self.config, dtype=dtype)

    def built(self, dtype=None):
        """Interval layer with random weights."""
        self.skip_unsupported()
        layer = self.interval(dtype)
        layer.build((None, *self.shape))
        return randomise(layer)

    def stock(self):
        """Stock layer with the same random weights."""
        config = self.config
        if self.name == "BatchNormalization":  # whose defaults differ from Keras'
            config = {"momentum": 0.9, "epsilon": 1e-5, **config}
        layer = getattr(keras.layers, self.name)(**config)
        layer.build((None, *self.shape))
        return randomise(layer)


FIRST = {"data_format": "channels_first"}

CASES = [
    Case("Dense", (6,), {"units": 5}),
    Case("Dense", (6,), {"units": 5, "use_bias": False, "activation": "relu"}),
    Case("Dense", (3, 4), {"units": 5, "activation": "tanh"}),
    Case("Conv2D", IMAGE, {"filters": 3, "kernel_size": 3}),
    Case("Conv2D", IMAGE, {"filters": 3, "kernel_size": (2, 3), "strides": 2, "padding": "same"}),
    Case("Conv2D", IMAGE, {"filters": 3, "kernel_size": 4, "strides": (2, 1), "use_bias": False}),
    Case("Conv2D", IMAGE, {"filters": 3, "kernel_size": 2, "dilation_rate": 2}),
    Case("Conv2D", IMAGE, {"filters": 4, "kernel_size": 3, "groups": 2, "activation": "relu"}),
    Case("Conv2D", (2, 7, 5), {"filters": 3, "kernel_size": 3, "padding": "same", **FIRST}),
    Case("DepthwiseConv2D", IMAGE, {"kernel_size": 3}),
    Case("DepthwiseConv2D", IMAGE, {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"}),
    Case("DepthwiseConv2D", IMAGE, {"kernel_size": 2, "strides": 2, "activation": "sigmoid"}),
    Case("DepthwiseConv2D", IMAGE, {"kernel_size": 2, "dilation_rate": 2, "use_bias": False}),
    Case("DepthwiseConv2D", (2, 7, 5), {"kernel_size": 3, "depth_multiplier": 2, **FIRST}),
    Case("BatchNormalization", IMAGE),
    Case("BatchNormalization", (6,), {"scale": False}),
    Case("BatchNormalization", IMAGE, {"center": False, "axis": 1, "epsilon": 1e-3}),
    Case("Normalization", IMAGE, {"mean": [0.1, 0.4], "variance": [0.3, 2.0]}),
    Case("Normalization", IMAGE, {"mean": 0.1, "variance": 0.3}),
    Case("Rescaling", IMAGE, {"scale": -2.0, "offset": 0.3}),
    Case("Rescaling", IMAGE, {"scale": 1 / 255}),
    Case("ReLU"),
    Case("ReLU", IMAGE, {"max_value": 0.5, "negative_slope": 0.1}),
    Case("ReLU", IMAGE, {"threshold": 0.2}),
    Case("LeakyReLU", IMAGE, {"negative_slope": 0.2}),
    Case("ELU", IMAGE, {"alpha": 0.5}),
    *(Case("Activation", (6,), {"activation": name}) for name in ("tanh", "leaky_relu")),
    Case("MaxPooling2D", IMAGE, {"pool_size": 2}),
    Case("MaxPooling2D", IMAGE, {"pool_size": 3, "strides": 2, "padding": "same"}),
    Case("AveragePooling2D", IMAGE, {"pool_size": (2, 3), "strides": 1}),
    Case("AveragePooling2D", IMAGE, {"pool_size": 3, "strides": 2, "padding": "same"}),
    Case("GlobalAveragePooling2D"),
    Case("GlobalMaxPooling2D", IMAGE, {"keepdims": True}),
    Case("Flatten"),
    Case("Flatten", (2, 7, 5), FIRST),
    Case("Reshape", IMAGE, {"target_shape": (-1, 5)}),
    Case("ZeroPadding2D", IMAGE, {"padding": ((1, 2), (0, 3))}),
    Case("Cropping2D", IMAGE, {"cropping": ((1, 2), (0, 3))}),
    Case("UpSampling2D", (3, 2, 2), {"size": (2, 3)}),
    Case("Permute", (3, 4, 2), {"dims": (3, 1, 2)}),
    Case("RepeatVector", (5,), {"n": 3}),
    Case("Dropout", IMAGE, {"rate": 0.5}),
]


class ResidualCase(Case):
    """A residual block; what it must equal is written out by hand."""

    def interval(self, dtype=None):
        main = [
            IntervalConv2D(2, 3, padding="same", dtype=dtype),
            IntervalBatchNormalization(dtype=dtype),
            IntervalReLU(dtype=dtype),
            IntervalConv2D(2, 1, dtype=dtype),
        ]
        return IntervalResidual(
            [main, [], [IntervalConv2D(2, 1, activation="relu", dtype=dtype)]], dtype=dtype
        )

    def stock(self):
        main, _, projection = self.built().branches

        def block(x):
            y = x
            for layer in main:
                y = layer(y)
            return y + x + projection[0](x)

        return block


class ScaleCase(Case):
    """Scale and shift; what it must equal is written out by hand."""

    def stock(self):
        layer = self.built()
        return lambda x: x * layer.scale + layer.shift


class DistanceCase(Case):
    """Distances, sorted and summed by NumPy."""

    def stock(self):
        layer = self.built()

        def distances(x):
            away = np.abs(numpy(x)[:, :, None] - numpy(layer.kernel))
            largest = np.sort(away, axis=1)[:, ::-1][:, : len(layer.coefficients)]
            shift = 0.0 if layer.shift is None else numpy(layer.shift)
            return np.einsum("bko,k->bo", largest, layer.coefficients) + shift

        return distances


class EqualizedCase(Case):
    """A Dense layer with weights that are scaled where they are used."""

    def stock(self):
        weights, bias = self.built().get_weights()
        return lambda x: np.tanh(numpy(x) @ weights / np.sqrt(len(weights)) + bias)


CASES += [
    DistanceCase("Distance", (6,), {"units": 5}),
    DistanceCase("Distance", (12,), {"units": 3, "keep": 0.6, "momentum": 0.5}),
    DistanceCase("Distance", (3,), {"units": 4, "keep": 0.5, "mean_shift": False}),
    DistanceCase("Distance", (3,), {"units": 2, "mean_shift": False, "use_bias": True}),
    EqualizedCase("EqualizedDense", (4,), {"units": 3, "activation": "tanh"}),
]
CASES.append(ResidualCase("Residual"))
CASES += [ScaleCase("Scale", IMAGE, {"shape": shape}) for shape in ((2,), IMAGE)]


def check_same_as_stock(case):
    x = ops.convert_to_tensor(numbers(2, *case.shape))
    close(case.built()(x), case.stock()(x))


def check_build_from_box(case):
    """A box has the shape of a tensor, not of a pair of tensors."""
    case.skip_unsupported()
    from_box, box = case.interval(), random_box(2, *case.shape)
    out = from_box(box)
    assert isinstance(out, Interval)
    from_tensor = case.built()
    assert [w.shape for w in from_box.weights] == [w.shape for w in from_tensor.weights]
    assert out.lower.shape == out.upper.shape == from_tensor(box.lower).shape


def check_bounds(case, dtype=None, tolerance=1e-5):
    layer, box = case.built(dtype), random_box(1, *case.shape, dtype=dtype or "float32")
    out = layer(box)
    for bound in out:
        assert keras.backend.standardize_dtype(bound.dtype) == (dtype or "float32")
    assert_contains(out, numpy(layer(ops.convert_to_tensor(sample_points(box)))), tolerance)


def check_bounds_reached(case):
    """A layer that moves all outputs one way is not looser than the two ends of the box."""
    if hasattr(case.built(), "kernel") or case.name == "Residual":
        pytest.skip("an affine layer reaches each bound at a vertex of its own")
    layer, box = case.built(), random_box(1, *case.shape)
    lower, upper = numpy(box)
    points = ops.convert_to_tensor(np.concatenate([lower, upper]))
    low, high = numpy(layer(box))
    ends = numpy(layer(points))
    close(low[0], ends.min(axis=0))
    close(high[0], ends.max(axis=0))


def check_zero_width(case):
    layer, x = case.built(), ops.convert_to_tensor(numbers(2, *case.shape))
    out, y = layer(Interval(x, x)), layer(x)
    close(out.lower, y)
    close(out.upper, y)


def check_round_trip(case, path):
    """By config, and inside a network saved to a file."""
    layer, box = case.built(), random_box(2, *case.shape)
    expected = layer(box)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    again.build((None, *case.shape))
    again.set_weights(layer.get_weights())
    close(again(box), expected, 0)

    network = IntervalSequential([layer], input_shape=case.shape)
    network.save(path)
    close(keras.saving.load_model(path)(box), expected, 0)


def check_float64(case):
    if BACKEND != "tensorflow":
        pytest.skip("elsewhere Keras' own type promotion ends at float32")
    check_bounds(case, "float64", 1e-12)


def check_refuses_coarse(case, dtype):
    layer = case.built(dtype)
    with pytest.raises(ValueError, match=f"computes in {dtype}.*Accepted: dtype 'float32'"):
        layer(random_box(2, *case.shape))


def check_gradients(case):
    """Through both bounds to every trainable weight and to the box."""
    layer, box = case.built(), random_box(2, *case.shape, seed=1)
    weights = layer.trainable_variables
    signs = [
        ops.convert_to_tensor(numbers(*bound.shape, seed=i)) for i, bound in enumerate(layer(box))
    ]

    def total(lower, upper, *values):
        with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
            out = layer(Interval(lower, upper))
        return sum(ops.sum(bound * sign) for bound, sign in zip(out, signs, strict=True))

    _, found = gradients(total, *box, *(ops.copy(w.value) for w in weights))
    for gradient in found:
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient)


def check_symbolic(case):
    """In a functional model, with the shapes known before any data comes."""
    layer, box = case.built(), random_box(2, *case.shape)
    pair = Interval(keras.Input(case.shape), keras.Input(case.shape))
    out = layer(pair)
    expected = layer(box)
    for symbol, bound in zip(out, expected, strict=True):
        assert tuple(symbol.shape) == (None, *bound.shape[1:])
    found = keras.Model(list(pair), list(out))(list(box))
    close(Interval(*found), expected)

"""The convolutional networks of the paper: CNN3, CNN5 and CNN7."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_taps.checks import check_count
from keras_taps.layers import (
    IntervalBatchNormalization,
    IntervalConv2D,
    IntervalDense,
    IntervalFlatten,
    IntervalNormalization,
    IntervalReLU,
    IntervalZeroPadding2D,
)
from keras_taps.networks.initializer import FanInUniform, hidden_initializer
from keras_taps.networks.sequential import IntervalSequential

LAST = "channels_last"  # the order of `input_shape`, whatever Keras takes for its default


def normalization(input_shape, mean, std, axes=(3,)):
    """List with the layer `(x - mean) / std`, or empty without `mean`.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        mean: `None`, a number or one number a channel.
        std: Deviations > 0, in the same form.
        axes: How many axes an input may have; the last are channels, or features.

    Raises:
        ValueError: For another shape, or if mean and deviations do not fit it.
    """
    if np.ndim(input_shape) != 1 or len(input_shape) not in axes:
        rows = ", or (features,)" if 1 in axes else ""
        raise ValueError(
            f"`input_shape` must be (height, width, channels), with 1 channel for grey images{rows}"
            f". Received: input_shape={input_shape!r}"
        )
    if mean is None and std is None:
        return []
    for name, value in (("mean", mean), ("std", std)):
        numbers = value is not None and np.asarray(value).dtype.kind in "iuf"
        if not numbers or np.shape(value) not in ((), (1,), (input_shape[-1],)):
            raise ValueError(
                f"`{name}` must be a number or one for each of {input_shape[-1]} channels, and "
                f"`mean` and `std` are given together. Received: {name}={value!r}"
            )
    if np.min(std) <= 0:
        raise ValueError(f"`std` must be above 0. Received: {std=}")
    means, deviations = np.atleast_1d(mean), np.atleast_1d(std)
    return [IntervalNormalization(mean=means.tolist(), variance=(deviations**2).tolist())]


def conv(filters, kernel, stride, padding, initializer="ibp"):
    """Padding on every side (stock "same" is lopsided at stride 2) and a valid convolution."""
    pad = [IntervalZeroPadding2D(padding, data_format=LAST)] if padding else []
    return [
        *pad,
        IntervalConv2D(
            filters,
            kernel,
            strides=stride,
            data_format=LAST,
            kernel_initializer=hidden_initializer(initializer),
        ),
    ]


def hidden(affine, batch_norm):
    """An affine part, batch normalisation if asked for, and a ReLU."""
    return [*affine, *([IntervalBatchNormalization()] if batch_norm else []), IntervalReLU()]


def dense(units, initializer="ibp"):
    """A hidden Dense layer."""
    return [IntervalDense(units, kernel_initializer=hidden_initializer(initializer))]


def head(num_classes):
    """The last Dense layer, which the IBP initialisation leaves alone."""
    return IntervalDense(
        check_count("num_classes", num_classes, low=2), kernel_initializer=FanInUniform()
    )


def assemble(layers, input_shape, name):
    """The built network, its biases started as the field's PyTorch codes leave them.

    Those codes initialise only kernels anew. In short trainings without batch normalisation the
    difference to zero biases can be measured.
    """
    network = IntervalSequential(layers, input_shape=input_shape, name=name)
    for layer in network.affine_layers:
        limit = math.prod(layer.kernel.shape[:-1]) ** -0.5
        layer.bias.assign(keras.random.uniform(layer.bias.shape, -limit, limit))
    return network


def cnn3(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 16,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    initializer: str = "ibp",
) -> IntervalSequential:
    """CNN3: two convolutions and a Dense layer, no batch normalisation.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of logits.
        width: Filters of the first convolution; the second has twice as many. Figure 1 of the
            paper uses `width=1`.
        mean: Mean of the training pixels, a number or one a channel; `None` for no normalisation.
        std: Their standard deviation, in the same form.
        initializer: Of the kernels of hidden layers: 'ibp' keeps boxes narrow, 'fan-in' is the
            default of the field's PyTorch codes.

    Returns:
        A built `IntervalSequential` with 2 ReLUs.

    Example:

    >>> cnn3((28, 28, 1), 10, mean=0.1307, std=0.3081).relus
    2

    References:
        Mao et al. 2023, section 4 and appendix B.3.
    """
    width = check_count("width", width, low=1)
    layers = [
        *normalization(input_shape, mean, std),
        *hidden(conv(width, 5, 2, 2, initializer), False),
        *hidden(conv(2 * width, 4, 2, 1, initializer), False),
        IntervalFlatten(data_format=LAST),
        head(num_classes),
    ]
    return assemble(layers, input_shape, "cnn3")


def cnn5(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 16,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    initializer: str = "ibp",
) -> IntervalSequential:
    """CNN5: three convolutions and two Dense layers, no batch normalisation.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of logits.
        width: Filters of the first two convolutions; the third has twice as many, the hidden
            Dense layer `32 * width` units.
        mean: Mean of the training pixels, a number or one a channel; `None` for no normalisation.
        std: Their standard deviation, in the same form.
        initializer: Of the kernels of hidden layers: 'ibp' keeps boxes narrow, 'fan-in' is the
            default of the field's PyTorch codes.

    Returns:
        A built `IntervalSequential` with 4 ReLUs.

    Example:

    >>> cnn5((28, 28, 1), 10, width=2).relus
    4

    References:
        Mao et al. 2023, section 4 and appendix B.3.
    """
    width = check_count("width", width, low=1)
    layers = [
        *normalization(input_shape, mean, std),
        *hidden(conv(width, 3, 1, 1, initializer), False),
        *hidden(conv(width, 4, 2, 1, initializer), False),
        *hidden(conv(2 * width, 4, 2, 1, initializer), False),
        IntervalFlatten(data_format=LAST),
        *hidden(dense(32 * width, initializer), False),
        head(num_classes),
    ]
    return assemble(layers, input_shape, "cnn5")


def cnn7(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 64,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    last_stride: int = 1,
    initializer: str = "ibp",
) -> IntervalSequential:
    """CNN7, the network of the paper's main experiments, with batch normalisation.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of logits.
        width: Filters of the first two convolutions (64 in the paper); the next three have twice
            as many, the hidden Dense layer `8 * width` units.
        mean: Mean of the training pixels, a number or one a channel; `None` for no normalisation.
        std: Their standard deviation, in the same form.
        last_stride: Stride of the fifth convolution; 2 on TinyImageNet.
        initializer: Of the kernels of hidden layers: 'ibp' keeps boxes narrow, 'fan-in' is the
            default of the field's PyTorch codes.

    Returns:
        A built `IntervalSequential` with 6 ReLUs.

    Example:

    >>> cnn7((28, 28, 1), 10, width=4).legal_splits
    (0, 1, 2, 3, 4, 5, 6)

    References:
        Shi et al. 2021; Mao et al. 2023, appendix B.3.
    """
    width = check_count("width", width, low=1)
    layers = [
        *normalization(input_shape, mean, std),
        *hidden(conv(width, 3, 1, 1, initializer), True),
        *hidden(conv(width, 3, 1, 1, initializer), True),
        *hidden(conv(2 * width, 3, 2, 1, initializer), True),
        *hidden(conv(2 * width, 3, 1, 1, initializer), True),
        *hidden(
            conv(2 * width, 3, check_count("last_stride", last_stride, low=1), 1, initializer), True
        ),
        IntervalFlatten(data_format=LAST),
        *hidden(dense(8 * width, initializer), True),
        head(num_classes),
    ]
    return assemble(layers, input_shape, "cnn7")

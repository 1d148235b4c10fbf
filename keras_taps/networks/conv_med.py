"""The convolutional networks of COLT and IBP-R: ConvMed and ConvMedBig."""

from keras_taps.checks import check_count
from keras_taps.layers import IntervalFlatten
from keras_taps.networks.cnn import LAST, assemble, conv, dense, head, hidden, normalization


def conv_med(
    input_shape,
    num_classes,
    width=16,
    mean=None,
    std=None,
    *,
    w1=1,
    w2=1,
    units=250,
    initializer="fan-in",
):
    """ConvMed: two convolutions and two Dense layers, no batch normalisation.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of logits.
        width: Unit of width, 16 in the papers.
        mean: Mean of the training pixels, a number or one a channel; `None` for no normalisation.
        std: Their standard deviation, in the same form.
        w1: The first convolution has `w1 * width` filters.
        w2: The second has `2 * w2 * width`.
        units: Units of the hidden Dense layer.
        initializer: Of the kernels of hidden layers, 'fan-in' or 'ibp'.

    Returns:
        A built `IntervalSequential` with 3 ReLUs.

    Example:

    >>> conv_med((28, 28, 1), 10, width=1, w1=2, w2=4, units=20).relus
    3

    References:
        Balunovic and Vechev, "Adversarial Training and Provable Defenses: Bridging the Gap", 2020.
    """
    width = check_count("width", width, low=1)
    first = check_count("w1", w1, low=1) * width
    second = 2 * check_count("w2", w2, low=1) * width
    layers = [
        *normalization(input_shape, mean, std),
        *hidden(conv(first, 5, 2, 2, initializer), False),
        *hidden(conv(second, 4, 2, 1, initializer), False),
        IntervalFlatten(data_format=LAST),
        *hidden(dense(check_count("units", units, low=1), initializer), False),
        head(num_classes),
    ]
    return assemble(layers, input_shape, "conv_med")


def conv_med_big(
    input_shape,
    num_classes,
    width=16,
    mean=None,
    std=None,
    *,
    w1=1,
    w2=1,
    w3=1,
    units=250,
    initializer="fan-in",
):
    """ConvMedBig: three convolutions and two Dense layers, no batch normalisation.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of logits.
        width: Unit of width, 16 in the papers.
        mean: Mean of the training pixels, a number or one a channel; `None` for no normalisation.
        std: Their standard deviation, in the same form.
        w1: The first convolution has `w1 * width` filters.
        w2: The second has `w2 * width`.
        w3: The third has `2 * w3 * width`.
        units: Units of the hidden Dense layer.
        initializer: Of the kernels of hidden layers, 'fan-in' or 'ibp'.

    Returns:
        A built `IntervalSequential` with 4 ReLUs.

    Example:

    >>> conv_med_big((32, 32, 3), 10, width=1, w1=2, w2=2, w3=4, units=20).relus
    4

    References:
        Balunovic and Vechev, "Adversarial Training and Provable Defenses: Bridging the Gap", 2020.
    """
    width = check_count("width", width, low=1)
    first, second = (check_count(name, w, 1) * width for name, w in (("w1", w1), ("w2", w2)))
    third = 2 * check_count("w3", w3, low=1) * width
    layers = [
        *normalization(input_shape, mean, std),
        *hidden(conv(first, 3, 1, 1, initializer), False),
        *hidden(conv(second, 4, 2, 1, initializer), False),
        *hidden(conv(third, 4, 2, 1, initializer), False),
        IntervalFlatten(data_format=LAST),
        *hidden(dense(check_count("units", units, low=1), initializer), False),
        head(num_classes),
    ]
    return assemble(layers, input_shape, "conv_med_big")

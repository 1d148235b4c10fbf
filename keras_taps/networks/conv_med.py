"""The convolutional networks of COLT and IBP-R: ConvMed and ConvMedBig."""

from collections.abc import Sequence

from keras_taps.checks import check_count
from keras_taps.layers import IntervalFlatten
from keras_taps.networks.cnn import LAST, assemble, conv, dense, head, hidden, normalization
from keras_taps.networks.sequential import IntervalSequential


def conv_med(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 16,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    *,
    w1: int = 1,
    w2: int = 1,
    units: int = 250,
    initializer: str = "fan-in",
) -> IntervalSequential:
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
    plan = ((w1, "w1", 1, 5, 2, 2), (w2, "w2", 2, 4, 2, 1))
    return _network(
        "conv_med", input_shape, num_classes, width, mean, std, plan, units, initializer
    )


def conv_med_big(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 16,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    *,
    w1: int = 1,
    w2: int = 1,
    w3: int = 1,
    units: int = 250,
    initializer: str = "fan-in",
) -> IntervalSequential:
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
    plan = ((w1, "w1", 1, 3, 1, 1), (w2, "w2", 1, 4, 2, 1), (w3, "w3", 2, 4, 2, 1))
    name = "conv_med_big"
    return _network(name, input_shape, num_classes, width, mean, std, plan, units, initializer)


def _network(name, input_shape, num_classes, width, mean, std, plan, units, initializer):
    """Convolutions `(factor, its name, times, kernel, stride, padding)`, and two Dense layers."""
    width = check_count("width", width, low=1)
    layers = normalization(input_shape, mean, std)
    for factor, argument, times, *window in plan:
        filters = times * check_count(argument, factor, low=1) * width
        layers += hidden(conv(filters, *window, initializer), False)
    layers += [
        IntervalFlatten(data_format=LAST),
        *hidden(dense(check_count("units", units, low=1), initializer), False),
        head(num_classes),
    ]
    return assemble(layers, input_shape, name)

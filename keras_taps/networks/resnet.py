"""A small residual network."""

from collections.abc import Sequence

from keras_taps.checks import check_count
from keras_taps.layers import IntervalBatchNormalization, IntervalFlatten, IntervalReLU
from keras_taps.layers.residual import IntervalResidual
from keras_taps.networks.cnn import LAST, assemble, conv, dense, head, hidden, normalization
from keras_taps.networks.sequential import IntervalSequential


def _block(filters, stride, initializer):
    """Two convolutions beside a 1 x 1 convolution, summed, then a ReLU."""
    main = [
        *hidden(conv(filters, 3, stride, 1, initializer), True),
        *conv(filters, 3, 1, 1, initializer),
    ]
    shortcut = conv(filters, 1, stride, 0, initializer)
    branches = [[*main, IntervalBatchNormalization()], [*shortcut, IntervalBatchNormalization()]]
    return [IntervalResidual(branches), IntervalReLU()]


def resnet(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 16,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    initializer: str = "ibp",
) -> IntervalSequential:
    """A residual network with batch normalisation: a convolution, two blocks, two Dense layers.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of logits.
        width: Filters of the first convolution; the blocks have two and four times as many, the
            hidden Dense layer `8 * width` units.
        mean: Mean of the training pixels, a number or one a channel; `None` for no normalisation.
        std: Their standard deviation, in the same form.
        initializer: Of the kernels of hidden layers: 'ibp' keeps boxes narrow, 'fan-in' is the
            default of the field's PyTorch codes.

    Returns:
        A built `IntervalSequential`; the ReLU inside a block is not a place to cut.

    Example:

    >>> resnet((28, 28, 1), 10, width=2).legal_splits
    (0, 1, 3, 5, 6)

    References:
        He et al. 2016; the small residual networks of the verification competition.
    """
    width = check_count("width", width, low=1)
    layers = [
        *normalization(input_shape, mean, std),
        *hidden(conv(width, 3, 2, 1, initializer), True),
        *_block(2 * width, 2, initializer),
        *_block(4 * width, 2, initializer),
        IntervalFlatten(data_format=LAST),
        *hidden(dense(8 * width, initializer), True),
        head(num_classes),
    ]
    return assemble(layers, input_shape, "resnet")

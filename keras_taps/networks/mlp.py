"""A network of Dense layers, for rows of features."""

from collections.abc import Sequence

from keras_taps.checks import check_count
from keras_taps.layers import IntervalFlatten
from keras_taps.networks.cnn import LAST, assemble, dense, head, hidden, normalization
from keras_taps.networks.sequential import IntervalSequential


def mlp(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 64,
    depth: int = 2,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    initializer: str = "ibp",
) -> IntervalSequential:
    """A multilayer perceptron: hidden Dense layers with ReLUs, and one of logits.

    Args:
        input_shape: Shape of one input, `(features,)` or that of an image, whose pixels become
            features.
        num_classes: Number of logits.
        width: Units of each hidden layer.
        depth: Number of hidden layers.
        mean: Mean of the training inputs, a number or one a feature (of images one a channel);
            `None` for no normalisation.
        std: Their standard deviation, in the same form.
        initializer: Of the kernels of hidden layers: 'ibp' keeps boxes narrow, 'fan-in' is the
            default of the field's PyTorch codes.

    Returns:
        A built `IntervalSequential` with as many ReLUs as hidden layers.

    Example:

    >>> mlp((30,), 2, width=16).legal_splits
    (0, 1, 2)
    """
    check_count("width", width, low=1)
    layers = normalization(input_shape, mean, std, axes=(1, 3))
    layers += [IntervalFlatten(data_format=LAST)] if len(input_shape) > 1 else []
    for _ in range(check_count("depth", depth, low=1)):
        layers += hidden(dense(width, initializer), False)
    return assemble([*layers, head(num_classes)], input_shape, "mlp")

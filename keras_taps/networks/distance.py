"""l_inf-distance nets and SortNet: networks that are 1-Lipschitz in the largest coordinate."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_taps.checks import check_count
from keras_taps.layers import (
    IntervalDense,
    IntervalDistance,
    IntervalEqualizedDense,
    IntervalFlatten,
)
from keras_taps.networks.cnn import LAST, assemble, normalization
from keras_taps.networks.initializer import PassOnInitializer
from keras_taps.networks.sequential import IntervalSequential


def distance_net(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 64,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    *,
    depth: int = 5,
    keep: float = 1.0,
    pass_on: float | None = None,
) -> IntervalSequential:
    """An l_inf-distance net, with `keep < 1` a SortNet: distance layers, logits minus distances.

    The last layer, a Dense layer that changes the sign, is not trained.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of logits.
        width: Neurons of a hidden layer, 5120 in the papers.
        mean: Mean of the training pixels, a number or one a channel; `None` for no normalisation.
        std: Their standard deviation, in the same form.
        depth: Number of distance layers >= 1, that of the classes included.
        keep: As `IntervalDistance`, of all layers but the first.
        pass_on: `None`, or the distance by which fresh neurons pass on one input each.

    Returns:
        A built `IntervalSequential` for `DistanceNetModel`.

    Example:

    >>> network = distance_net((8, 8, 1), 10, width=16, depth=3, keep=0.7)
    >>> [layer.units for layer in network.distances]
    [16, 16, 10]

    References:
        Zhang et al., "Boosting the Certified Robustness of L-infinity Distance Nets", 2022;
        Zhang et al., "Rethinking Lipschitz Neural Networks and Certified Robustness: A Boolean
        Function Perspective" (SortNet), 2022.
    """
    depth = check_count("depth", depth, low=1)
    layers = _distances(input_shape, mean, std, width, depth - 1, keep, pass_on)
    keep = keep if depth > 1 else 1.0  # pixels are never left out
    last = IntervalDistance(
        num_classes, keep, mean_shift=False, use_bias=True, kernel_initializer=_start(pass_on)
    )
    sign = IntervalDense(num_classes, use_bias=False, name="minus")
    network = IntervalSequential([*layers, last, sign], tuple(input_shape), "distance_net")
    sign.set_weights([-np.eye(num_classes)])
    sign.trainable = False
    return network


def sortnet_mlp(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 64,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    *,
    depth: int = 7,
    keep: float = 1.0,
    pass_on: float | None = None,
    units: int = 512,
) -> IntervalSequential:
    """SortNet + MLP: distance layers as features, and two Dense layers with tanh between them.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of logits.
        width: Neurons of a distance layer, 5120 in the paper.
        mean: Mean of the training pixels, a number or one a channel; `None` for no normalisation.
        std: Their standard deviation, in the same form.
        depth: Number of layers >= 3, both Dense ones included.
        keep: As `IntervalDistance`, of all layers but the first.
        pass_on: `None`, or the distance by which fresh neurons pass on one input each.
        units: Units of the hidden Dense layer.

    Returns:
        A built `IntervalSequential` for `DistanceNetModel`.

    Example:

    >>> len(sortnet_mlp((8, 8, 1), 10, width=16, depth=4, units=8).distances)
    2

    References:
        Zhang et al. 2022 (SortNet), section 5.
    """
    depth = check_count("depth", depth, low=3)
    layers = [
        *_distances(input_shape, mean, std, width, depth - 2, keep, pass_on),
        IntervalEqualizedDense(check_count("units", units, low=1), activation="tanh"),
        IntervalEqualizedDense(num_classes),
    ]
    return assemble(layers, input_shape, "sortnet_mlp")


def _distances(input_shape, mean, std, width, count, keep, pass_on):
    """Normalisation, and hidden distance layers on the vector of pixels."""
    width = check_count("width", width, low=1)
    return [
        *normalization(input_shape, mean, std),
        IntervalFlatten(data_format=LAST),
        *(
            IntervalDistance(width, keep if index else 1.0, kernel_initializer=_start(pass_on))
            for index in range(count)
        ),
    ]


def _start(pass_on):
    if pass_on is None:
        return keras.initializers.RandomNormal(stddev=1.0)
    return PassOnInitializer(pass_on)

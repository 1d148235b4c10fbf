"""The weight initialisation that keeps box widths constant over depth."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_taps.checks import check_choice, check_real
from keras_taps.layers.base import serializable
from keras_taps.typing import Tensor


@serializable
class IBPInitializer(keras.initializers.RandomNormal):
    """Normal weights with deviation `sqrt(2 pi) / fan_in`.

    With it the expected width of a box is the same before and after an affine layer and a ReLU.

    Args:
        seed: Integer, `SeedGenerator` or `None` (then drawn from the global Keras seed).

    Example:

    >>> ops.shape(IBPInitializer(seed=0)((100, 10)))
    (100, 10)

    References:
        Shi et al., "Fast Certified Robust Training with Short Warmup", 2021, section 4.1.
    """

    by_fan_in = True  # depthwise layers ask for it with the shape of one input channel

    def __init__(self, seed: int | keras.random.SeedGenerator | None = None):
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        fan_in = math.prod(shape[:-1])
        deviation = math.sqrt(2 * math.pi) / fan_in
        return keras.random.normal(shape, stddev=deviation, dtype=dtype, seed=self.seed)

    def get_config(self) -> dict[str, Any]:
        return {"seed": keras.saving.serialize_keras_object(self._init_seed)}


@serializable
class FanInUniform(keras.initializers.VarianceScaling):
    """Uniform weights in `+-1 / sqrt(fan_in)`, the default of the field's PyTorch codes.

    The last layer starts from it: the published recipes leave that layer at its default.

    Args:
        seed: Integer or `None` (then drawn from the global Keras seed).

    Example:

    >>> float(keras.ops.max(FanInUniform(seed=0)((100, 10)))) <= 0.1
    True
    """

    def __init__(self, seed: int | keras.random.SeedGenerator | None = None):
        super().__init__(scale=1 / 3, mode="fan_in", distribution="uniform", seed=seed)

    def get_config(self) -> dict[str, Any]:
        return {"seed": keras.saving.serialize_keras_object(self._init_seed)}


@serializable
class PassOnInitializer(keras.initializers.RandomNormal):
    """N(0, 1) centres of distance neurons, all but one entry a neuron near enough to lose.

    Neuron j stands at `-distance` in input `j mod inputs`, whose difference is then the largest:
    it passes on `x + distance`. Where there are fewer outputs than inputs, all are N(0, 1).

    Args:
        distance: Number > 0, a few deviations of inputs and centres.
        seed: Integer or `None` (then drawn from the global Keras seed).

    Example:

    >>> float(PassOnInitializer(10.0, seed=0)((4, 8))[1, 5])
    -10.0

    References:
        The authors' code of Zhang et al. 2022 (SortNet).
    """

    def __init__(self, distance: float = 10.0, seed: Any = None):
        super().__init__(stddev=1.0, seed=seed)
        self.distance = check_real("distance", distance, 0, math.inf, low_open=True)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        kernel = super().__call__(shape, dtype=dtype)
        inputs, outputs = shape
        if inputs > outputs:
            return kernel
        own = keras.ops.arange(inputs)[:, None] == keras.ops.arange(outputs) % inputs
        return keras.ops.where(own, -self.distance, kernel)

    def get_config(self) -> dict[str, Any]:
        seed = keras.saving.serialize_keras_object(self._init_seed)
        return {"distance": self.distance, "seed": seed}


_INITIALIZERS = {"ibp": IBPInitializer, "fan-in": FanInUniform}


def hidden_initializer(name):
    """A new initializer for kernels of hidden layers: 'ibp' or 'fan-in'.

    Raises:
        ValueError: For another name.
    """
    return _INITIALIZERS[check_choice("initializer", name, _INITIALIZERS)]()

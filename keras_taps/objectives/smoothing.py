"""Smoothing of a loss over the weights: Gaussian noise on them, drawn anew for each evaluation."""

import contextlib
import math

import keras
from keras import ops

from keras_taps import backend


@contextlib.contextmanager
def perturbed(model, std, seed):
    """Context in which the trainable weights of a model's network carry Gaussian noise.

    Gradients reach the weights through the noisy ones. What is written within is forgotten.

    Args:
        model: `CertifiedModel`.
        std: Standard deviation > 0 of the noise on each weight.
        seed: Tensor of two integers.

    References:
        Balauca et al., "Gaussian Loss Smoothing Enables Certified Training with Tight Convex
        Relaxations", 2025.
    """
    noisy = {id(variable) for variable in model.network.trainable_variables}
    mapping = []
    # All variables: of those that are missing, JAX would see what they were when it compiled.
    for place, variable in enumerate(model.variables):
        value = ops.convert_to_tensor(variable.value)
        if id(variable) in noisy:
            noise = std * _normal(value.shape, seed + 104_729 * place)
            value = value + ops.cast(noise, value.dtype)
        mapping.append((variable, value))
    with keras.StatelessScope(state_mapping=mapping):
        yield


def _normal(shape, seed):
    """Standard normal numbers, by the method of Box and Muller."""
    pair = backend.uniform((2, *shape), seed)
    return ops.sqrt(-2 * ops.log(1 - pair[0])) * ops.cos(2 * math.pi * pair[1])

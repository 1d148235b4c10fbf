"""Augmentation by Keras preprocessing layers, in an order of random numbers that a key fixes."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike


class Augmentation:
    """Keras preprocessing layers, applied to a batch with random numbers drawn from a key.

    The same key gives the same images, whatever was drawn before: a resumed run augments as one
    that never stopped. (On another backend the same key gives other images.)

    Args:
        layers: List of Keras preprocessing layers that keep pixels in [0, 1], such as
            `keras.layers.RandomFlip`.

    Example:

    >>> augmentation = Augmentation([keras.layers.RandomFlip("horizontal")])
    >>> augmentation(np.zeros((4, 8, 8, 1), "float32"), 0, 1).shape
    (4, 8, 8, 1)
    """

    def __init__(self, layers: Sequence[keras.Layer]):
        self.layers = list(layers)

    def __call__(self, images: ArrayLike, *key: int) -> np.ndarray:
        """Augmented images.

        Args:
            images: Array `(batch, height, width, channels)` in [0, 1].
            *key: Whole numbers, such as seed, epoch and index of the batch.

        Returns:
            Float32 array in [0, 1].
        """
        images = ops.convert_to_tensor(images)
        for position, layer in enumerate(self.layers):
            for generator in vars(layer).values():
                if isinstance(generator, keras.random.SeedGenerator):
                    state = np.random.SeedSequence((*key, position)).generate_state(2) >> 1
                    generator.state.assign(ops.cast(state, generator.state.dtype))
            images = layer(images, training=True)
        # Layers that interpolate may leave [0, 1] by rounding.
        return np.clip(ops.convert_to_numpy(images), 0, 1)


def flip_and_shift(pixels, size, crop=None):
    """Horizontal flips, and shifts by up to `pixels` whole pixels with the edge repeated.

    Shifting and then cropping the centre is the random crop of the field.

    Args:
        pixels: Largest shift in each direction.
        size: Height and width of the images before.
        crop: Height and width after, or `None` to keep them.

    Returns:
        `Augmentation`.

    References:
        Mao et al. 2023, appendix B.2.
    """
    # Uniform in +-(pixels + 1/2) and rounded: every whole shift is as likely as any other.
    share = (pixels + 0.4999) / size
    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomTranslation(share, share, fill_mode="nearest", interpolation="nearest"),
    ]
    return Augmentation([*layers, *([keras.layers.CenterCrop(crop, crop)] if crop else [])])

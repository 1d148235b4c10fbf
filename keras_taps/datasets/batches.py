"""Batches in an order that a seed and an epoch number fix."""

from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_taps.checks import check_count, check_seed


class Batches(keras.utils.PyDataset):
    """Arrays as shuffled batches; a resumed run sees the same batches as one that never stopped.

    The order of epoch e depends on `(seed, e)` alone, not on what was drawn before. The models of
    this package keep that order; elsewhere call `fit(..., shuffle=False)`, because Keras would
    shuffle the batches once more from a global generator.

    Args:
        x: Array `(count, ...)`.
        y: Array `(count,)`.
        batch_size: Images a batch, >= 1; the last batch of an epoch may be smaller.
        shuffle: Whether to shuffle, anew in every epoch.
        seed: Whole number.
        epoch: Epoch to begin with, the `initial_epoch` of a resumed `fit`.
        drop_last: Whether to drop a smaller last batch.
        transform: Function of `(images, seed, epoch, index)` for each batch of images, such as an
            `Augmentation`.

    Example:

    >>> batches = Batches(np.zeros((10, 4)), np.zeros(10), batch_size=4)
    >>> len(batches), batches[2][0].shape
    (3, (2, 4))
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        transform: Callable[..., np.ndarray] | None = None,
    ):
        super().__init__()
        self.x, self.y = np.asarray(x), np.asarray(y)
        if len(self.x) != len(self.y) or not len(self.x):
            raise ValueError(
                "`x` and `y` must have the same length, at least 1. "
                f"Received: {len(self.x)} and {len(self.y)}"
            )
        self.batch_size = check_count("batch_size", batch_size, low=1)
        self.shuffle = shuffle
        self.seed = check_seed(seed)
        self.epoch = check_count("epoch", epoch)
        self.drop_last = drop_last
        self.transform = transform
        self._begun = False
        self._set_order()

    def __len__(self) -> int:
        whole, rest = divmod(len(self.x), self.batch_size)
        return whole if rest == 0 or (self.drop_last and whole) else whole + 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        x = self.x[chosen]
        if self.transform is not None:
            x = self.transform(x, self.seed, self.epoch, index)
        return x, self.y[chosen]

    def on_epoch_begin(self) -> None:
        """Keras calls this before each epoch."""
        self._begun = True
        self._set_order()

    def on_epoch_end(self) -> None:
        """Keras calls this after each epoch, and once before the first, which does not count."""
        self.epoch += self._begun
        self._begun = False

    def _set_order(self):
        self._order = np.arange(len(self.x))
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(self._order)

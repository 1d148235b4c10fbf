"""A compiled function over all images of a test set."""

import numpy as np
from keras import ops

from keras_taps import backend


def over_batches(function, network, x, y, batch_size=250, seed=0):
    """Results of `function(images, labels, seed)` on all images, a batch at a time.

    Args:
        function: Maps tensors of images and labels and a seed tensor to a tuple of tensors
            `(batch, ...)`; it may read the variables of `network`.
        network: Keras model.
        x: Array `(count, ...)` of images.
        y: Array `(count,)` of labels.
        batch_size: Images at a time.
        seed: Whole number from which each batch has a seed of its own.

    Returns:
        List of arrays `(count, ...)`.
    """
    compiled, parts = backend.compiled(function, network.variables), []
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        images, labels = (ops.convert_to_tensor(each[part]) for each in (x, y))
        results = compiled(images, labels, backend.seed_tensor(seed, start))
        parts.append([ops.convert_to_numpy(result) for result in results])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]

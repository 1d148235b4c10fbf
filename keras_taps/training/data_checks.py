"""What `fit` and `evaluate` look at before they start."""

import keras
import numpy as np

from keras_taps.checks import check_images, check_labels


def check_data(network, x, y):
    """Raise `ValueError` if images or labels cannot belong to `network`.

    Arrays are checked whole, data sets by their first batch; plain iterators, which cannot be
    rewound, are left to the in-step check that makes the loss NaN.

    Args:
        network: `IntervalSequential`.
        x: Array, tensor, `tf.data.Dataset`, `PyDataset`, torch `DataLoader` or iterator.
        y: Labels for an array `x`, else `None`.
    """
    x, y = _first_batch(x) if y is None else (x, y)
    if x is None:
        return
    check_images(keras.ops.convert_to_numpy(x), network.input_shape[1:])
    if y is None:
        raise ValueError("`y` must hold the integer labels of the images. Received: y=None")
    check_labels(keras.ops.convert_to_numpy(y), network.num_classes)


def _first_batch(data):
    if data is None or isinstance(data, np.ndarray) or keras.ops.is_tensor(data):
        return data, None
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif hasattr(data, "take"):  # tf.data
        batch = next(iter(data.take(1)))
    elif hasattr(data, "__iter__") and not hasattr(data, "__next__"):
        batch = next(iter(data))
    else:
        return None, None
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError(
            "A data set must yield (images, labels) batches. "
            f"Received: batches of type {type(batch).__name__}"
        )
    return batch[0], batch[1]

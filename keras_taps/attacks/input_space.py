"""PGD on images: the empirical upper limit of what can be certified."""

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.attacks.box_attack import box_attack, margins_at
from keras_taps.bounds.margins import certified, margin_rows
from keras_taps.checks import check_count, check_images, check_labels, check_radius, check_seed
from keras_taps.interval import input_box


def pgd_attack(network, x, y, eps, steps=40, restarts=1, step_size=None, seed=0, batch_size=256):
    """Attack a whole data set with PGD on the cross-entropy.

    Args:
        network: `IntervalSequential`.
        x: Array `(count, ...)` of images in [0, 1].
        y: Array `(count,)` of integer labels.
        eps: Radius in pixel units, in [0, 1].
        steps: Gradient steps >= 0.
        restarts: Random starts >= 1.
        step_size: First step relative to the width of the box, by default `max(0.2, 2 / steps)`,
            which decays as `step_sizes` says.
        seed: Whole number; the same seed gives the same points.
        batch_size: Images attacked at a time.

    Returns:
        `(adversarial, robust)`: float array of the worst images found, each within `eps` of its
        image and within [0, 1], and a boolean array: the network still classifies it correctly.

    Raises:
        ValueError: If the radius, the images or the labels are out of range.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> images, robust = pgd_attack(network, np.zeros((4, 8, 8, 1)), np.zeros(4), 0.1, steps=2)
    >>> images.shape, robust.shape
    ((4, 8, 8, 1), (4,))

    References:
        Madry et al. 2018.
    """
    check_radius("eps", eps)
    check_seed(seed)
    check_count("restarts", restarts, low=1)
    check_count("batch_size", batch_size, low=1)
    check_images(x, network.input_shape[1:])
    check_labels(y, network.num_classes)
    segment = network.segment

    def attack(images, labels, seed):
        points = box_attack(
            segment, input_box(images, eps), labels, seed, steps, step_size, restarts, "single"
        )
        margins = margins_at(segment, points, margin_rows(segment.layers[-1], labels))
        return points[:, 0], certified(margins)

    attack = backend.compiled(attack, segment.variables)
    found = []
    for index, start in enumerate(range(0, len(x), batch_size)):
        # The last batch is padded, so that one compiled function serves all.
        chosen = np.arange(start, start + batch_size) % len(x)
        images = ops.convert_to_tensor(np.asarray(x)[chosen], dtype=keras.config.floatx())
        labels = ops.convert_to_tensor(np.asarray(y)[chosen].reshape(-1).astype("int32"))
        batch_seed = backend.seed_tensor(seed, index)
        found.append([ops.convert_to_numpy(t) for t in attack(images, labels, batch_seed)])
    images, robust = (np.concatenate(parts)[: len(x)] for parts in zip(*found, strict=True))
    return images, robust


def adversarial_accuracy(network, x, y, eps, **options):
    """Share of images in [0, 1] that `pgd_attack`, called with the same arguments, cannot break.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> 0 <= adversarial_accuracy(network, np.zeros((4, 8, 8, 1)), np.zeros(4), 0.1, steps=1) <= 1
    True
    """
    return float(np.mean(pgd_attack(network, x, y, eps, **options)[1]))

"""Attacks on a data set of images: what is broken drops out, batches keep one shape."""

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.attacks.box_attack import constants, margins_at
from keras_taps.attacks.objectives import until_broken, worst_margin
from keras_taps.bounds.margins import certified, margin_rows
from keras_taps.checks import check_count, check_labels, check_seed
from keras_taps.domain import UNIT, Domain, check_images
from keras_taps.interval import Interval, input_box
from keras_taps.radii import Radii


class ImageSearch:
    """The worst images found so far around the images of a data set, improved run by run.

    An image that the network misclassifies as it is counts as broken from the beginning. So does
    one at which the network gives no finite margins.

    Args:
        network: `IntervalSequential`.
        x: Array `(count, ...)` of images in the domain.
        y: Array `(count,)` of integer labels.
        eps: Radius, or one for each image, as for `certify`.
        seed: Whole number from which the random starts are drawn.
        batch_size: Images attacked at a time.
        domain: What values images may take, as for `input_box`.

    Attributes:
        images: Array `(count, ...)`: an image that breaks the network where one was found, else
            the one with the largest margin. Each lies in the box of its image.
        margins: Array `(count,)`, the largest margin at each of `images`.
        robust: Boolean array `(count,)`: no image was found that breaks the network.

    Raises:
        ValueError: If an argument is out of range, or images and labels differ in number.
    """

    def __init__(self, network, x, y, eps, seed=0, batch_size=256, domain=UNIT):
        shape = network.input_shape[1:]
        self.domain = Domain.of(domain).fitted(shape)
        self.seed = check_seed(seed)
        check_images(x, shape, self.domain)
        check_labels(y, network.num_classes)
        self.segment, self.classes = network.segment, network.num_classes
        self.x = np.asarray(x, dtype=keras.config.floatx())
        self.y = np.asarray(y).reshape(-1).astype("int32")
        if len(self.x) != len(self.y):
            raise ValueError(
                "`y` must hold one label for each image. "
                f"Received: {len(self.x)} images, {len(self.y)} labels"
            )
        self.radii = Radii.of(eps, shape, len(self.x), self.domain)
        self.batch_size = min(check_count("batch_size", batch_size, low=1), max(len(self.x), 1))
        self.images = self.x.copy()
        self._look_at_the_images()

    def run(self, maximise, objective, targets=0, restarts=1, stream=0, progress=None):
        """Attack every image that is not broken yet, until it is or its restarts are used up.

        Runs are ordered: first restart on all images, hardest class first, and so on; a batch
        takes the next runs whose images are still unbroken. Random starts belong to an image and
        a run, so batches do not change what is found, up to rounding.

        Args:
            maximise: Maps `(objective, start, box, done=done)` to points and their values, as
                `keras_taps.attacks.maximise` does.
            objective: Maps margins `(batch, classes - 1)` and targets `(batch,)` to values.
            targets: With n > 0, one run for each of the n wrong classes whose margins at the image
                are largest.
            restarts: Random starts >= 1 of every run.
            stream: Whole number; other streams have other random starts.
            progress: Called as `progress(done, total)` with numbers of runs, those that became
                needless included.
        """
        attack = self._compiled(maximise, objective)
        count, variants = len(self.x), max(targets, 1)
        total = count * variants * restarts
        left = np.arange(total)
        while True:
            left = left[self.robust[left % count]]
            if progress:
                progress(total - len(left), total)
            if not len(left):
                return
            runs, left = left[: self.batch_size], left[self.batch_size :]
            # Repeated runs fill the last batch, so that one compiled function serves all.
            chosen, number = np.resize(runs, self.batch_size) % count, runs // count
            number = np.resize(number, self.batch_size)
            noise = [self._noise(stream, n, i) for n, i in zip(number, chosen, strict=True)]
            owners = np.unique(chosen, return_inverse=True)[1].reshape(-1)
            given = self.x[chosen], self.y[chosen], self.radii.batch(chosen, self.x.shape[1:])
            targets = self.hardest[chosen, number % variants]
            found = attack(*self._tensors(*given, targets, np.stack(noise), owners))
            self._keep(chosen[: len(runs)], *(ops.convert_to_numpy(t) for t in found))

    def _look_at_the_images(self):
        segment, count = self.segment, len(self.x)

        def look(images, labels):
            margins = margins_at(segment, images[:, None], margin_rows(segment.last, labels))
            return margins, certified(margins)

        look = backend.compiled(look, segment.variables)
        margins, self.robust = np.zeros((count, self.classes - 1)), np.zeros(count, "bool")
        for start in range(0, count, self.batch_size):
            chosen = np.arange(start, start + self.batch_size) % count
            found = look(*self._tensors(self.x[chosen], self.y[chosen]))
            margins[chosen], self.robust[chosen] = (ops.convert_to_numpy(t) for t in found)
        self.margins = margins.max(-1)
        # Wrong classes by margin, largest first, as indices into the margins.
        self.hardest = np.argsort(-margins, axis=-1, kind="stable").astype("int32")

    def _compiled(self, maximise, objective):
        segment, domain = self.segment, self.domain

        def attack(images, labels, eps, targets, noise, owners):
            box = input_box(images, eps, domain)
            box = Interval(*(ops.expand_dims(bound, 1) for bound in box))
            start = ops.minimum(box.lower + noise[:, None] * box.width, box.upper)
            with constants(segment):
                rows = margin_rows(segment.last, labels)

                def goal(points):
                    margins = margins_at(segment, points, rows)
                    return until_broken(objective(margins, targets), margins)[:, None]

                points, _ = maximise(
                    goal, start, box, done=lambda values: all_broken(values[:, 0], owners)
                )
                margins = margins_at(segment, points, rows)
            return points[:, 0], worst_margin(margins), certified(margins)

        return backend.compiled(attack, segment.variables)

    def _noise(self, *key):
        # NumPy, so that every backend and every batch size starts from the same points.
        shape = self.x.shape[1:]
        return np.random.default_rng([self.seed, *key]).random(shape).astype(self.x.dtype)

    def _tensors(self, *arrays):
        return [
            ops.convert_to_tensor(a, dtype=self.x.dtype.name if a.dtype.kind == "f" else "int32")
            for a in arrays
        ]

    def _keep(self, chosen, images, margins, robust):
        for i, image, margin, safe in zip(chosen, images, margins, robust, strict=False):
            if self.robust[i] and (not safe or margin > self.margins[i]):
                self.images[i], self.margins[i], self.robust[i] = image, margin, safe


def all_broken(values, owners):
    """Whether every image of a batch has a point of infinite value.

    Args:
        values: Tensor `(batch,)`, infinite where a point breaks the network.
        owners: Integer tensor `(batch,)` below `batch`: points with equal numbers are of one image.

    Returns:
        Boolean scalar.
    """
    best = ops.segment_max(values, owners, num_segments=values.shape[0])
    return ops.all(ops.take(best, owners) == float("inf"))

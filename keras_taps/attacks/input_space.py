"""PGD on images: the empirical upper limit of what can be certified."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.attacks.objectives import image_objective
from keras_taps.attacks.pgd import maximise, step_sizes
from keras_taps.attacks.search import ImageSearch
from keras_taps.checks import check_count
from keras_taps.networks.load import ModelLike, network_and_domain
from keras_taps.typing import Progress

PAPER_ATTACK = {"steps": 200, "restarts": 5}  # Mao et al. 2023, for the adversarial accuracies


def pgd_attack(
    network: ModelLike,
    x: ArrayLike,
    y: ArrayLike,
    eps: ArrayLike,
    steps: int = 40,
    restarts: int = 1,
    step_size: float | None = None,
    seed: int = 0,
    batch_size: int = 256,
    *,
    objective: str | None = None,
    targeted: bool = False,
    targets: int | None = None,
    progress: Progress | None = None,
    domain: Any = "model",
) -> tuple[np.ndarray, np.ndarray]:
    """Attack a whole data set with PGD.

    An image is done as soon as it is broken: some margin is at least 0, so ties count, at the
    image itself or at any point on the way. Batches end when all their images are broken, and
    later restarts see only the others. The setting of the paper is `**PAPER_ATTACK`.

    Args:
        network: `IntervalSequential`, a model of certified training, a Keras model that `convert`
            takes, or the path of a `.keras` file or a run folder with one of them.
        x: Array `(count, ...)` of images in the domain.
        y: Array `(count,)` of integer labels.
        eps: Radius in units of the images: a number, an array that broadcasts to one image, or one
            for each image, as for `certify`.
        steps: Gradient steps >= 0.
        restarts: Random starts >= 1.
        step_size: First step relative to the width of the box, by default `max(0.2, 2 / steps)`,
            which decays as `step_sizes` says.
        seed: Whole number; the same seed gives the same points.
        batch_size: Images attacked at a time.
        objective: What is maximised: 'cross-entropy', the default; 'margin', the largest
            `o_i - o_y` of a wrong class; or 'dlr', the difference of logits ratio, for three
            classes or more. If `targeted`: 'margin', the default, or 'dlr', for four or more.
        targeted: One run for each wrong class and restart, which maximises the margin of that
            class.
        targets: If `targeted`, only so many wrong classes, those with the largest margins at the
            image; by default all.
        progress: Called as `progress(done, total)` with numbers of runs of single images.
        domain: What values images may take: `(low, high)`, numbers or arrays that broadcast to one
            image; `None` for no bounds; or 'model', those that a model of certified training was
            trained for, [0, 1] for others.

    Returns:
        `(adversarial, robust)`: float array of the worst images found, each within `eps` of its
        image and in the domain, and a boolean array: the network still classifies it correctly.
        An image that is not robust breaks the network; of the others the one with the largest
        margin is given.

    Raises:
        ValueError: If an argument is out of range, or the objective does not fit the classes.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> images, robust = pgd_attack(network, np.zeros((4, 8, 8, 1)), np.zeros(4), 0.1, steps=2)
    >>> images.shape, robust.shape
    ((4, 8, 8, 1), (4,))

    References:
        Madry et al. 2018.
    """
    network, domain = network_and_domain(network, domain)
    check_count("restarts", restarts, low=1)
    chosen = image_objective(objective, targeted, network.num_classes)
    targets = check_targets(targets, network.num_classes) if targeted else _none(targets)
    sizes = step_sizes(steps, step_size)
    search = ImageSearch(network, x, y, eps, seed, batch_size, domain)
    search.run(partial(maximise, sizes=sizes), chosen, targets, restarts, progress=progress)
    return search.images, search.robust


def adversarial_accuracy(
    network: ModelLike, x: ArrayLike, y: ArrayLike, eps: ArrayLike, **options: Any
) -> float:
    """Share of images in [0, 1] that `pgd_attack`, called with the same arguments, cannot break.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> 0 <= adversarial_accuracy(network, np.zeros((4, 8, 8, 1)), np.zeros(4), 0.1, steps=1) <= 1
    True
    """
    return float(np.mean(pgd_attack(network, x, y, eps, **options)[1]))


def check_targets(targets, num_classes):
    """Return how many wrong classes to attack; `None` means all, else it must be in [1, all]."""
    wrong = num_classes - 1
    if targets is None:
        return wrong
    if check_count("targets", targets, low=1) <= wrong:
        return int(targets)
    raise ValueError(
        f"`targets` must be at most {wrong}, the number of wrong classes. Received: {targets=}"
    )


def _none(targets):
    """0, the number of targets of an attack without any."""
    if targets is None:
        return 0
    raise ValueError(f"`targets` must be given with `targeted=True` alone. Received: {targets=}")

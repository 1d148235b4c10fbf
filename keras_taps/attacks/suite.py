"""Several attacks in a row, cheapest first, each on what the ones before could not break."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.attacks.apgd import auto_maximise
from keras_taps.attacks.input_space import check_targets
from keras_taps.attacks.objectives import image_objective
from keras_taps.attacks.pgd import maximise, step_sizes
from keras_taps.attacks.search import ImageSearch
from keras_taps.checks import check_count
from keras_taps.networks.load import ModelLike, network_and_domain
from keras_taps.typing import Progress

_MOST_TARGETS = 9  # as AutoAttack's targeted part


def attack_suite(
    network: ModelLike,
    x: ArrayLike,
    y: ArrayLike,
    eps: ArrayLike,
    steps: int = 100,
    restarts: int = 1,
    targets: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
    domain: Any = "model",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attack a data set with PGD and APGD on several objectives.

    In order: PGD on the cross-entropy, PGD on the margin, APGD on the cross-entropy, APGD on the
    DLR, then PGD on the margin and APGD on the DLR of each of the hardest wrong classes. Networks
    too small for the DLR get the margin in its place; with two classes nothing is targeted.

    This is in the spirit of the APGD parts of AutoAttack, and it is not AutoAttack: neither FAB
    nor the black-box Square attack is here, nor are its step counts and restarts. Do not quote
    these numbers as AutoAttack's. What survives is not proved robust.

    Args:
        network: `IntervalSequential`, a model of certified training, a Keras model that `convert`
            takes, or the path of a `.keras` file or a run folder with one of them.
        x: Array `(count, ...)` of images in the domain.
        y: Array `(count,)` of integer labels.
        eps: Radius in units of the images: a number, an array that broadcasts to one image, or one
            for each image, as for `certify`.
        steps: Gradient steps >= 0 of every run.
        restarts: Random starts >= 1 of every attack.
        targets: How many wrong classes the targeted attacks try, those with the largest margins
            at the image; by default nine, or all if there are fewer.
        seed: Whole number; the same seed gives the same points.
        batch_size: Images attacked at a time.
        progress: Called as `progress(done, total)` with numbers of runs of single images.
        domain: What values images may take: `(low, high)`, numbers or arrays that broadcast to one
            image; `None` for no bounds; or 'model', those that a model of certified training was
            trained for, [0, 1] for others.

    Returns:
        `(adversarial, robust, broken_by)`: the first two as `pgd_attack`; and an array of text
        that names the attack which broke each image, 'clean' if it was misclassified as it is,
        and '' if nothing broke it.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> x, y = np.zeros((4, 8, 8, 1)), np.zeros(4)
    >>> images, robust, broken_by = attack_suite(network, x, y, 0.1, steps=2)
    >>> bool(np.all((broken_by == "") == robust))
    True

    References:
        Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", 2020.
    """
    network, domain = network_and_domain(network, domain)
    check_count("restarts", restarts, low=1)
    classes = network.num_classes
    most = check_targets(min(_MOST_TARGETS, classes - 1) if targets is None else targets, classes)
    searchers = {
        "pgd": partial(maximise, sizes=step_sizes(steps)),
        "apgd": partial(auto_maximise, steps=steps),
    }
    stages = suite_stages(classes)
    search = ImageSearch(network, x, y, eps, seed, batch_size, domain)
    broken_by = np.where(search.robust, "", "clean").astype("U32")
    runs = [len(search.x) * restarts * (most if targeted else 1) for _, _, targeted in stages]
    for stream, (method, name, targeted) in enumerate(stages):
        search.run(
            searchers[method],
            image_objective(name, targeted, classes),
            most if targeted else 0,
            restarts,
            stream,
            _report(progress, sum(runs[:stream]), sum(runs)),
        )
        label = f"{method}-targeted-{name}" if targeted else f"{method}-{name}"
        broken_by[(broken_by == "") & ~search.robust] = label
    return search.images, search.robust, broken_by


def suite_stages(num_classes):
    """The attacks of the suite as a list of `(method, objective, targeted)`, in their order."""
    stages = [("pgd", "cross-entropy", False), ("pgd", "margin", False)]
    stages += [("apgd", "cross-entropy", False)]
    stages += [("apgd", "dlr" if num_classes > 2 else "margin", False)]
    if num_classes > 2:  # one wrong class alone is what the margin is about
        stages += [("pgd", "margin", True)]
        stages += [("apgd", "dlr" if num_classes > 3 else "margin", True)]
    return stages


def _report(progress, before, total):
    """`progress` of one attack as progress of all."""
    return progress and (lambda done, _: progress(before + done, total))

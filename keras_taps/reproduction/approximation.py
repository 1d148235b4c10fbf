"""Bounds on the worst-case margin against the exact one: Figures 1, 5, 6 and 9 of the paper.

Each bound of a network is computed as training computes it, in float32; the exact margin by mixed
integer programming, between the rigorous boxes of the float64 checker.
"""

import numpy as np
from keras import ops

from keras_taps.attacks import box_attack, margins_at
from keras_taps.attacks.latent import taps_margins
from keras_taps.bounds import ibp_margins, margin_rows
from keras_taps.files import write_atomically
from keras_taps.interval import input_box
from keras_taps.objectives import small_box
from keras_taps.reproduction.batches import over_batches
from keras_taps.reproduction.results import packed
from keras_taps.verification import Checker, exact_maximum, input_interval, read_network
from keras_taps.verification.graph.unsafe import margin_forms

STEPS, RESTARTS = 50, 3  # of the attacks, section 4.2 of the paper
RATIO = 0.4  # of SABR's box
RELUS = 1  # after the split
METHODS = ("IBP", "PGD", "SABR", "TAPS", "STAPS")
TIMEOUT = 600  # seconds of an exact search
GAP = 1e-6  # at which an exact search ends
_TOGETHER = 50  # images between two writes
_BINS = 81


def approximations(workshop, run):
    """Errors of the bounds of a network, and how far the latent attack takes bounds down.

    What is computed is kept in the run folder: the bounds in `approximation.npz`, the exact margins
    in `exact.npz`, a few images at a time.

    Returns:
        Dictionary: `errors`, for each bounding method the statistics of the paper's Figure 9 and a
        histogram; `differences`, for TAPS against IBP and STAPS against SABR the same;
        `exact_robust_accuracy` in [0, 1]; `count`; `open`, images whose exact margin is known less
        precisely than to 0.001; `exact_seconds`; `held`, which images are robust, as `packed`.
    """
    network = run.load_best().network
    x, y = workshop.images(run)
    eps, graph = run.recipe.eps, read_network(network)
    path, exact_path = run.path("approximation.npz"), run.path("exact.npz")
    if not path.exists() or len(np.load(path)["IBP"]) < len(x):
        _save(path, margin_bounds(network, x, y, eps))
    found = {name: array[: len(x)] for name, array in np.load(path).items()}
    exact = np.load(exact_path)["exact"] if exact_path.exists() else np.zeros((0, 3))
    with workshop.shown["images"]() as show:
        for start in range(len(exact), len(x), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            rows = exact_margins(graph, x[part], y[part], eps, found["adversarial"][part])
            exact = np.concatenate([exact, rows])
            _save(exact_path, {"exact": exact})
            if show:
                show(len(exact), len(x), "exact margins")
    return statistics({**found, "exact": exact[: len(x)]})


def _save(path, arrays):
    write_atomically(path, lambda temporary: np.savez_compressed(temporary, **arrays))


def margin_bounds(network, x, y, eps, seed=0, batch_size=250):
    """The largest margin of each image by each method, without the exact one.

    Args:
        network: `IntervalSequential`.
        x: Array `(count, ...)` of images.
        y: Array `(count,)` of labels.
        eps: Radius in pixel units.
        seed: Whole number for the random starts.
        batch_size: Images at a time.

    Returns:
        Dictionary from the names in `METHODS` to arrays `(count,)`, and `adversarial`: the images
        where PGD found its margins, `(count, ...)`.
    """
    segment = network.segment

    def bounds(images, labels, seed):
        box = input_box(images, eps)
        rows = margin_rows(segment.last, labels)
        points = box_attack(
            segment, box, labels, seed, STEPS, restarts=RESTARTS, estimator="single"
        )
        small = small_box(box, points[:, 0], RATIO)
        margins = (
            ibp_margins(network, box, labels),
            margins_at(segment, points, rows),
            ibp_margins(network, small, labels),
            taps_margins(network, box, labels, RELUS, seed, STEPS, RESTARTS),
            taps_margins(network, small, labels, RELUS, seed, STEPS, RESTARTS),
        )
        return (*(ops.max(each, axis=1) for each in margins), points[:, 0])

    columns = over_batches(bounds, network, x, y, batch_size, seed)
    return dict(zip((*METHODS, "adversarial"), columns, strict=True))


def exact_margins(graph, x, y, eps, adversarial, timeout=TIMEOUT):
    """The exact worst-case margin of each image.

    Args:
        graph: `Graph`.
        x: Array `(count, ...)` of images.
        y: Array `(count,)` of labels.
        eps: Radius in pixel units.
        adversarial: Array like `x`: images in the boxes from which the searches start.
        timeout: Seconds an image.

    Returns:
        Array `(count, 3)`: the margin reached by an image, an upper bound on all, and seconds.
    """
    checker, rows = Checker(graph), []
    for image, label, point in zip(x, y, adversarial, strict=True):
        box = input_interval(image, eps)
        forms = margin_forms(int(label), graph.outputs)
        offset = np.zeros(len(forms))
        bounds, boxes = checker.bounds_and_boxes(*box, forms, offset)
        start = np.clip(point.astype("float64"), *box)
        bracket = exact_maximum(
            graph, *box, forms, offset, boxes, bounds, start, timeout=timeout, gap=GAP
        )
        rows.append([bracket.value, bracket.bound, bracket.seconds])
    return np.array(rows)


def statistics(found):
    """What `approximations` returns, from its arrays."""
    exact, upper, seconds = found["exact"].T
    errors = {name: found[name] - exact for name in METHODS}
    differences = {
        "TAPS against IBP": found["IBP"] - found["TAPS"],
        "STAPS against SABR": found["SABR"] - found["STAPS"],
    }
    return {
        "errors": {
            name: {
                **_moments(error),
                "mean_abs_error": float(np.abs(error).mean()),
                "fraction_margin_below_0": float((found[name] < 0).mean()),
            }
            for name, error in errors.items()
        },
        "differences": {name: _moments(each) for name, each in differences.items()},
        "exact_robust_accuracy": float((upper < 0).mean()),
        "held": {"exact_robust_accuracy": packed(upper < 0)},
        "count": len(exact),
        "open": int((upper - exact > 1e-3).sum()),
        "exact_seconds": float(seconds.sum()),
    }


def _moments(values):
    low, high = np.percentile(values, [0.1, 99.9])
    counts, edges = np.histogram(values, _BINS, (low, high if high > low else low + 1))
    return {
        "mean_error": float(values.mean()),
        "std_error": float(values.std()),
        "histogram": {"low": float(edges[0]), "high": float(edges[-1]), "counts": counts.tolist()},
    }

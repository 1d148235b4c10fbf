"""What a recipe will cost: parameters, and seconds measured on a few steps of random images."""

import time

import keras
import numpy as np

from keras_taps.checks import check_count
from keras_taps.datasets import dataset_info
from keras_taps.experiments.build import build_model

_IMAGES = 8  # of a timed step; the time of a step is taken to grow with its images
_STEPS = 3


def steps_per_epoch(recipe, limit=None):
    """Training steps of an epoch of a `Recipe` on all images, or on `limit` of them."""
    if limit is not None:
        check_count("limit", limit, low=1)
    count = round(dataset_info(recipe.dataset).train_images * (1 - recipe.validation))
    count = count if limit is None else min(count, limit)
    return -(-count // recipe.batch_size)


def estimate_cost(recipe, limit=None):
    """Parameters, steps, and a rough time of training on this machine, without any data.

    Args:
        recipe: `Recipe`.
        limit: Number of training images, or `None` for all.

    Returns:
        Dictionary of `parameters`, `steps_per_epoch`, `annealing_step_s`, `main_step_s` (seconds
        of one step in each phase, of the slowest stage) and `total_s` (without validation and
        testing).
    """
    steps, total, slowest = steps_per_epoch(recipe, limit), 0.0, (0.0, 0.0)
    for stage in recipe.in_stages():
        each = stage.recipe
        model = build_model(each, steps, 0)
        annealing, main = times = _step_seconds(model, each)
        annealed = min(each.annealed_epoch, each.epochs)
        total += steps * (annealed * annealing + (each.epochs - annealed) * main)
        slowest = tuple(map(max, slowest, times))
    return {
        "parameters": model.network.count_params(),
        "steps_per_epoch": steps,
        "annealing_step_s": slowest[0],
        "main_step_s": slowest[1],
        "total_s": total,
    }


def _step_seconds(model, recipe):
    """Seconds of a step while the radius grows, and after that."""
    info = dataset_info(recipe.dataset)
    rng = np.random.default_rng(0)
    images = min(_IMAGES, recipe.batch_size)
    x = rng.random((images, *info.input_shape), dtype="float32")
    x = np.clip(x, *model.domain.limits).astype("float32")
    y = rng.integers(0, info.num_classes, images)
    found = []
    for last_step in (2**30, 0):
        model.set_annealing(0, last_step)
        times = []
        for _ in range(_STEPS):
            start = time.perf_counter()
            float(keras.ops.convert_to_numpy(model.train_on_batch(x, y)[0]))
            times.append(time.perf_counter() - start)
        found.append(min(times) * recipe.batch_size / images)
    return found

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
        of one step in each phase) and `total_s` (without validation and testing).
    """
    info, steps = dataset_info(recipe.dataset), steps_per_epoch(recipe, limit)
    model = build_model(recipe, steps, 0)
    rng = np.random.default_rng(0)
    images = min(_IMAGES, recipe.batch_size)
    x = rng.random((images, *info.input_shape), dtype="float32")
    x = np.clip(x, *model.domain.limits).astype("float32")
    y = rng.integers(0, info.num_classes, images)

    def seconds(last_step):
        model.set_annealing(0, last_step)
        times = []
        for _ in range(_STEPS):
            start = time.perf_counter()
            float(keras.ops.convert_to_numpy(model.train_on_batch(x, y)[0]))
            times.append(time.perf_counter() - start)
        return min(times) * recipe.batch_size / images

    annealing, main = seconds(2**30), seconds(0)
    annealed = min(recipe.annealed_epoch, recipe.epochs)
    return {
        "parameters": model.network.count_params(),
        "steps_per_epoch": steps,
        "annealing_step_s": annealing,
        "main_step_s": main,
        "total_s": steps * (annealed * annealing + (recipe.epochs - annealed) * main),
    }

"""Augmentation is deterministic, keeps pixels, and makes every flip and shift."""

import keras
import numpy as np
import pytest

from keras_taps.datasets import DATASETS, Augmentation, Batches, dataset_info
from tests.helpers import numbers


def shifts(image, result, pixels):
    """(flipped, down, right) for every shift of the edge-padded image that gives `result`."""
    found = []
    for flipped in (False, True):
        padded = np.pad(
            image[:, ::-1] if flipped else image, [(pixels, pixels)] * 2 + [(0, 0)], "edge"
        )
        for i in range(2 * pixels + 1):
            for j in range(2 * pixels + 1):
                part = padded[i : i + result.shape[0], j : j + result.shape[1]]
                if np.array_equal(part, result):
                    found.append((flipped, i - pixels, j - pixels))
    return found


def test_cifar_is_flipped_and_shifted_by_whole_pixels():
    """Crop 32 out of an edge padding of 2 pixels, uniformly, beside a fair flip."""
    augmentation = DATASETS["cifar10"].augmentation()
    image = numbers(32, 32, 3, low=0)
    results = augmentation(np.repeat(image[None], 256, axis=0), 0, 0, 0)
    found = [shifts(image, result, 2) for result in results]
    assert all(len(each) == 1 for each in found)
    found = [each[0] for each in found]
    assert 0.35 < np.mean([flipped for flipped, *_ in found]) < 0.65
    for axis in (1, 2):
        counts = np.bincount([each[axis] + 2 for each in found], minlength=5)
        assert np.all(np.abs(counts / 256 - 0.2) < 0.1)


def test_tiny_imagenet_is_a_crop_of_the_image_itself():
    augmentation = DATASETS["tiny_imagenet"].augmentation()
    image = numbers(64, 64, 3, low=0)
    results = augmentation(np.repeat(image[None], 64, axis=0), 0, 0, 0)
    assert results.shape == (64, 56, 56, 3)
    places = []
    for result in results:
        for flipped in (False, True):
            source = image[:, ::-1] if flipped else image
            places += [
                (i, j)
                for i in range(9)
                for j in range(9)
                if np.array_equal(source[i : i + 56, j : j + 56], result)
            ]
    assert len(places) == 64
    assert {min(p) for p in zip(*places, strict=True)} == {0}
    assert {max(p) for p in zip(*places, strict=True)} == {8}


def test_the_key_decides():
    augmentation = dataset_info("cifar10").augmentation()
    x = numbers(8, 32, 32, 3, low=0)
    first = augmentation(x, 0, 1, 2)
    other = augmentation(x, 0, 1, 3)
    assert not np.array_equal(first, other)
    assert np.array_equal(augmentation(x, 0, 1, 2), first)


def test_batches_augment_the_same_after_a_resume():
    x, y = numbers(16, 32, 32, 3, low=0), np.arange(16)
    make = dataset_info("cifar10").augmentation
    whole = Batches(x, y, 8, seed=3, epoch=0, transform=make())
    seen = []
    for _ in range(2):
        whole.on_epoch_begin()
        seen.append([whole[i] for i in range(2)])
        whole.on_epoch_end()
    resumed = Batches(x, y, 8, seed=3, epoch=1, transform=make())
    for (a, _), (b, _) in zip(seen[1], [resumed[i] for i in range(2)], strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(seen[0][0][0], seen[1][0][0])


def test_pixels_stay_in_range():
    """Even with layers that interpolate or brighten."""
    augmentation = Augmentation(
        [keras.layers.RandomRotation(0.1), keras.layers.RandomBrightness(0.5, (0.0, 1.0))]
    )
    found = augmentation(numbers(4, 8, 8, 3, low=0), 0)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist"])
def test_digits_are_not_flipped(name):
    assert dataset_info(name).augmentation is None

"""Data sets as arrays in [0, 1], split and batched reproducibly."""

from keras_taps.datasets.augmentation import Augmentation
from keras_taps.datasets.batches import Batches
from keras_taps.datasets.catalogue import (
    DATASETS,
    Dataset,
    DatasetInfo,
    dataset_info,
    load,
    read_test_images,
)

__all__ = [
    "DATASETS",
    "Augmentation",
    "Batches",
    "Dataset",
    "DatasetInfo",
    "dataset_info",
    "load",
    "read_test_images",
]

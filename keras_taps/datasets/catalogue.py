"""The data sets by name, and the split into train, validation and test arrays."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_taps.checks import check_real, check_seed, did_you_mean
from keras_taps.datasets.augmentation import Augmentation, flip_and_shift
from keras_taps.datasets.batches import Batches
from keras_taps.datasets.sources import load_digits, read_splits, read_tiny_imagenet, tfds_source
from keras_taps.domain import UNIT, Domain
from keras_taps.typing import StrPath


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before it is loaded.

    Args:
        name: Name for `load`.
        input_shape: `(height, width, channels)`.
        num_classes: Number of labels.
        mean: Mean of the training pixels, one a channel.
        std: Their standard deviation, one a channel.
        train_images: Number of training images, validation included.
        source: Where it comes from.
        read: Function of `(data_dir, download)` that returns uint8 or float arrays
            `((x_train, y_train), (x_test, y_test))`.
        augmentation: Function of no arguments that returns the `Augmentation` of its training
            images, or `None` if it has none.
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_images: int
    source: str
    read: Callable[..., Any]
    augmentation: Callable[[], Augmentation] | None = None


DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            "digits",
            (8, 8, 1),
            10,
            (0.3053,),
            (0.3763,),
            1437,
            "UCI, in the package",
            load_digits,
        ),
        DatasetInfo(
            "mnist",
            (28, 28, 1),
            10,
            (0.1307,),
            (0.3081,),
            60000,
            "TFDS mnist",
            tfds_source("mnist"),
        ),
        DatasetInfo(
            "fashion_mnist",
            (28, 28, 1),
            10,
            (0.2860,),
            (0.3530,),
            60000,
            "TFDS fashion_mnist",
            tfds_source("fashion_mnist"),
        ),
        DatasetInfo(
            "cifar10",
            (32, 32, 3),
            10,
            (0.4914, 0.4822, 0.4465),
            (0.2023, 0.1994, 0.2010),
            50000,
            "TFDS cifar10",
            tfds_source("cifar10"),
            partial(flip_and_shift, 2, 32),
        ),
        DatasetInfo(
            "tiny_imagenet",
            (56, 56, 3),
            200,
            (0.4802, 0.4481, 0.3975),
            (0.2302, 0.2265, 0.2262),
            100000,
            "official archive, by TFDS",
            read_tiny_imagenet,
            partial(flip_and_shift, 4, 64, 56),
        ),
    )
}


@dataclass(frozen=True)
class Dataset:
    """Arrays of one data set, images float32 in their domain and labels int32.

    Args:
        info: `DatasetInfo`.
        train: `(x, y)`, images `(count, height, width, channels)` and labels `(count,)`. Those of
            'tiny_imagenet' are larger than `info.input_shape`: `train_batches` crops them.
        validation: `(x, y)` held out from the training images; empty if none was asked for.
        test: `(x, y)`.
    """

    info: DatasetInfo
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    def train_batches(
        self, batch_size: int, seed: int = 0, epoch: int = 0, augment: bool = True
    ) -> Batches:
        """The training images as `Batches`, augmented as the field does for this data set.

        Args:
            batch_size: Images a batch.
            seed: Whole number that decides order and augmentation.
            epoch: Epoch to begin with.
            augment: Whether to augment; if not, images are only cropped to `info.input_shape`.
        """
        x, y = self.train
        make = self.info.augmentation
        if not augment:
            x = centre_crop(x, self.info.input_shape)
        transform = make() if make and augment else None
        return Batches(x, y, batch_size, seed=seed, epoch=epoch, transform=transform)

    def limited(self, count: int | None) -> "Dataset":
        """This data set with at most `count` images of each split; `None` for all."""
        splits = (self.train, self.validation, self.test)
        return Dataset(self.info, *((x[:count], y[:count]) for x, y in splits))


def centre_crop(x, input_shape):
    """The middle `input_shape` of images `(count, height, width, channels)`; rows are whole."""
    if x.shape[1:] == tuple(input_shape):
        return x
    top, left = (
        (have - want) // 2 for have, want in zip(x.shape[1:], input_shape[:2], strict=False)
    )
    return x[:, top : top + input_shape[0], left : left + input_shape[1]]


def dataset_info(name: StrPath) -> DatasetInfo:
    """`DatasetInfo` of a data set by name, or of an `.npz` file of the user's.

    Raises:
        ValueError: If there is no such data set, the message suggests the nearest name; or if the
            file does not hold one.
        FileNotFoundError: If there is no such file.
    """
    if str(name).endswith(".npz"):
        return _file_info(str(name), _changed(name))
    if name not in DATASETS:
        raise ValueError(
            f"`dataset` must be one of {', '.join(map(repr, DATASETS))}, or an .npz file. "
            f"Received: {name!r}.{did_you_mean(name, DATASETS)}"
        )
    return DATASETS[name]


def _changed(path):
    """When a file was changed last, so that what was read of it is read again."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    return Path(path).stat().st_mtime_ns


@lru_cache(maxsize=8)
def _file_info(path, changed):
    """`DatasetInfo` of an `.npz` file with `x_train`, `y_train`, `x_test` and `y_test`."""
    x, y = read_splits(path)[0]
    floats, y = _as_floats(x, y)
    Domain.of(None).check(floats, "x_train")
    channels = tuple(range(floats.ndim - 1))
    return DatasetInfo(
        path,
        x.shape[1:],
        int(y.max()) + 1,
        tuple(floats.mean(channels, dtype="float64").round(4).tolist()),
        tuple(np.maximum(floats.std(channels, dtype="float64"), 1e-3).round(4).tolist()),
        len(x),
        "a file of your own",
        lambda data_dir=None, download=False: read_splits(path),
    )


def load(
    name: StrPath,
    data_dir: StrPath | None = None,
    validation: float = 0.1,
    seed: int = 0,
    download: bool = False,
    domain: Any = UNIT,
) -> Dataset:
    """Load a data set into memory and hold out a validation split.

    Args:
        name: 'digits', 'mnist', 'fashion_mnist', 'cifar10' or 'tiny_imagenet'; or the path of an
            `.npz` file with arrays `x_train`, `y_train`, `x_test` and `y_test`: images of uint8
            or in the domain, `(count, height, width)` or with a last axis of channels, or rows
            `(count, features)`; and labels.
        data_dir: Folder of TFDS data sets; by default the variable TFDS_DATA_DIR, else
            `~/tensorflow_datasets`. 'digits' needs none.
        validation: Share in [0, 1) of the training images to hold out, drawn at random.
        seed: Whole number that draws the validation split.
        download: Whether TFDS may download what is missing.
        domain: What values the inputs of a file may take, as for `input_box`.

    Returns:
        `Dataset`.

    Raises:
        ValueError: If the name or a number is out of range.
        FileNotFoundError: If the data is not there; the message says how to get it.

    Example:

    >>> data = load("digits")
    >>> data.train[0].shape[1:], len(data.test[0])
    ((8, 8, 1), 360)
    """
    info = dataset_info(name)
    share = check_real("validation", validation, 0, 1)
    if share == 1:
        raise ValueError("`validation` must leave images to train on. Received: validation=1")
    (x, y), test = info.read(data_dir, download)
    if name not in DATASETS:
        domain = Domain.of(domain).fitted(info.input_shape)
        for split, part in {"x_train": x, "x_test": test[0]}.items():
            domain.check(_as_floats(part, y)[0], split)
    order = np.random.default_rng(check_seed(seed)).permutation(len(x))
    held_out = round(share * len(x))
    parts = order[held_out:], order[:held_out]
    train, held = (_as_floats(x[np.sort(part)], y[np.sort(part)]) for part in parts)
    held, test = ((centre_crop(x, info.input_shape), y) for x, y in (held, _as_floats(*test)))
    return Dataset(info, train, held, test)


def read_test_images(
    name: StrPath, data_dir: StrPath | None = None, domain: Any = UNIT
) -> tuple[np.ndarray, np.ndarray]:
    """Test images and labels of a data set, or of a file of your own.

    Args:
        name: Name of a data set as for `load`, or the path of an `.npz` file with arrays `x`,
            inputs of uint8 or in the domain, and `y`, labels; or with the arrays that `load` takes.
        data_dir: Folder of TFDS data sets.
        domain: What values the inputs of a file may take, as for `input_box`.

    Returns:
        Arrays `(count, ...)` of float32 and `(count,)`.

    Raises:
        ValueError: If there is no such data set, or the file does not have these arrays.
        FileNotFoundError: If the data is not there.
    """
    if not str(name).endswith(".npz"):
        return load(name, data_dir).test
    if not Path(name).is_file():
        raise FileNotFoundError(f"There is no file '{name}'.")
    try:
        with np.load(name) as file:
            if "x_test" in file:
                return load(name, domain=domain).test
            x, y = file["x"], file["y"]
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"'{name}' must hold the arrays `x`, images, and `y`, labels, as "
            f"numpy.savez(path, x=x, y=y) writes them ({error})."
        ) from error
    x, y = _as_floats(x, y)
    Domain.of(domain).fitted(x.shape[1:]).check(x)
    return x, y


def _as_floats(x, y):
    floats = x.astype("float32")
    if x.dtype == np.uint8:
        floats /= np.float32(255)  # in place: TinyImageNet takes 5 GB
    whole = np.issubdtype(y.dtype, np.integer)  # of other labels the message is still to come
    return floats, y.astype("int32") if whole else y

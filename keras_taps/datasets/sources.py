"""Where the arrays come from: the digits beside this file, TensorFlow Datasets, `.npz` files."""

import os
import zipfile
from pathlib import Path

import numpy as np

_NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load_digits(data_dir=None, download=False):
    """1797 handwritten 8 x 8 digits (Alpaydin, Kaynak); a fixed fifth of each class is test.

    Args:
        data_dir: Not used.
        download: Not used.

    References:
        `digits.LICENSE.md` beside the file.
    """
    splits = read_npz(Path(__file__).with_name("digits.npz"))
    return tuple(((x / 16).astype("float32"), y.astype("int64")) for x, y in splits)


def tfds_source(name):
    """Reader of a TFDS image data set with the splits 'train' and 'test'.

    A file `NAME.npz` in the folder, with the arrays of Keras' own `mnist.npz`, comes first: it is
    read without TensorFlow.
    """

    def read(data_dir=None, download=False):
        folder = _folder(data_dir)
        path = Path(folder) / f"{name}.npz"
        if path.is_file():
            return read_npz(path)
        tfds = _import_tfds(name)
        builder = tfds.builder(name, data_dir=folder)
        if not download and not builder.data_path.exists():
            raise _missing(name, folder)
        return _arrays(builder, tfds)

    return read


def read_tiny_imagenet(data_dir=None, download=False):
    """Reader of TinyImageNet; the official archive, if it lies in the folder, is prepared once."""
    tfds, folder = _import_tfds("tiny_imagenet"), _folder(data_dir)
    from keras_taps.datasets.tiny_imagenet import ARCHIVE, TinyImagenet, find_archive

    builder = TinyImagenet(data_dir=folder)
    builder.archive = find_archive(folder)
    if not builder.data_path.exists() and builder.archive is None and not download:
        hint = f" Put the official archive {ARCHIVE} into that folder, or set"
        raise _missing("tiny_imagenet", folder, hint)
    return _arrays(builder, tfds)


def read_npz(path):
    """`read_splits` of a file as Keras' `mnist.npz`, whose images are of uint8."""
    splits = read_splits(path)
    for x, y in splits:
        if x.dtype != np.uint8:
            raise _not_npz(path, f"images {x.dtype} {x.shape}, labels {y.dtype} {y.shape}")
    return splits


def read_splits(path):
    """Arrays `((x_train, y_train), (x_test, y_test))` of an `.npz` file.

    Args:
        path: File with inputs `x_train` and `x_test`, uint8 or float: images `(count, height,
            width)` or with a last axis of channels, or rows `(count, features)`; and labels
            `y_train` and `y_test`.

    Raises:
        ValueError: If it does not hold these arrays.
    """
    try:
        with np.load(path) as file:
            arrays = [file[name] for name in _NPZ_ARRAYS]
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise _not_npz(path, error) from error
    splits = []
    for x, y in (arrays[:2], arrays[2:]):
        kinds = x.dtype == np.uint8 or x.dtype.kind == "f", y.dtype.kind in "iu" and len(y) > 0
        if not all(kinds) or x.ndim not in (2, 3, 4) or y.shape != x.shape[:1]:
            raise _not_npz(path, f"images {x.dtype} {x.shape}, labels {y.dtype} {y.shape}")
        splits.append((x[..., None] if x.ndim == 3 else x, y))
    return tuple(splits)


def _not_npz(path, reason):
    return ValueError(
        f"'{path}' must hold the arrays {', '.join(_NPZ_ARRAYS)}: images of uint8 (or, of your "
        f"own, floats), a label each. Received: {reason}"
    )


def _import_tfds(name):
    # Imported here: TFDS imports TensorFlow, which JAX and PyTorch users need only now.
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            f"The data set {name!r} is read with TensorFlow Datasets: "
            "pip install tensorflow tensorflow-datasets; or put it as "
            f"{name}.npz, with the arrays {', '.join(_NPZ_ARRAYS)}, into the data folder"
        ) from error
    return tensorflow_datasets


def _folder(data_dir):
    return os.path.expanduser(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    )


def _missing(name, folder, hint=" Set"):
    return FileNotFoundError(
        f"Data set {name!r} is not in {folder!r}.{hint} TFDS_DATA_DIR or pass `data_dir` "
        f"(--data-dir) with a folder that holds {name}/<version>/, or download it once: "
        f"keras-taps datasets --download {name}"
    )


def _arrays(builder, tfds):
    # Asking Google's storage for a prepared copy needs the network even for what is here.
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
        splits = (builder.as_dataset(split=split, batch_size=-1) for split in ("train", "test"))
        return tuple((np.asarray(split["image"]), np.asarray(split["label"])) for split in splits)
    except Exception as error:
        raise ValueError(
            f"Data set {builder.name!r} could not be prepared in '{builder.data_path}': {error}"
        ) from error

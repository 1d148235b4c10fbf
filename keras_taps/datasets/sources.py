"""Where the arrays come from: scikit-learn's embedded digits and TensorFlow Datasets."""

import os

import numpy as np


def load_digits(data_dir=None, download=False):
    """The 1797 real 8 x 8 digits that scikit-learn ships; a fixed fifth of each class is test.

    Args:
        data_dir: Not used.
        download: Not used.
    """
    import sklearn.datasets
    import sklearn.model_selection

    x, y = sklearn.datasets.load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")
    x_train, x_test, y_train, y_test = sklearn.model_selection.train_test_split(
        x, y, test_size=0.2, random_state=0, stratify=y
    )
    return (x_train, y_train), (x_test, y_test)


def tfds_source(name):
    """Reader of a TFDS image data set with the splits 'train' and 'test'."""

    def read(data_dir=None, download=False):
        # Imported here: TFDS imports TensorFlow, which JAX and PyTorch users need only now.
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise ImportError(
                f"The data set {name!r} is read with TensorFlow Datasets: "
                "pip install tensorflow tensorflow-datasets"
            ) from error

        folder = os.path.expanduser(
            data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
        )
        try:
            builder = tfds.builder(name, data_dir=folder)
            if not download and not builder.data_path.exists():
                raise FileNotFoundError(str(builder.data_path))
            builder.download_and_prepare()
        except Exception as error:
            raise FileNotFoundError(
                f"Data set {name!r} is not in {folder!r} ({error}). Set TFDS_DATA_DIR or pass "
                f"`data_dir` (--data-dir) with a folder that holds {name}/<version>/, or download "
                f"it once: keras-taps datasets --download {name}"
            ) from error
        splits = (builder.as_dataset(split=split, batch_size=-1) for split in ("train", "test"))
        return tuple((np.asarray(split["image"]), np.asarray(split["label"])) for split in splits)

    return read

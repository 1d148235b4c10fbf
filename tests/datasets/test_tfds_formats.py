"""CIFAR-10 and TinyImageNet from small data in the format of the official archives."""

import io
import zipfile
from unittest import mock

import numpy as np
import pytest

from keras_taps.datasets import load
from tests.helpers import BACKEND

tfds = pytest.importorskip("tensorflow_datasets")
pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="TFDS reads alike on all backends")


def jpeg(value):
    import tensorflow as tf

    return tf.io.encode_jpeg(np.full((64, 64, 3), value, "uint8"), quality=100).numpy()


@pytest.fixture
def archive(tmp_path):
    """A folder with an archive of 3 classes, 4 training and 2 validation images each."""
    wnids = ["n03", "n01", "n02"]
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as file:
        root = "tiny-imagenet-200"
        file.writestr(f"{root}/wnids.txt", "\n".join(wnids))
        lines = []
        for number, wnid in enumerate(sorted(wnids)):
            for i in range(4):
                name = f"{root}/train/{wnid}/images/{wnid}_{i}.JPEG"
                file.writestr(name, jpeg(10 * number))
            for i in range(2):
                name = f"val_{2 * number + i}.JPEG"
                file.writestr(f"{root}/val/images/{name}", jpeg(100 + 10 * number))
                lines.append(f"{name}\t{wnid}\t0\t0\t62\t62")
            file.writestr(f"{root}/test/images/test_{number}.JPEG", jpeg(200))
        file.writestr(f"{root}/val/val_annotations.txt", "\n".join(lines) + "\n")
    return tmp_path


def test_tiny_imagenet(archive):
    data = load("tiny_imagenet", data_dir=archive, validation=0.25)
    assert data.train[0].shape == (9, 64, 64, 3)
    assert data.validation[0].shape == (3, 56, 56, 3)
    assert data.test[0].shape == (6, 56, 56, 3)
    for (x, y), base in ((data.train, 0), (data.validation, 0), (data.test, 100)):
        means = 255 * x.mean((1, 2, 3))
        assert np.all(np.abs(means - base - 10 * y) < 2)
    assert sorted(data.test[1]) == [0, 0, 1, 1, 2, 2]
    batch, _ = data.train_batches(4)[0]
    assert batch.shape == (4, 56, 56, 3)
    plain, _ = data.train_batches(4, augment=False)[0]
    assert plain.shape == (4, 56, 56, 3)


def test_tiny_imagenet_is_prepared_once(archive):
    first = load("tiny_imagenet", data_dir=archive)
    (archive / "tiny-imagenet-200.zip").unlink()
    again = load("tiny_imagenet", data_dir=archive)
    assert np.array_equal(first.train[0], again.train[0])


def test_tiny_imagenet_says_where_the_archive_goes(tmp_path):
    with pytest.raises(FileNotFoundError, match="Put the official archive tiny-imagenet"):
        load("tiny_imagenet", data_dir=tmp_path)


def test_broken_archive(tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"could not be prepared.*not a zip file"):
        load("tiny_imagenet", data_dir=tmp_path)


def test_cifar10(tmp_path):
    """Records of one label byte and 3 x 32 x 32 bytes, plane by plane."""
    rng = np.random.default_rng(0)
    source = tmp_path / "source" / "cifar-10-batches-bin"
    source.mkdir(parents=True)
    (source / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n")
    kept = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        labels, planes = rng.integers(0, 10, 4), rng.integers(0, 256, (4, 3, 32, 32), "uint8")
        stream = io.BytesIO()
        for label, plane in zip(labels, planes, strict=True):
            stream.write(bytes([label]) + plane.tobytes())
        (source / f"{name}.bin").write_bytes(stream.getvalue())
        kept[name] = labels, planes.transpose(0, 2, 3, 1)
    manager = "tensorflow_datasets.download.DownloadManager.download_and_extract"
    with mock.patch(manager, return_value=str(source.parent)):
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        builder = tfds.builder("cifar10", data_dir=tmp_path / "data")
        builder.download_and_prepare(download_config=config)
    data = load("cifar10", data_dir=tmp_path / "data", validation=0)
    assert data.train[0].shape == (20, 32, 32, 3)
    labels, pixels = kept["test_batch"]
    expected = {(int(y), x.tobytes()) for y, x in zip(labels, pixels, strict=True)}
    found = {
        (int(y), np.round(255 * x).astype("uint8").tobytes())
        for x, y in zip(*data.test, strict=True)
    }
    assert found == expected

"""TinyImageNet as a TFDS data set, built from the official archive."""

import io
import zipfile
from pathlib import Path

import tensorflow_datasets as tfds

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
ARCHIVE = "tiny-imagenet-200.zip"
_ROOT = "tiny-imagenet-200/"


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """200 classes of ImageNet at 64 x 64 pixels: 500 training and 50 labelled validation images.

    The labelled validation images are the test split, as in all published results; the labels of
    the archive's own test images are not public. Reads the archive at `archive`, or downloads it.

    References:
        Le and Yang, "Tiny ImageNet Visual Recognition Challenge", 2015.
    """

    VERSION = tfds.core.Version("1.0.0")
    archive = None

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=200),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        path = self.archive or dl_manager.download(URL)
        return {
            "train": self._generate_examples(path, "train"),
            "test": self._generate_examples(path, "val"),
        }

    def _generate_examples(self, path, folder):
        with zipfile.ZipFile(path) as archive:
            wnids = sorted(archive.read(_ROOT + "wnids.txt").decode().split())
            label = {wnid: index for index, wnid in enumerate(wnids)}
            if folder == "val":
                lines = archive.read(_ROOT + "val/val_annotations.txt").decode().splitlines()
                classes = dict(line.split("\t")[:2] for line in lines if line)
            for name in archive.namelist():
                parts = name.split("/")
                if not name.endswith(".JPEG") or parts[1] != folder:
                    continue
                wnid = classes[parts[-1]] if folder == "val" else parts[2]
                image = io.BytesIO(archive.read(name))
                yield parts[-1], {"image": image, "label": label[wnid]}


def find_archive(folder):
    """The archive in a folder of data sets, where a user puts it: there, or where TFDS looks."""
    for place in (Path(folder), Path(folder) / "downloads" / "manual"):
        if (place / ARCHIVE).is_file():
            return place / ARCHIVE
    return None

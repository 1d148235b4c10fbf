"""What a command works on: a run folder or a model file, and test images for it."""

from functools import cached_property
from pathlib import Path

import numpy as np
import typer

from keras_taps.checks import check_count
from keras_taps.domain import Domain, check_radius, radius_text

DOMAIN = typer.Option(
    None,
    "--domain",
    help="What values inputs may take: LOW,HIGH, or none for no bounds. Default: the model's own, "
    "or 0,1.",
)


class Target:
    """A model that can be certified or attacked.

    Args:
        path: Run folder, or a `.keras` file of any model that `certify` takes.
        dataset: Name of a data set, or an `.npz` file; a run folder knows its own.
        domain: Text of `--domain`: what values inputs may take; by default the model knows.

    Raises:
        FileNotFoundError: If there is no such run or file.
        ValueError: If it cannot be loaded.
    """

    def __init__(self, path, dataset=None, domain=None):
        from keras_taps.experiments.run import Run, load_model

        self.path = Path(path)
        self.run = Run.open(path) if self.path.is_dir() else None
        self.model = self.run.load_best() if self.run else load_model(path)
        self.dataset = dataset or (self.run.recipe.dataset if self.run else None)
        self._domain = "model" if domain is None else domain

    @cached_property
    def _read(self):
        from keras_taps.networks.load import network_and_domain

        return network_and_domain(self.model, self._domain)

    @property
    def network(self):
        """`IntervalSequential` of the model."""
        return self._read[0]

    @property
    def domain(self):
        """`Domain` of its inputs."""
        return self._read[1]

    @property
    def name(self):
        """Name for files that are made of it, without an ending."""
        return self.path.resolve().name if self.run else self.path.stem

    def folder(self):
        """Where files go by default: into the run folder, else into the working folder."""
        return self.path if self.run else Path()

    def radii(self, found):
        """`found`, or the model's own radius as a list if it is `None`.

        Raises:
            ValueError: If there is none, or one is larger than the domain is wide.
        """
        own = getattr(self.model, "eps", None)
        if found is None and own is None:
            raise ValueError(
                "A model without a radius of its own needs --eps RADIUS. Received: no --eps"
            )
        found = [own] if found is None else found
        return [check_radius("eps", eps, self.domain) for eps in found]

    def images(self, limit=None, data_dir=None):
        """Test images and labels, the first `limit` of them."""
        if self.dataset is None:
            raise ValueError(
                "A .keras file needs --dataset, a name or an .npz file. Received: no --dataset"
            )
        from keras_taps.datasets import read_test_images

        return tuple(part[:limit] for part in read_test_images(self.dataset, data_dir, self.domain))


def parse_radii(text, domain=None):
    """List of radii from text such as "0.1", "2/255" or "0.05,0.1", or of an array in a file.

    Args:
        text: Of `--eps`; `None` stays `None`.
        domain: Of `--domain`; without it only the model will know how large a radius may be.

    Example:

    >>> parse_radii("0.05, 51/255")
    [0.05, 0.2]
    """
    known = Domain.of("none" if domain is None else domain)
    if text is None:
        return None
    if text.endswith(".npy"):
        return [check_radius("eps", read_radius(text), known)]
    return list(dict.fromkeys(check_radius("eps", part, known) for part in text.split(",")))


def read_radius(text):
    """What an option says of a radius: the array of an `.npy` file, or the text itself."""
    if not text.endswith(".npy"):
        return text
    try:
        return np.load(text, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"--eps must be a radius or an .npy file of radii. Received: {error}"
        ) from error


def parse_one_radius(text, domain=None):
    """The one radius in a text, in a list; `None` stays `None`."""
    found = parse_radii(text, domain)
    if found is not None and len(found) > 1:
        raise ValueError(f"--eps takes one radius here. Received: --eps {text}")
    return found


def radius_name(eps):
    """A radius as part of a file name.

    Example:

    >>> radius_name(0.1), radius_name(2 / 255)
    ('0.1', '2_255')
    """
    if np.ndim(eps):
        return radius_text(eps).replace(" ", "-")
    steps = round(eps * 255)
    return f"{steps}_255" if eps == steps / 255 and len(str(eps)) > 6 else str(eps)


def check_limit(limit):
    """Raise `ValueError` unless a limit is `None` or at least 1."""
    if limit is not None:
        check_count("limit", limit, low=1)

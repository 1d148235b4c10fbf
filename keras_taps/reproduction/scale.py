"""At which size the paper is reproduced: its own, or one that two CPU cores can do."""

from dataclasses import dataclass, field, replace
from functools import cache

from keras_taps import networks
from keras_taps.checks import check_count
from keras_taps.datasets import dataset_info
from keras_taps.experiments.recipe import Recipe

PAPER_STEPS = 20  # of the latent attack


@dataclass(frozen=True)
class Scale:
    """A rule that turns the recipes of the paper into those that are trained.

    Args:
        name: Name for the command line.
        text: What it changes, in a sentence; of the test images, records themselves tell.
        epochs: Share in (0, 1] of the paper's epochs, at which all times of a recipe shrink.
        network: `(name, width)` in place of CNN7; other networks stay. `None` changes none.
        attack_steps: Steps of the latent attack in place of the paper's 20. Rows that set their
            own steps keep them, but those of more than 20 are left out.
        changes: Further fields of every recipe.
        limit: Number of images taken of each split, or `None` for all.
        images: Number of test images that are certified, the first ones; `None` for all.
        timeout: Seconds of certification an image.
        more: Further options of the command that chooses it.
    """

    name: str
    text: str
    epochs: float = 1.0
    network: tuple | None = None
    attack_steps: int | None = None
    changes: dict = field(default_factory=dict)
    limit: int | None = None
    images: int | None = None
    timeout: float = 1000.0
    more: str = ""

    def with_images(self, images: int) -> "Scale":
        """The same scale with another number of certified test images.

        TFDS orders MNIST and CIFAR-10 by hashes, so their first images are a random sample.

        Example:

        >>> SCALES["full"].with_images(1000).command
        '--scale full --images 1000'
        """
        check_count("images", images, low=1)
        return replace(self, images=images, more=f" --images {images}")

    @property
    def command(self) -> str:
        """The options of `keras-taps reproduce` that choose this scale."""
        return f"--scale {self.name}{self.more}"

    def recipe(self, recipe: Recipe) -> Recipe | None:
        """A recipe of the paper at this scale.

        Args:
            recipe: `Recipe` at full scale.

        Returns:
            `Recipe`, or `None` if the scale leaves such a row out: a split that its network does
            not have, or an attack of more than 20 steps.

        Example:

        >>> SCALES["cpu"].recipe(recipe("mnist-0.1-taps")).epochs
        10
        """
        changes = dict(self.changes)
        if self.network and recipe.network == "cnn7":
            network, width = self.network
            changes |= {"network": network, "width": width, "network_options": {}}
        if self.attack_steps and recipe.method in ("taps", "staps"):
            if recipe.options.get("attack_steps", 0) > PAPER_STEPS:
                return None
            changes |= {"attack_steps": self.attack_steps} | recipe.options
        scaled = recipe.changed(**changes)
        if (scaled.classifier_relus or 0) > _relus(scaled.network, scaled.dataset):
            return None
        epochs = max(1, round(self.epochs * recipe.epochs))
        return scaled if epochs == recipe.epochs else scaled.scaled(epochs)


@cache
def _relus(network, dataset):
    """ReLUs of a network, which do not depend on its width."""
    info = dataset_info(dataset)
    return getattr(networks, network)(info.input_shape, info.num_classes, width=1).relus


SCALES = {
    scale.name: scale
    for scale in (
        Scale("full", "The networks and epochs of the paper."),
        Scale(
            "cpu",
            "CNN5 of width 4 in place of CNN7 of width 64, a seventh of the epochs on 10 000 "
            "training images, in batches of 32 at learning rate 0.005, and 8 steps of the latent "
            "attack in place of 20 where a row does not say.",
            epochs=1 / 7,
            network=("cnn5", 4),
            attack_steps=8,
            # Few images need small batches and long steps; 2 % are enough to choose an epoch by.
            changes={"batch_size": 32, "learning_rate": 0.005, "validation": 0.02},
            limit=10_000,
            images=1000,
            timeout=10.0,
        ),
        Scale(
            "smoke",
            "One epoch of 256 images on a tiny network: shows that everything runs, and its "
            "figures mean nothing.",
            epochs=0.001,
            network=("cnn5", 1),
            attack_steps=1,
            limit=256,
            images=8,
            timeout=2.0,
        ),
    )
}

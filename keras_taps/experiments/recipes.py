"""Named settings as data: what to train, on what, how long, and where the figures come from."""

import difflib
from dataclasses import asdict, dataclass, replace

from keras_taps.checks import check_choice, check_count, check_radius, check_real
from keras_taps.datasets import dataset_info

METHODS = ("ibp", "taps")
NETWORKS = ("cnn3", "cnn5", "cnn7", "resnet")


@dataclass(frozen=True)
class Recipe:
    """One training run, complete but for its seed.

    Args:
        name: Name for `recipe` and the command line.
        source: Where the settings come from.
        dataset: Name of a data set.
        method: 'ibp' or 'taps'.
        eps: Radius of the evaluation, pixel units.
        train_eps: Final radius of the training, pixel units.
        network: 'cnn3', 'cnn5', 'cnn7' or 'resnet'.
        width: Width of the network.
        epochs: Passes over the training images.
        anneal_epochs: Epochs over which the radius grows from 0.
        decay_epochs: Epochs after which the learning rate is multiplied by `decay`.
        batch_size: Images a step.
        learning_rate: Initial learning rate of Adam.
        decay: Factor in (0, 1].
        clipnorm: Global gradient norm at which gradients are clipped.
        l1: Published L1 coefficient; it multiplies the sum of absolute kernel entries divided by
            the number of affine layers.
        warmup_weight: Weight of the warm-up regulariser.
        validation: Share of the training images held out to choose the best epoch.
        classifier_relus: ReLUs behind the split.
        w_taps: Weight of the TAPS gradient.
        gradient_scale: Factor of the TAPS gradient, as `TAPSModel`.
        c: Connector parameter.
        attack_steps: Steps of the latent attack.
    """

    name: str
    source: str
    dataset: str
    method: str
    eps: float
    train_eps: float
    network: str = "cnn7"
    width: int = 64
    epochs: int = 70
    anneal_epochs: float = 20
    decay_epochs: tuple = (50, 60)
    batch_size: int = 256
    learning_rate: float = 5e-4
    decay: float = 0.2
    clipnorm: float = 10.0
    l1: float = 0.0
    warmup_weight: float = 0.5
    validation: float = 0.1
    classifier_relus: int = 1
    w_taps: float = 5.0
    gradient_scale: float = 1.0
    c: float = 0.5
    attack_steps: int = 20

    def __post_init__(self):
        dataset_info(self.dataset)
        check_choice("method", self.method, METHODS)
        check_choice("network", self.network, NETWORKS)
        check_radius("eps", self.eps)
        check_radius("train_eps", self.train_eps)
        for name in ("width", "epochs", "batch_size"):
            check_count(name, getattr(self, name), low=1)
        check_real("anneal_epochs", self.anneal_epochs, 0, float("inf"))
        for name in ("learning_rate", "clipnorm"):
            check_real(name, getattr(self, name), 0, float("inf"), low_open=True)

    def scaled(self, epochs):
        """This recipe with all its times shrunk or stretched to `epochs` epochs."""
        share = check_count("epochs", epochs, low=1) / self.epochs
        return replace(
            self,
            epochs=epochs,
            anneal_epochs=self.anneal_epochs * share,
            decay_epochs=tuple(epoch * share for epoch in self.decay_epochs),
        )

    def to_config(self):
        """Plain dictionary, for JSON."""
        return asdict(self)

    @classmethod
    def from_config(cls, config):
        """`Recipe` from `to_config`."""
        return cls(**{**config, "decay_epochs": tuple(config["decay_epochs"])})


def _pair(name, source, dataset, eps, train_eps, taps, **common):
    """The IBP and the TAPS recipe of one setting; `taps` holds what only TAPS changes."""
    ibp = Recipe(f"{name}-ibp", source, dataset, "ibp", eps, train_eps, **common)
    return ibp, replace(ibp, name=f"{name}-taps", method="taps", **taps)


_PAPER = "Mao et al. 2023, Tables 5 and 6; train eps from the authors' scripts"
_AUTHORS = {"gradient_scale": 3.0}  # (w + 1) / 2: the gradient of the authors' code
_CPU = "this package: ten epochs on two CPU cores"
_SMALL = {
    "network": "cnn3",
    "width": 16,
    "epochs": 10,
    "anneal_epochs": 2,
    "decay_epochs": (7, 8.5),
    "l1": 1e-6,
}
_QUICK = {
    "network": "cnn3",
    "width": 16,
    "epochs": 60,
    "anneal_epochs": 20,
    "decay_epochs": (45, 55),
    "batch_size": 64,
    "learning_rate": 2e-3,
}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        *_pair(
            "digits-0.1",
            "this package: the quick start",
            "digits",
            0.1,
            0.1,
            {"attack_steps": 8, **_AUTHORS},
            **_QUICK,
        ),
        *_pair(
            "mnist-0.1-cnn3", _CPU, "mnist", 0.1, 0.1, {"attack_steps": 8, **_AUTHORS}, **_SMALL
        ),
        *_pair(
            "fashion_mnist-0.1-cnn3",
            _CPU,
            "fashion_mnist",
            0.1,
            0.1,
            {"attack_steps": 8, **_AUTHORS},
            **_SMALL,
        ),
        *_pair(
            "mnist-0.1",
            _PAPER,
            "mnist",
            0.1,
            0.2,
            {"classifier_relus": 3, "l1": 1e-6, **_AUTHORS},
        ),
        *_pair("mnist-0.3", _PAPER, "mnist", 0.3, 0.4, _AUTHORS),
    )
}


def recipe(name, **changes):
    """A recipe by name, with fields changed.

    Args:
        name: One of `RECIPES`.
        **changes: Fields of `Recipe` to replace.

    Returns:
        `Recipe`.

    Raises:
        ValueError: If there is no such recipe or field; the message suggests the nearest name.

    Example:

    >>> recipe("mnist-0.1-taps", epochs=2).epochs
    2
    """
    if name not in RECIPES:
        raise ValueError(_unknown("recipe", name, RECIPES))
    fields = Recipe.__dataclass_fields__
    for field in changes:
        if field not in fields:
            raise ValueError(_unknown("recipe field", field, fields))
    return replace(RECIPES[name], **changes)


def _unknown(kind, name, known):
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {kind}. Accepted: {', '.join(known)}. Received: {name!r}.{hint}"

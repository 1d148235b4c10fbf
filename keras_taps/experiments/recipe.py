"""One training run as data: its fields and their checks, one class and so one long file."""

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_taps.checks import (
    check_choice,
    check_count,
    check_real,
    check_text,
    did_you_mean,
)
from keras_taps.datasets import dataset_info
from keras_taps.domain import Domain, check_radius, plain
from keras_taps.experiments.stages import TIMES, Stage, checked_stages, in_order, stretched
from keras_taps.schedules import SHAPES
from keras_taps.training import METHODS

NETWORKS = (
    *("cnn3", "cnn5", "cnn7", "resnet", "conv_med", "conv_med_big", "mlp"),
    *("distance_net", "sortnet_mlp"),
)
OPTIMIZERS = ("adam", "sgd", "adamw")
_LARGEST = 1e9
FEW_STEPS = 200  # of a ramp
_LISTED = 50  # longer lists are counted, not printed, in a message


@dataclass(frozen=True)
class Recipe:
    """One training run, complete except for its seed.

    Args:
        name: Name for `recipe` and the command line.
        source: Where the settings come from.
        dataset: Name of a data set, or an `.npz` file as `keras_taps.datasets.load` takes it.
        method: Name of a method, a key of `keras_taps.training.METHODS`.
        eps: Radius of the evaluation, in units of the inputs: a number, text such as '2/255', or a
            list of them that broadcasts to one input, such as one a channel or a feature.
        train_eps: Final radius of the training, in the same form.
        network: 'cnn3', 'cnn5', 'cnn7', 'resnet', 'conv_med', 'conv_med_big' or 'mlp'; for the
            method 'sortnet' 'distance_net' or 'sortnet_mlp'.
        width: Width of the network.
        network_options: More arguments of the network.
        epochs: Passes over the training images, of each stage if there are some.
        anneal_epochs: Epochs over which the radius grows from 0, or the power of norms (sortnet).
        anneal_start_epoch: Epochs at radius 0 before that.
        anneal_shape: How it grows, 'smooth' or 'linear'.
        decay_epochs: Epochs after which the learning rate is multiplied by `decay`.
        decay_every: Epochs between further decays after the last of them; 0 for none.
        cosine: Whether the learning rate falls to 0 along a cosine, in place of the decays.
        batch_size: Images a step.
        optimizer: 'adam', 'sgd' or 'adamw'.
        optimizer_options: Arguments of the optimizer of that name in `keras.optimizers`.
        learning_rate: Initial learning rate.
        decay: Factor in (0, 1].
        clipnorm: Global gradient norm at which gradients are clipped; `None` for no clipping.
        l1: Published L1 coefficient of the sum of absolute kernel entries.
        l1_per_layer: Whether that sum is divided by the number of affine layers, as the codes of
            TAPS do; those of IBP-R, COLT and the expressive losses do not.
        warmup_weight: Weight of the warm-up regulariser.
        robust_weight: Weight in [0, 1] of the loss of the method beside that of clean images.
        smoothing_std: Deviation of Gaussian noise on weights, over which the loss is smoothed.
        smoothing_samples: Draws of that noise in a step.
        classifier_relus: ReLUs after the split; `None` for the smallest split but 0.
        validation: Share of the training images held out to choose the best epoch.
        augment: Whether to augment, where the data set has an augmentation.
        ema_momentum: Momentum in [0, 1) of an exponential average of the weights, which is then
            validated and kept; 0 for none.
        swa_start: Epochs after which the weights at the ends of epochs are averaged, all alike,
            and that average is validated and kept; 0 for none.
        early_stopping: Epochs without a better validation TAPS accuracy at the final radius after
            which training stops; 0 for never.
        bn_reestimation: Whether batch statistics and mean shifts are taken over all training
            images after each epoch, before the validation.
        options: Arguments of the method alone, such as `tau_ratio` of SABR.
        domain: What values inputs may take: `[low, high]`, numbers or lists that broadcast to one
            input, text such as '-3,3', or 'none' for no bounds.
        stages: What each stage changes, if there are several: dictionaries of `train_eps`, times,
            learning rate, L1, warm-up weight, options of the method. A stage trains the network
            of the one before by a new optimizer; only epochs of the last can be the best.

    Raises:
        ValueError: For a value out of range or an option that the method does not take.
    """

    name: str
    source: str
    dataset: str
    method: str
    eps: Any
    train_eps: Any
    network: str = "cnn7"
    width: int = 64
    network_options: dict = field(default_factory=dict)
    epochs: int = 70
    anneal_epochs: float = 20
    anneal_start_epoch: float = 0
    anneal_shape: str = "smooth"
    decay_epochs: tuple = (50, 60)
    decay_every: float = 0
    cosine: bool = False
    batch_size: int = 256
    optimizer: str = "adam"
    optimizer_options: dict = field(default_factory=dict)
    learning_rate: float = 5e-4
    decay: float = 0.2
    clipnorm: float | None = 10.0
    l1: float = 0.0
    l1_per_layer: bool = True
    warmup_weight: float = 0.5
    robust_weight: float = 1.0
    smoothing_std: float = 0.0
    smoothing_samples: int = 1
    classifier_relus: int | None = None
    validation: float = 0.1
    augment: bool = True
    ema_momentum: float = 0.0
    swa_start: float = 0.0
    early_stopping: int = 0
    bn_reestimation: bool = False
    options: dict = field(default_factory=dict)
    domain: Any = (0, 1)
    stages: tuple = ()

    def __post_init__(self):
        for name in ("name", "source", "dataset", "method", "network"):
            check_text(name, getattr(self, name))
        object.__setattr__(self, "decay_epochs", _ascending(self.decay_epochs))
        if self.dataset.endswith(".npz"):  # a run folder is opened from anywhere
            object.__setattr__(self, "dataset", str(Path(self.dataset).resolve()))
        shape = dataset_info(self.dataset).input_shape
        domain = Domain.of(self.domain).fitted(shape)
        object.__setattr__(self, "domain", domain.to_config())
        for name in ("eps", "train_eps"):
            radius = check_radius(name, getattr(self, name), domain, shape)
            object.__setattr__(self, name, plain(radius))
        check_choice("method", self.method, METHODS)
        check_choice("network", self.network, NETWORKS)
        for name in ("width", "epochs", "batch_size", "smoothing_samples"):
            check_count(name, getattr(self, name), low=1)
        check_count("early_stopping", self.early_stopping)
        if self.classifier_relus is not None:
            check_count("classifier_relus", self.classifier_relus)
        times = ("anneal_epochs", "anneal_start_epoch", "decay_every", "swa_start")
        for name in (*times, "l1", "warmup_weight", "smoothing_std"):
            check_real(name, getattr(self, name), 0, _LARGEST)
        check_real("learning_rate", self.learning_rate, 0, _LARGEST, low_open=True)
        if self.clipnorm is not None:
            check_real("clipnorm", self.clipnorm, 0, _LARGEST, low_open=True)
        check_choice("anneal_shape", self.anneal_shape, SHAPES)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.decay_every and not self.decay_epochs:
            raise ValueError(
                "`decay_every` needs `decay_epochs`, from whose last it continues. Received: "
                f"decay_every={self.decay_every}, decay_epochs={self.decay_epochs}"
            )
        check_real("decay", self.decay, 0, 1, low_open=True)
        check_real("validation", self.validation, 0, 0.99)
        check_real("robust_weight", self.robust_weight, 0, 1)
        check_real("ema_momentum", self.ema_momentum, 0, 0.999999)
        if self.swa_start and (self.ema_momentum or self.swa_start >= self.epochs):
            raise ValueError(
                "`swa_start` must be below `epochs`, and there is one average of weights: set it "
                f"or `ema_momentum`. Received: swa_start={self.swa_start}, epochs={self.epochs}, "
                f"ema_momentum={self.ema_momentum}"
            )
        for name in ("ema_momentum", "swa_start", "early_stopping"):
            if getattr(self, name) and not self.validation:
                raise ValueError(
                    f"`{name}` needs validation images, which choose the epoch. Received: "
                    f"{name}={getattr(self, name)}, validation=0"
                )
        for name in ("augment", "bn_reestimation", "cosine", "l1_per_layer"):
            check_choice(name, getattr(self, name), (True, False))
        for name in self.options:
            if name not in method_options(self.method):
                raise ValueError(unknown(f"option of {self.method}", name, self.accepted_names()))
        object.__setattr__(self, "stages", checked_stages(self, method_options(self.method)))
        self.in_stages()  # or says what is wrong with one

    def accepted_names(self) -> list[str]:
        """Every name that `changed` takes: fields, and options of the method."""
        own = [f.name for f in fields(self) if f.name != "options"]
        return [*own, *method_options(self.method)]

    def changed(self, **changes: Any) -> "Recipe":
        """This recipe with fields or options of its method changed.

        With another method, stages and options that it does not take are dropped.

        Args:
            **changes: Any of `accepted_names`.

        Raises:
            ValueError: For an unknown name, with the nearest known one, or a value out of range.

        Example:

        >>> recipe("digits-0.1-sabr").changed(tau_ratio=0.2, epochs=2).options["tau_ratio"]
        0.2
        """
        method = changes.get("method", self.method)
        check_choice("method", check_text("method", method), METHODS)
        taken = method_options(method)
        options = {name: value for name, value in self.options.items() if name in taken}
        stages = self.stages if method == self.method else ()
        new = replace(self, method=method, options=options, stages=stages)
        for name in changes:
            if name not in new.accepted_names():
                raise ValueError(unknown("recipe field", name, new.accepted_names()))
        options |= {name: value for name, value in changes.items() if name in taken}
        others = {name: value for name, value in changes.items() if name not in taken}
        return replace(new, **others, options=options)

    def scaled(self, epochs: int) -> "Recipe":
        """This recipe with all its times shrunk or stretched to `epochs` epochs.

        Those of stages are stretched by the same factor.
        """
        share = check_count("epochs", epochs, low=1) / self.epochs
        times = stretched({name: getattr(self, name) for name in TIMES}, share)
        stages = tuple(stretched(changes, share) for changes in self.stages)
        return replace(self, **times, stages=stages)

    def in_stages(self) -> list[Stage]:
        """What is trained one after the other: `Stage`s, one for a recipe without `stages`."""
        whole = replace(self, stages=()) if self.stages else self
        return in_order([whole.changed(**changes) for changes in self.stages] or [whole])

    @property
    def decays(self) -> tuple[float, ...]:
        """Every epoch before the end after which the learning rate falls."""
        found = list(self.decay_epochs)
        while self.decay_every and found[-1] + self.decay_every < self.epochs:
            found.append(found[-1] + self.decay_every)
        return tuple(found)

    @property
    def annealed_epoch(self) -> float:
        """Epochs after which the radius is final."""
        return self.anneal_start_epoch + self.anneal_epochs if self.anneal_epochs else 0

    def doubts(self, steps_per_epoch: int) -> list[str]:
        """Sentences about times that are unlikely to be meant, known before any training.

        Args:
            steps_per_epoch: Training steps of an epoch.
        """
        if self.stages:
            each = (stage.recipe.doubts(steps_per_epoch) for stage in self.in_stages())
            return list(dict.fromkeys(doubt for doubts in each for doubt in doubts))
        found = []
        steps = round(self.anneal_epochs * steps_per_epoch)
        if self.method in ("standard", "pgd", "colt", "sortnet"):
            pass  # no box is trained, so the radius may begin where it ends
        elif self.annealed_epoch >= self.epochs:
            found.append(
                f"The radius never stays at train_eps: it grows for {self.annealed_epoch:g} of "
                f"{self.epochs} epochs, so no epoch can be chosen as the best. Set anneal_epochs "
                "lower, or epochs higher."
            )
        elif np.any(self.train_eps) and steps < FEW_STEPS:
            found.append(
                f"The radius grows within {steps} steps; with fewer than {FEW_STEPS} a network "
                "often stays at chance. Set anneal_epochs or epochs higher, or batch_size lower."
            )
        decays = () if self.cosine else self.decay_epochs
        late = [f"{epoch:g}" for epoch in decays if epoch >= self.epochs]
        if late:
            found.append(
                f"The learning rate does not fall at epoch {' and '.join(late)}: training ends "
                f"after {self.epochs}. --epochs scales all times, --set epochs= this one alone."
            )
        return found

    @property
    def averaged(self) -> bool:
        """Whether averaged weights are validated and kept."""
        return bool(self.ema_momentum or self.swa_start)

    @property
    def own_options(self) -> dict[str, Any]:
        """Its `options` without those that say what is the default anyway."""
        defaults = method_options(self.method)
        return {k: v for k, v in self.options.items() if v != defaults[k]}

    def to_config(self) -> dict[str, Any]:
        """Plain dictionary, for JSON."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Recipe":
        """`Recipe` from `to_config`."""
        return cls(**config)


def _ascending(decays):
    if not isinstance(decays, (list, tuple)):
        raise ValueError(f"`decay_epochs` must be a list of epochs. Received: {decays!r}")
    for epoch in decays:
        check_real("decay_epochs", epoch, 0, _LARGEST)
    if list(decays) != sorted(decays):
        raise ValueError(f"`decay_epochs` must be in ascending order. Received: {decays!r}")
    return tuple(decays)


def method_options(method: str) -> dict[str, Any]:
    """Names and defaults of the arguments that a method takes beside those of all methods."""
    own = METHODS[method].own_arguments()
    return {name: default for name, default in own.items() if name != "classifier_relus"}


def unknown(kind, name, known):
    """Message about an unknown name, with the nearest known one."""
    known = list(known)
    accepted = ", ".join(known) if len(known) <= _LISTED else f"{len(known)} names"
    return f"Unknown {kind}. Accepted: {accepted}. Received: {name!r}.{did_you_mean(name, known)}"

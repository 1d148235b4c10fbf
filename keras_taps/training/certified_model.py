"""The base of every certified training method: one protocol, one place for the loss.

It is long because it is Keras' whole protocol of training; formulas are in the methods' files.
"""

import inspect
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_taps import backend
from keras_taps.attacks.latent import taps_margins
from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import cross_entropy, logit_margins
from keras_taps.checks import check_count, check_real, check_seed, did_you_mean
from keras_taps.domain import Domain, check_radius, plain
from keras_taps.interval import Interval, all_inside, as_interval
from keras_taps.layers.residual import walk
from keras_taps.networks.segment import CleanPass
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.objectives.l1 import l1_penalty
from keras_taps.objectives.smoothing import perturbed
from keras_taps.objectives.warmup import warmup_regulariser
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.checked_model import CheckedModel
from keras_taps.training.measures import Measures
from keras_taps.training.radius import RadiusSchedule
from keras_taps.typing import Tensor

_SMALLEST_EPS = 1e-6  # while annealing: a box without width has no tightness
_NOISE = 11_000_027  # the stream of noise on weights


class CertifiedModel(RadiusSchedule, Measures, CheckedModel):
    """A network and the way it is trained to be provably robust.

    A method is a region of the input, which it propagates, and a formula on its bounds:
    `region` and `certified_loss`. This class joins what all methods share: the radius schedule
    (`RadiusSchedule`), the warm-up phase, metrics (`Measures`), checks of the data
    (`CheckedModel`), saving.

    Called with `training=True` it returns a `CleanPass`, logits and batch moments, from which
    `compute_loss` continues; else logits.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, in units of the inputs: a number, or an array
            that broadcasts to one input, such as one radius a channel or a feature.
        train_eps: Final radius of training, at least `eps`; by default `eps`. It grows as a whole:
            one factor times all of it.
        classifier_relus: ReLUs after the split, one of `network.legal_splits`, by default the
            smallest but 0; used by the method if it attacks in latent space, and always for the
            metric `taps_accuracy`.
        warmup_weight: Weight >= 0 of the warm-up regulariser at radius 0; it falls to 0 with the
            annealing.
        l1: Coefficient >= 0 of the sum of absolute kernel entries.
        robust_weight: Weight w in [0, 1] of the method's loss L in `(1 - w) L_clean + w L`, with
            the cross-entropy of the clean images.
        smoothing_std: Standard deviation >= 0 of Gaussian noise on every trainable weight, over
            which the loss is smoothed (RGS): training minimises the mean over the noise. Training
            then reports no metrics of bounds and attacks, which would be of noisy networks. One
            deviation for all weights and steps is our reading of the paper.
        smoothing_samples: Draws >= 1 of the noise in a step, each of which costs a step without.
        seed: Whole number, for random starts and noise; by default drawn from the global seed.
        domain: What values inputs may take, to which boxes are cut: `(low, high)`, numbers or
            arrays that broadcast to one input, with `None` where there is no bound; or `None` for
            no bounds at all. By default pixels in [0, 1].
        name: Name of the model.

    Raises:
        ValueError: For a value out of range, a network that cannot be certified or a split that
            it does not have.
        TypeError: For an argument that the method does not have.

    References:
        Mao et al. 2023, appendix B.1 and Algorithm 1; Shi et al. 2021; the code of "CTBench: A
        Library and Benchmark for Certified Training", 2025 (robust weight); Balauca et al.,
        "Gaussian Loss Smoothing Enables Certified Training with Tight Convex Relaxations", 2025
        (smoothing; that a draw takes batch moments of its own is our reading).
    """

    monitor = "val_taps_accuracy"  # what chooses the best epoch of a run
    NETWORKS: tuple[str, ...] = ("network",)  # its arguments that are networks, or None

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        classifier_relus: int | None = None,
        warmup_weight: float = 0.5,
        l1: float = 0.0,
        robust_weight: float = 1.0,
        smoothing_std: float = 0.0,
        smoothing_samples: int = 1,
        seed: int | None = None,
        domain: Any = (0, 1),
        name: str | None = None,
        **unknown: Any,
    ):
        if unknown:
            raise TypeError(self._unknown_argument(next(iter(unknown))))
        super().__init__(name=name, autocast=False)  # images reach the network as they are
        if not isinstance(network, IntervalSequential):
            raise ValueError(
                "`network` must be an IntervalSequential: build one from keras_taps.networks or "
                "turn a Keras model into one with `keras_taps.convert(model)`. "
                f"Received: {type(network).__name__}"
            )
        network.check_certifiable()
        self.classifier_relus = self.checked_split(network, classifier_relus)
        self.network = network
        shape = network.input_shape[1:]
        self.domain = Domain.of(domain).fitted(shape)
        self.eps = check_radius("eps", eps, self.domain, shape)
        self.train_eps = self.eps
        if train_eps is not None:
            self.train_eps = check_radius("train_eps", train_eps, self.domain, shape)
        if np.any(np.less(self.train_eps, self.eps)):
            raise ValueError(
                "`train_eps` must be at least `eps`: a network is not trained at a smaller radius "
                f"than it is tested at. Received: eps={eps!s}, train_eps={train_eps!s}"
            )
        self.warmup_weight = check_real("warmup_weight", warmup_weight, 0, float("inf"))
        self.l1 = check_real("l1", l1, 0, float("inf"))
        self.robust_weight = check_real("robust_weight", robust_weight, 0, 1)
        self.smoothing_std = check_real("smoothing_std", smoothing_std, 0, float("inf"))
        self.smoothing_samples = check_count("smoothing_samples", smoothing_samples, low=1)
        # Attacks draw from (seed, step): the step is saved with the model, as a generator is not.
        self.seed = check_seed(random.randrange(2**31) if seed is None else seed)
        self._seed_variable = keras.random.SeedGenerator(self.seed)
        self.create_counters()
        self.create_metrics()
        self.built = True

    def checked_split(
        self, network: IntervalSequential, classifier_relus: int | None
    ) -> int | None:
        """The split of the constructor, or the default one; `None` if the method has none.

        Raises:
            ValueError: If the network does not have it.
        """
        if classifier_relus is None:
            classifier_relus = network.default_split
        network.split(classifier_relus)
        return classifier_relus

    @classmethod
    def own_arguments(cls) -> dict[str, Any]:
        """Names and defaults of the keyword arguments beside those of `CertifiedModel`."""
        found: dict[str, Any] = {}
        for base in cls.__mro__[: cls.__mro__.index(CertifiedModel)]:
            if "__init__" in vars(base):
                parameters = inspect.signature(base.__init__).parameters.values()
                found |= {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        return found

    @classmethod
    def _unknown_argument(cls, name):
        _, *common, _ = inspect.signature(CertifiedModel.__init__).parameters
        known = list(dict.fromkeys([*common, *cls.own_arguments()]))
        return (
            f"{cls.__name__} has no argument `{name}`.{did_you_mean(name, known)} "
            f"Accepted: {', '.join(known)}."
        )

    def region(self, batch: Batch) -> Interval:
        """`Interval` of images that the method propagates: here the whole box.

        Args:
            batch: `Batch`.
        """
        return batch.box

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        """The bounds and losses of the method.

        Args:
            batch: `Batch`. Bounds and margins are those of `self.network.under(batch.given)`, by
                the moments of the clean images, or of the two parts of
                `self.network.split(relus, batch.given)`.
            region: `Interval` of images, what `region` returned for it.

        Returns:
            `Outcome`.
        """
        raise NotImplementedError

    def combine(self, outcome: Outcome) -> Tensor:
        """The loss of the method from its `Outcome`, once eps is final.

        It runs outside of compiled branches, where replicas may average over the global batch.
        """
        return outcome.loss

    def warmup_penalty(self, box: Interval, relu_boxes: Sequence[Interval], eps: Tensor) -> Tensor:
        """Warm-up regulariser, weighted by `warmup_weight * (1 - eps / train_eps)`.

        References:
            Mao et al. 2023, Algorithm 1, with the decreasing weight that all codes use.
        """
        if not (self.warmup_weight and relu_boxes and np.any(self.train_eps)):
            return ops.zeros_like(ops.mean(eps))  # a radius of 0 does not grow
        weight = self.warmup_weight * (1 - self.share_of(eps))
        entry = walk(self.network.leading_normalization, box)
        penalty = warmup_regulariser(entry, relu_boxes)
        return ops.cast(weight, penalty.dtype) * penalty

    def kernel_norm(self) -> Tensor:
        """What `l1` multiplies: the sum of absolute kernel entries."""
        return l1_penalty(self.network)

    def call(
        self, inputs: Tensor | Interval, training: bool | None = None
    ) -> Tensor | Interval | CleanPass:
        if training and as_interval(inputs) is None:
            return self.network.clean_pass(inputs)  # Keras hands it to `compute_loss` as `y_pred`
        return self.network(inputs, training=training)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor | CleanPass = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """The loss of a batch, called by all three Keras trainers inside their gradient scope."""
        if sample_weight is not None:
            raise ValueError(
                "`sample_weight` and `class_weight` are not supported: certified losses are "
                "products and mixtures of batch means. Received: a sample_weight"
            )
        if y_pred is None or (training and not isinstance(y_pred, CleanPass)):
            y_pred = self(x, training=training)
        labels = ops.cast(ops.reshape(y, (-1,)), "int32")
        classes = ops.clip(labels, 0, self.network.num_classes - 1)  # some backends refuse others
        if training:
            logits = y_pred.logits
            loss, outcome, final = self._training_loss(x, classes, y_pred)
        else:
            logits = y_pred
            outcome, final = self._evaluation_outcome(x, classes, y_pred), 1.0
            loss = self._with_clean(self.combine(outcome), logits, classes)
        self.measure(labels, logits, outcome, training, final)
        loss = loss + sum(self.losses)
        if self.l1:
            loss = loss + self.l1 * self.kernel_norm()
        # Inputs or labels out of range make the loss NaN: never a silent wrong figure.
        return ops.where(self._in_range(x, labels), loss, float("nan")) / backend.replica_count()

    def _training_loss(self, x, labels, clean):
        """Loss of the phase that this step is in; the step counter moves on.

        The bound serves both phases. Only what one phase needs alone is a compiled branch: XLA
        on a CPU computes weight gradients of convolutions in a branch some forty times slower.

        Returns:
            `(loss, Outcome, final)`: the last is 0 while the radius grows, else 1.
        """
        annealing, eps = self.scheduled_eps()
        seed = self.step_seed()
        self.count_step()  # here, because a branch must not write variables
        self.eps_tracker.update_state(ops.mean(eps))
        final = 1.0 if annealing is False else 1.0 - ops.cast(annealing, "float32")
        given = (x, labels, annealing, eps, seed)
        if not self.smoothing_std:
            return *self._loss_at(clean, *given), final
        losses = []
        for draw in range(self.smoothing_samples):
            with perturbed(self, self.smoothing_std, seed + _NOISE * (draw + 1)):
                losses.append(self._loss_at(self.call(x, training=True), *given)[0])
        loss = sum(losses) / len(losses)
        return loss, Outcome(loss), final

    def _loss_at(self, clean, x, labels, annealing, eps, seed):
        """`(loss, Outcome)` of a training step with the weights as they are."""
        width = eps
        if annealing is not False:
            smallest = np.minimum(self.train_eps, _SMALLEST_EPS).astype("float32")
            width = ops.where(annealing, ops.maximum(eps, smallest), eps)
        relu_boxes = []
        given = replace(self.network.replay(clean.moments, clean.forms), relu_boxes=relu_boxes)
        batch = Batch(
            *(x, labels, clean.logits, width, seed, annealing),
            given=given,
            domain=self.domain,
            features=clean.features,
        )
        with self.network.replaying():
            region = self.region(batch)
            outcome = self.certified_loss(batch, region)
        if annealing is False:
            return self._with_clean(self.combine(outcome), clean.logits, labels), outcome
        penalty = ops.cond(
            annealing,
            lambda: ops.cast(self.warmup_penalty(region, relu_boxes, eps), outcome.loss.dtype),
            lambda: ops.zeros_like(outcome.loss),
        )
        robust = ops.where(annealing, outcome.loss, self.combine(outcome))
        return self._with_clean(robust, clean.logits, labels) + penalty, outcome

    def _with_clean(self, robust, logits, labels):
        if self.robust_weight == 1:
            return robust
        clean = ops.cast(ops.mean(cross_entropy(logit_margins(logits, labels))), robust.dtype)
        return (1 - self.robust_weight) * clean + self.robust_weight * robust

    def step_seed(self) -> Tensor:
        """Seed of the random numbers of this step, a tensor of two integers."""
        # As a constant, every seed would make another program to be compiled.
        seed = self._seed_variable.state[0] if backend.compiles() else self.seed
        return backend.seed_tensor(seed, self.step * 1)

    def _evaluation_outcome(self, x, labels, logits):
        # Always the same seed: evaluating twice gives the same figures and disturbs no training.
        seed = backend.seed_tensor(0)
        self.eps_tracker.update_state(float(np.mean(self.eps)))
        batch = Batch(x, labels, logits, self.eps, seed, training=False, domain=self.domain)
        outcome = self.certified_loss(batch, self.region(batch))
        if outcome.ibp_margins is None:
            outcome = outcome._replace(ibp_margins=ibp_margins(self.network, batch.box, labels))
        if outcome.taps_margins is None and self.classifier_relus is not None:
            taps = taps_margins(self.network, batch.box, labels, self.classifier_relus, seed)
            outcome = outcome._replace(taps_margins=taps)
        return outcome

    def _in_range(self, x, labels):
        classes = ops.all(ops.logical_and(labels >= 0, labels < self.network.num_classes))
        return ops.logical_and(all_inside(x, self.domain), classes)

    def train_step(self, *args: Any) -> Any:
        """One training step: clean pass, certified loss, gradient, update.

        It delegates to the trainer of the backend (JAX passes its state as a first argument), which
        calls `call` and `compute_loss`; override those, or this for a loop of your own.
        """
        return super().train_step(*args)

    def at_eps(self, eps: ArrayLike) -> "CertifiedModel":
        """A compiled model of the same kind on the same network (no copy), to evaluate at `eps`.

        Args:
            eps: Radius, as that of the model.
        """
        options = self.get_config()
        eps = check_radius("eps", eps, self.domain)
        largest = np.maximum(eps, self.train_eps)
        options.update({name: getattr(self, name) for name in self.NETWORKS})
        options.update(eps=eps, train_eps=largest, domain=self.domain)
        model = type(self)(**options)
        model.compile(jit_compile=getattr(self, "_jit_request", "auto"))
        return model

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            **{name: serialize(getattr(self, name)) for name in self.NETWORKS},
            "eps": plain(self.eps),
            "train_eps": plain(self.train_eps),
            "classifier_relus": self.classifier_relus,
            "warmup_weight": self.warmup_weight,
            "l1": self.l1,
            "robust_weight": self.robust_weight,
            "smoothing_std": self.smoothing_std,
            "smoothing_samples": self.smoothing_samples,
            "seed": self.seed,
            "domain": self.domain.to_config(),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "CertifiedModel":
        deserialize = keras.saving.deserialize_keras_object
        networks = {
            name: deserialize(config[name], custom_objects=custom_objects)
            for name in cls.NETWORKS
            if config.get(name) is not None
        }
        return cls(**config | networks)

"""TAPS: full box, latent attack x IBP (Figure 2 of the paper, line by line)."""

import math
from functools import partial
from typing import Any

import keras
from keras import ops
from numpy.typing import ArrayLike

from keras_taps.attacks.box_attack import ESTIMATORS, box_attack, margins_at
from keras_taps.attacks.selection import Selection, check_estimators
from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import cross_entropy, margin_rows
from keras_taps.checks import check_choice, check_count, check_real
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.metrics import Share
from keras_taps.networks.segment import Segment
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.objectives.chunks import chunked_margins
from keras_taps.objectives.connector import connect
from keras_taps.objectives.product import product_loss
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.training.search_precision import SearchPrecision
from keras_taps.typing import Tensor

OBJECTIVES = ("product", "taps", "ibp")
_STREAM = 104729  # between the seeds of chunks; restarts are 1 apart


@serializable
class TAPSModel(SearchPrecision, CertifiedModel):
    """Training via Adversarial Propagation through Subnetworks.

    A box of pixels goes through the feature extractor by interval arithmetic, the classifier is
    attacked inside the resulting latent box, and the gradient connector joins the two.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        classifier_relus: ReLUs after the split, by default the smallest split but 0; with 0 this
            is IBP training, exactly.
        w_taps: Weight in [0, inf] of the TAPS gradient against the IBP gradient.
        gradient_scale: Factor > 0 of the gradient of the product. Adam notices it, because its
            second moments remember the annealing phase for a thousand steps; the published
            numbers belong to `(w_taps + 1) / 2`, the scale of the authors' code.
        c: Connector parameter in [0, 1].
        attack_steps: Steps S >= 0 of the latent attack.
        attack_step_size: First step in (0, 1] relative to the width of the latent box, by
            default `max(0.2, 2 / S)`.
        attack_restarts: Random starts >= 1 of the latent attack.
        estimator: 'multi', a point for each attacked class, or 'single', one for the cross-entropy.
        estimators: 'all', every wrong class is attacked as in the paper; or a number of classes
            k >= 1: while training, the k of each sample with the largest IBP bounds are, see
            `attacks.Selection`. The metric `taps_loss_gap` then bounds the difference in the
            TAPS loss. Evaluation always attacks all.
        chunk_size: How many classes are attacked and evaluated at a time, or `None` for all: with
            hundreds of classes a bound on the memory, paid for with a second evaluation of the
            points. Random starts differ.
        objective: 'product'; or 'taps' or 'ibp', that loss alone (Table 2 of the paper).
        **options: `search_dtype`, the precision of the attack, as `SearchPrecision`;
            `warmup_weight`, `l1`, `seed`, `name`, as `CertifiedModel`.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> model = TAPSModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, train_eps=0.2, attack_steps=2)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> round(history.history["eps"][-1], 6)
    0.2

    References:
        Mao et al., "Connecting Certified and Adversarial Training", 2023, section 3.
    """

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        classifier_relus: int | None = None,
        w_taps: float = 5.0,
        gradient_scale: float = 1.0,
        c: float = 0.5,
        attack_steps: int = 20,
        attack_step_size: float | None = None,
        attack_restarts: int = 1,
        estimator: str = "multi",
        estimators: int | str = "all",
        chunk_size: int | None = None,
        objective: str = "product",
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, classifier_relus=classifier_relus, **options)
        self.w_taps = check_real("w_taps", w_taps, 0, math.inf)
        self.gradient_scale = check_real(
            "gradient_scale", gradient_scale, 0, math.inf, low_open=True
        )
        self.c = check_real("c", c, 0, 1)
        self.attack_steps = check_count("attack_steps", attack_steps)
        if attack_step_size is not None:
            check_real("attack_step_size", attack_step_size, 0, 1, low_open=True)
        self.attack_step_size = attack_step_size
        self.attack_restarts = check_count("attack_restarts", attack_restarts, low=1)
        self.estimator = check_choice("estimator", estimator, ESTIMATORS)
        self.objective = check_choice("objective", objective, OBJECTIVES)
        self.estimators = check_estimators(estimators, network.num_classes)
        if self.estimators != "all":
            if estimator == "single":
                raise ValueError(
                    "`estimators` chooses classes to attack and needs estimator='multi'. "
                    f"Received: {estimator=}, {estimators=}"
                )
            self.taps_loss_gap = Share(name="taps_loss_gap")
        if chunk_size is not None:
            check_count("chunk_size", chunk_size, low=1)
            if estimator == "single" or self.estimators != "all":
                raise ValueError(
                    "`chunk_size` is about attacks of all classes: estimator='multi' and "
                    f"estimators='all'. Received: {estimator=}, {estimators=}, {chunk_size=}"
                )
            chunk_size = min(chunk_size, network.num_classes - 1)
        self.chunk_size = chunk_size

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        extractor, classifier = self.network.split(self.classifier_relus, batch.given)
        features = extractor(region)
        ibp = ibp_margins(classifier, features, batch.labels)
        ibp_loss = ops.mean(cross_entropy(ibp))
        if self.classifier_relus == 0:
            return Outcome(ibp_loss, ibp, ibp_loss, ibp)

        chooses = self.estimators != "all" and batch.training
        no_gap = ops.zeros_like(ibp[:, 0])

        def latent():
            rows = margin_rows(classifier.last, batch.labels)
            if chooses:
                chosen = Selection(ibp, batch.labels, self.estimators)
                points = self.latent_attack(classifier, features, batch, chosen.classes)
                taps = chosen.margins_at(classifier, connect(points, features, self.c), rows)
                gap = chosen.loss_gap(taps)
            elif self.chunk_size:
                search = partial(self.latent_attack, classifier, features, batch)
                how = search, self.c, self.chunk_size
                taps, gap = chunked_margins(classifier, features, batch.labels, *how), no_gap
            else:
                points = self.latent_attack(classifier, features, batch)
                taps = margins_at(classifier, connect(points, features, self.c), rows)
                gap = no_gap
            return ops.mean(cross_entropy(taps)), taps, gap

        def nothing():
            return ops.zeros_like(ibp_loss), ibp, no_gap

        if batch.annealing is False:
            taps_loss, taps, gap = latent()
        else:
            taps_loss, taps, gap = ops.cond(batch.annealing, nothing, latent)
        return Outcome(ibp_loss, ibp, taps_loss, taps, taps_loss_gap=gap if chooses else None)

    def measured(self, outcome: Outcome) -> list[tuple[keras.Metric, Tensor | None]]:
        pairs = super().measured(outcome)
        if self.estimators == "all":
            return pairs
        return [*pairs, (self.taps_loss_gap, outcome.taps_loss_gap)]

    def combine(self, outcome: Outcome) -> Tensor:
        if self.classifier_relus == 0 or self.objective == "ibp":
            return outcome.loss
        if self.objective == "taps":
            return outcome.taps_loss
        return product_loss(outcome.taps_loss, outcome.loss, self.w_taps, self.gradient_scale)

    def latent_attack(
        self,
        classifier: Segment,
        features: Interval,
        batch: Batch,
        classes: Tensor | None = None,
        stream: int = 0,
    ) -> Tensor:
        """Adversarial points `(batch, n or 1, ...)` in the latent box `features`.

        One for each of the `classes`, by default all wrong ones. Other streams have other starts.
        """
        strength = (self.attack_steps, self.attack_step_size) if batch.training else ()
        return box_attack(
            classifier,
            features,
            batch.labels,
            batch.seed + stream * _STREAM,
            *strength,
            restarts=self.attack_restarts,
            estimator=self.estimator,
            classes=classes,
            dtype=self.attack_dtype(batch),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "w_taps": self.w_taps,
            "gradient_scale": self.gradient_scale,
            "c": self.c,
            "attack_steps": self.attack_steps,
            "attack_step_size": self.attack_step_size,
            "attack_restarts": self.attack_restarts,
            "estimator": self.estimator,
            "estimators": self.estimators,
            "chunk_size": self.chunk_size,
            "objective": self.objective,
        }

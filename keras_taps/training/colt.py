"""COLT: adversarial points in the zonotope after a frozen extractor that grows stage by stage."""

from dataclasses import replace
from itertools import takewhile
from typing import Any

import keras
from keras import ops
from numpy.typing import ArrayLike

from keras_taps.attacks.box_attack import constants, margins_at
from keras_taps.attacks.noise_attack import LatentZonotope, noise_attack
from keras_taps.bounds.fixed_slopes import neuron_bounds, parallel_nodes
from keras_taps.bounds.margins import certified, cross_entropy, logit_margins, margin_rows
from keras_taps.bounds.nodes import Elementwise, propagate, substitute, unfold
from keras_taps.bounds.projections import Projected, through_affine
from keras_taps.checks import check_choice, check_count, check_real
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.metrics import Share
from keras_taps.networks.segment import Segment
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.objectives.l1 import l1_penalty
from keras_taps.objectives.stability import instability
from keras_taps.schedules import progress
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.typing import Tensor

_SEED_OFFSET = 1_000_003  # the stream of attacked images, which stage 0 is about
_STREAM = 7_000_003  # another for the stage before


@serializable
class COLTModel(CertifiedModel):
    """One stage of convex layerwise adversarial training.

    In stage c everything up to the c-th ReLU is frozen, and the rest is trained on adversarial
    points in the zonotope of what comes out there; stage 0 is PGD training. The loss is
    `k L_c + (1 - k) L_(c-1) + k stability sum relu(-l) relu(u)`: the stage before, whose attack is
    in its own region (before stage 0 the clean image), and the inputs of the next ReLU. `EpsAnneal`
    lets k grow from 0 to 1; the radius of a stage is `train_eps` from its first step on.

    Train the stages one after the other, each with a new model of the same network and a new
    optimizer without weight decay. Without an `EpsAnneal` k is 1. Exact bounds of all ReLUs but
    the first take a row a neuron: on larger networks let `projections` estimate them. After a
    frozen extractor, batch moments are constants; the published networks have no batch
    normalisation.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Radius of the stage, by default `eps`; the published ones are larger, most of
            all in early stages.
        stage: Number of ReLUs in the frozen extractor, at least 0 and below those of the network.
        previous: Whether the loss of the stage before is mixed in; if not, k is 1.
        stability: Weight >= 0 of the sum over the inputs of the next ReLU; 0 in a last stage.
        attack_steps: Steps of the latent attack.
        attack_step_size: Its step relative to the width of an error.
        projections: Number of random projections by which the bounds of all ReLUs but the first
            are estimated, 50 in the paper; `None` for exact bounds.
        **options: Those of `CertifiedModel`.

    Raises:
        ValueError: For a value out of range, or an extractor with a layer that has no slope.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> for stage in (0, 1):
    ...     model = COLTModel(network, 0.1, stage=stage)
    ...     model.compile(keras.optimizers.SGD(1e-2, momentum=0.9))
    ...     history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['colt_accuracy', 'eps', 'loss', 'natural_accuracy']

    References:
        Balunovic and Vechev, "Adversarial Training and Provable Defenses: Bridging the Gap", 2020.
    """

    monitor = "val_colt_accuracy"

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        stage: int = 0,
        previous: bool = True,
        stability: float = 0.0,
        attack_steps: int = 7,
        attack_step_size: float = 0.125,
        projections: int | None = None,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        if self.robust_weight != 1 or self.smoothing_std:
            raise ValueError(
                "`robust_weight` must be 1 and `smoothing_std` 0: COLT freezes its extractor, "
                "which clean images would train and noise would move. Received: "
                f"robust_weight={self.robust_weight}, smoothing_std={self.smoothing_std}"
            )
        self.stage = check_count("stage", stage)
        # A network without ReLUs has stage 0 alone.
        stages = [network.relus - split for split in network.legal_splits if split] or [0]
        if stage not in stages:
            raise ValueError(
                f"`stage` must be one of {', '.join(map(str, sorted(stages)))}: at least one of "
                f"the {network.relus} ReLUs stays after the cut. Received: stage={stage}"
            )
        self.previous = check_choice("previous", previous, (True, False))
        self.stability = check_real("stability", stability, 0, float("inf"))
        self.attack_steps = check_count("attack_steps", attack_steps)
        self.attack_step_size = check_real(
            "attack_step_size", attack_step_size, 0, 1, low_open=True
        )
        if projections is not None:
            check_count("projections", projections, low=1)
        self.projections = projections
        self.earlier = max((each for each in stages if each < stage), default=None)
        self.colt_accuracy = Share(name="colt_accuracy")
        parallel_nodes(self._cut(stage)[0])  # or says which layer has no slope

    def _cut(self, stage, given=None):
        """Extractor and classifier of a stage."""
        given = {} if given is None else {"given": given}
        return self.network.split(self.network.relus - stage, **given)

    def scheduled_eps(self) -> tuple[Tensor, Tensor]:
        """The radius of a stage is constant; while k grows, `annealing` is true."""
        _, step, _, end = self.ramp()
        return step < end, ops.convert_to_tensor(self.train_eps, dtype="float32")

    def mixing(self, batch: Batch) -> Tensor:
        """k of this step."""
        if not (batch.training and self.previous):
            return ops.convert_to_tensor(1.0)
        _, step, start, end = self.ramp()
        return progress(step - 1, start, end)  # the counter has moved on

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        if self.stage:  # moments of the classifier depend on the extractor's weights too
            batch = replace(batch, given=batch.given.stopped())
        extractor, classifier = self._cut(self.stage, batch.given)
        zonotope = self._zonotope(extractor, region, batch)
        points = self.latent_points(zonotope, classifier, batch)
        margins = self._margins(classifier, points, batch)
        loss = ops.mean(cross_entropy(margins))
        if self.stability:
            loss = loss + self.stability * ops.mean(instability([next_relu(zonotope, classifier)]))
        if batch.training and self.previous:
            share = ops.cast(self.mixing(batch), loss.dtype)
            loss = share * loss + (1 - share) * self._loss_before(batch, region, classifier)
        if batch.training:  # frozen weights have a gradient of 0: Keras warns where there is none
            frozen = [ops.sum(v) for v in extractor.variables if v.trainable]
            loss = loss + 0.0 * ops.cast(sum(frozen), loss.dtype)
        return Outcome(loss, colt_margins=margins)

    def _loss_before(self, batch, region, classifier):
        """Loss of the stage before at its own points, everything up to this stage's cut frozen."""
        if self.earlier is None:
            return ops.mean(cross_entropy(logit_margins(batch.logits, batch.labels)))
        extractor, rest = self._cut(self.earlier, batch.given)
        zonotope = self._zonotope(extractor, region, batch)
        points = self.latent_points(zonotope, rest, batch, _STREAM)
        between = Segment(rest.layers[: len(rest.layers) - len(classifier.layers)], rest.given)
        with constants(between) as frozen:
            points = ops.stop_gradient(frozen(points))
        return ops.mean(cross_entropy(self._margins(classifier, points, batch)))

    def _zonotope(self, extractor, region, batch):
        return LatentZonotope.of(extractor, region, batch.seed, self.projections)

    def _margins(self, classifier, points, batch):
        rows = margin_rows(classifier.last, batch.labels)
        return margins_at(classifier, ops.expand_dims(points, 1), rows)

    def latent_points(
        self, zonotope: LatentZonotope, classifier: Segment, batch: Batch, stream: int = 0
    ) -> Tensor:
        """Adversarial points `(batch, ...)` of a zonotope; other streams have other starts."""
        strength = (self.attack_steps, self.attack_step_size)
        seed = batch.seed + _SEED_OFFSET + stream
        return noise_attack(zonotope, classifier, batch.labels, seed, *strength)

    def kernel_norm(self) -> Tensor:
        trained = _Trained(self._cut(self.stage)[1], self.network)
        return l1_penalty(trained)  # type: ignore[arg-type]  # it has what is asked for

    def measured(self, outcome: Outcome) -> list[tuple[keras.Metric, Tensor | None]]:
        margins = outcome.colt_margins
        right = None if margins is None else certified(margins)
        return [*super().measured(outcome), (self.colt_accuracy, right)]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "stage": self.stage,
            "previous": self.previous,
            "stability": self.stability,
            "attack_steps": self.attack_steps,
            "attack_step_size": self.attack_step_size,
            "projections": self.projections,
        }


class _Trained:
    """The affine layers of a network that belong to a segment."""

    def __init__(self, segment, network):
        own = {id(variable) for variable in segment.variables}
        self.affine_layers = [each for each in network.affine_layers if id(each.kernel) in own]


def next_relu(zonotope, classifier):
    """Box of the inputs of the first activation after a `LatentZonotope`.

    Its gradient goes to the layers between the two.

    Args:
        zonotope: `LatentZonotope`.
        classifier: `Segment` after it, with an activation.

    Returns:
        `Interval`, by the zonotope, or estimated where its own bounds are; by interval arithmetic,
        which is exact, where the zonotope is a box.
    """
    nodes = unfold(classifier.layers, classifier.given)
    between = list(takewhile(lambda node: not isinstance(node, Elementwise), nodes))
    arrived, traces = propagate(between, zonotope.out)
    if len(zonotope.shapes) == 1:
        return arrived
    if zonotope.images is not None:
        return through_affine(between, Projected(zonotope.out, zonotope.images)).estimate

    def pull(rows, constant):
        return zonotope.pull(*substitute(between, traces, rows, constant))

    return neuron_bounds(zonotope.box, arrived, pull)

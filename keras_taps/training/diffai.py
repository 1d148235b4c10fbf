"""DiffAI: a box somewhere in the box of the image, bounded by a box or a zonotope."""

from typing import Any

import keras
from keras import ops
from numpy.typing import ArrayLike

from keras_taps import backend
from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import certified, cross_entropy, logit_margins
from keras_taps.bounds.zonotope import ABSTRACTIONS, zonotope_margins
from keras_taps.checks import check_choice, check_real
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.metrics import Share
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.objectives.regions import inclusion_box
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.training.input_attack import InputAttack
from keras_taps.typing import Tensor

_SEED_OFFSET = 3_000_017  # places of another stream than the starts of attacks


class InclusionBox:
    """Mixin, placed before a method, whose region is a box at a random place in the whole box.

    Args:
        network: `IntervalSequential`.
        eps: Radius at which the network is evaluated.
        train_eps: Final radius of training.
        box_share: Final width of that box relative to the whole one, in [0, 1]. It grows with the
            radius.
        **options: As the class after this mixin.

    References:
        Mirman, Singh, Vechev, "A Provable Defense for Deep Residual Networks", 2019.
    """

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        box_share: float = 1.0,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        self.box_share = check_real("box_share", box_share, 0, 1)

    def region(self, batch: Batch) -> Interval:
        if not batch.training:
            return batch.box
        share = self.box_share * self.share_of(batch.eps)
        return inclusion_box(batch.box, self.places(batch), share)

    def places(self, batch: Batch) -> Tensor:
        """Where the boxes of a `Batch` are, a tensor `(batch, ...)` in [0, 1]."""
        return backend.uniform(ops.shape(batch.images), batch.seed + _SEED_OFFSET)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "box_share": self.box_share}


@serializable
class DiffAIModel(InclusionBox, InputAttack, CertifiedModel):
    """Training on an abstract output beside the images: `(1 - w) L(m_adv) + w L(m)`.

    m are upper bounds of the margins over a box at a random place in the whole one, by intervals or
    by a zonotope. Radius, width of that box and w grow together; the published ones in a straight
    line (`EpsAnneal(shape="linear")`). With `bound_weight=1` and intervals it ends as IBP training.

    `diffai_accuracy`, of evaluations, is the share of images that the abstraction certifies over
    the whole box, in float32. Training reports none: its boxes are smaller.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        bound_weight: Final w in [0, 1].
        abstraction: 'box', or how a zonotope takes a ReLU whose input crosses zero: 'hbox',
            'hswitch', 'hdiag', 'hzono' or 'deepz', as `zonotope_margins`. Zonotopes need memory for
            the pixels times the largest layer, for each image.
        box_share: Final width of the box relative to the whole one, in [0, 1].
        pgd_steps: Steps of PGD on the image; 0 takes the clean image in place of m_adv.
        pgd_step_size: Its step relative to the radius.
        **options: `pgd_restarts`, `pgd_radius`, and those of `CertifiedModel`.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> model = DiffAIModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, abstraction="hbox")
    >>> model.compile(keras.optimizers.Adam(1e-3))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'eps', 'loss', 'natural_accuracy']

    References:
        Mirman, Gehr, Vechev, "Differentiable Abstract Interpretation for Provably Robust Neural
        Networks", 2018; Mirman, Singh, Vechev 2019.
    """

    monitor = "val_diffai_accuracy"

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        bound_weight: float = 0.5,
        abstraction: str = "box",
        box_share: float = 1.0,
        pgd_steps: int = 3,
        pgd_step_size: float = 0.5,
        **options: Any,
    ):
        options |= {"pgd_steps": pgd_steps, "pgd_step_size": pgd_step_size}
        super().__init__(network, eps, train_eps, box_share=box_share, **options)
        self.bound_weight = check_real("bound_weight", bound_weight, 0, 1)
        self.abstraction = check_choice("abstraction", abstraction, ABSTRACTIONS)
        self.diffai_accuracy = Share(name="diffai_accuracy")

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        segment = self.network.under(batch.given)
        if self.abstraction == "box":
            margins = ibp_margins(segment, region, batch.labels)
        else:
            margins = zonotope_margins(segment, region, batch.labels, self.abstraction)
        adversarial = self.adversarial_margins(batch) if self.pgd_steps else None
        image = logit_margins(batch.logits, batch.labels) if adversarial is None else adversarial
        weight = self.bound_weight * (self.share_of(batch.eps) if batch.training else 1.0)
        weight = ops.cast(weight, margins.dtype)
        losses = weight * cross_entropy(margins) + (1 - weight) * cross_entropy(image)
        if adversarial is not None:
            adversarial = self.within_eps(batch, adversarial)
        bounds = None if batch.training else margins  # in training of another box
        return Outcome(
            ops.mean(losses),
            bounds if self.abstraction == "box" else None,
            adversarial_margins=adversarial,
            diffai_margins=bounds,
        )

    def measured(self, outcome: Outcome) -> list[tuple[keras.Metric, Tensor | None]]:
        margins = outcome.diffai_margins
        right = None if margins is None else certified(margins)
        return [*super().measured(outcome), (self.diffai_accuracy, right)]

    def get_config(self) -> dict[str, Any]:
        own = {"bound_weight": self.bound_weight, "abstraction": self.abstraction}
        return {**super().get_config(), **own}

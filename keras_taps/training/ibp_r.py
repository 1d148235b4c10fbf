"""IBP-R: adversarial training that presses the IBP boxes of ReLUs to one side of zero."""

from dataclasses import replace
from typing import Any

from keras import ops
from numpy.typing import ArrayLike

from keras_taps.bounds.margins import (
    certified,
    cross_entropy,
    logit_margins,
    margin_rows,
    upper_margins,
)
from keras_taps.checks import check_choice, check_real
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.objectives.stability import instability
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.training.input_attack import InputAttack

_MASKS = (None, "clean", "adversarial")


@serializable
class IBPRModel(InputAttack, CertifiedModel):
    """Adversarial training with a regulariser: how far IBP boxes of ReLU inputs cross zero.

    With k the share of `train_eps` that the radius has reached, the loss of a sample is
    `(1 - k) L(m) + k L(m_adv) + k stability w / n * sum relu(-l) relu(u)`, the sum over the
    neurons of n layers: the ReLUs and, if asked for, the logits. The published radius grows
    linearly: `EpsAnneal(shape="linear")`. Attack and bounds take the same box, that of
    `train_eps`, which is alpha times `eps` in the paper.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`; the published ones are 1.7 and 2.1
            times as large.
        stability: Weight >= 0 of the regulariser, a sum over neurons and so tied to the width.
        mask: Which samples are regularised (w = 1): `None` all, 'clean' those whose image is
            classified right, 'adversarial' those whose attacked image is.
        include_logits: Whether the logits count as one more layer, as in the authors' code.
        pgd_steps: Steps of PGD.
        pgd_step_size: Its step relative to the radius; the published one leads to vertices.
        **options: `pgd_restarts`, `pgd_radius`, and those of `CertifiedModel`.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> model = IBPRModel(cnn3((8, 8, 1), 10, width=1), eps=0.05, train_eps=0.1)
    >>> model.compile(keras.optimizers.SGD(1e-2, momentum=0.9))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'eps', 'ibp_certified_accuracy', 'loss', 'natural_accuracy']

    References:
        De Palma, Bunel, Dvijotham, Kumar, Stanforth, "IBP Regularization for Verified Adversarial
        Robustness via Branch-and-Bound", 2022.
    """

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        stability: float = 1e-3,
        mask: str | None = None,
        include_logits: bool = True,
        pgd_steps: int = 7,
        pgd_step_size: float = 10.0,
        **options: Any,
    ):
        super().__init__(
            network, eps, train_eps, pgd_steps=pgd_steps, pgd_step_size=pgd_step_size, **options
        )
        self.stability = check_real("stability", stability, 0, float("inf"))
        self.mask = check_choice("mask", mask, _MASKS)
        self.include_logits = check_choice("include_logits", include_logits, (True, False))

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        boxes = [] if batch.given.relu_boxes is None else batch.given.relu_boxes
        segment = self.network.under(replace(batch.given, relu_boxes=boxes))
        features = segment.body(region)
        layers = [*boxes, *([segment.last(features)] if self.include_logits else [])]
        clean = logit_margins(batch.logits, batch.labels)
        adversarial = self.adversarial_margins(batch)
        loss = cross_entropy(adversarial)
        if layers and self.stability:
            chosen = {"clean": clean, "adversarial": adversarial}.get(self.mask)
            penalty = self.stability / len(layers) * instability(layers)
            if chosen is not None:
                penalty = penalty * ops.cast(certified(chosen), penalty.dtype)
            loss = loss + penalty
        share = ops.cast(self._share(batch), loss.dtype)
        loss = ops.mean((1 - share) * cross_entropy(clean) + share * loss)
        ibp = upper_margins(margin_rows(segment.last, batch.labels), features)
        return Outcome(loss, ibp, adversarial_margins=self.within_eps(batch, adversarial))

    def _share(self, batch):
        """Share of the final radius that training has reached; 1 in an evaluation."""
        return self.share_of(batch.eps) if batch.training else ops.convert_to_tensor(1.0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "stability": self.stability,
            "mask": self.mask,
            "include_logits": self.include_logits,
        }

"""Expressive losses: between the attacked image and the IBP bound, moved by one number."""

from typing import Any, NamedTuple

from keras import ops
from numpy.typing import ArrayLike

from keras_taps.bounds.margins import margin_rows, point_margins, upper_margins
from keras_taps.checks import check_real
from keras_taps.interval import Interval
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.training.input_attack import InputAttack
from keras_taps.typing import Tensor


class Reached(NamedTuple):
    """What is known of the images of a batch.

    Args:
        ibp: Tensor `(batch, classes - 1)`, upper bounds of the margins over the boxes.
        adversarial: Tensor of the same shape, margins at the attacked images.
        box: `Interval` of the inputs `(batch, features)` of the last layer.
        point: Tensor of these at the attacked images.
    """

    ibp: Tensor
    adversarial: Tensor
    box: Interval
    point: Tensor


class ExpressiveModel(InputAttack, CertifiedModel):
    """Base of the losses that join adversarial margins and IBP margins.

    A method is a subclass with one formula, `mixture`. The same loss serves while eps grows.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        alpha: Share in [0, 1] of the IBP bound: 0 is adversarial training, 1 IBP.
        pgd_steps: Steps of the attack; the published settings take a single long one.
        pgd_step_size: Its step relative to the radius.
        **options: `pgd_restarts`, `pgd_radius`, and those of `CertifiedModel`.

    References:
        De Palma et al., "Expressive Losses for Verified Robustness via Convex Combinations", 2024.
    """

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        alpha: float = 0.5,
        pgd_steps: int = 1,
        pgd_step_size: float = 10.0,
        **options: Any,
    ):
        super().__init__(
            network, eps, train_eps, pgd_steps=pgd_steps, pgd_step_size=pgd_step_size, **options
        )
        self.alpha = check_real("alpha", alpha, 0, 1)

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        segment = self.network.under(batch.given)
        rows = margin_rows(segment.last, batch.labels)
        box, point = segment.body(region), segment.body(self.adversarial_images(batch))
        ibp = upper_margins(rows, box)
        adversarial = point_margins(rows, ops.expand_dims(point, 1))
        loss = ops.mean(self.losses_of(batch, Reached(ibp, adversarial, box, point)))
        return Outcome(loss, ibp, adversarial_margins=self.within_eps(batch, adversarial))

    def losses_of(self, batch: Batch, reached: Reached) -> Tensor:
        """Loss of each sample: the mixture of its margins, to which a teacher may add."""
        return self.mixture(reached.ibp, reached.adversarial)

    def mixture(self, ibp: Tensor, adversarial: Tensor) -> Tensor:
        """Loss of each sample.

        Args:
            ibp: Tensor `(batch, classes - 1)`, upper bounds of the margins.
            adversarial: Tensor of the same shape, margins at the attacked images.

        Returns:
            Tensor `(batch,)`.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}

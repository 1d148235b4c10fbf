"""Expressive losses: between the attacked image and the IBP bound, moved by one number."""

from typing import Any

from keras import ops
from numpy.typing import ArrayLike

from keras_taps.bounds.ibp import ibp_margins
from keras_taps.checks import check_real
from keras_taps.interval import Interval
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.training.input_attack import InputAttack
from keras_taps.typing import Tensor


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
        ibp = ibp_margins(self.network.under(batch.given), region, batch.labels)
        adversarial = self.adversarial_margins(batch)
        loss = ops.mean(self.mixture(ibp, adversarial))
        return Outcome(loss, ibp, adversarial_margins=self.within_eps(batch, adversarial))

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

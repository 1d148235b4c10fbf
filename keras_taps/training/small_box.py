"""The small region: what makes SABR of IBP and STAPS of TAPS."""

from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from keras_taps.checks import check_real
from keras_taps.interval import Interval
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.objectives.regions import small_box
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.input_attack import InputAttack


class SmallBox(InputAttack):
    """Mixin, placed before a method, whose region is a small box around an adversarial image.

    Its bounds hold for the small box alone, so training reports neither certified nor TAPS
    accuracy; evaluation is about the whole box, as always.

    Args:
        network: `IntervalSequential`.
        eps: Radius at which the network is evaluated.
        train_eps: Final radius of training.
        tau_ratio: Width of the small box relative to the whole, in (0, 1]: `lambda` of SABR,
            `tau / eps` of STAPS. 1 is the method without this mixin, exactly.
        relu_shrinkage: Factor in (0, 1] of the upper bounds of crossing ReLUs while training.
        **options: As `InputAttack` and the method.

    References:
        Müller et al., "Certified Training: Small Boxes are All You Need", 2023.
    """

    start_share = 0.5

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        tau_ratio: float = 0.4,
        relu_shrinkage: float = 1.0,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        self.tau_ratio = check_real("tau_ratio", tau_ratio, 0, 1, low_open=True)
        self.relu_shrinkage = check_real("relu_shrinkage", relu_shrinkage, 0, 1, low_open=True)

    def region(self, batch: Batch) -> Interval:
        if not batch.training or self.tau_ratio == 1:
            return batch.box
        return small_box(batch.box, self.adversarial_images(batch), self.tau_ratio)

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        if not batch.training:
            return super().certified_loss(batch, region)
        given = replace(batch.given, relu_shrinkage=self.relu_shrinkage)
        outcome = super().certified_loss(replace(batch, given=given), region)
        if self.tau_ratio == self.relu_shrinkage == 1:
            return outcome
        return outcome._replace(ibp_margins=None, taps_margins=None)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "tau_ratio": self.tau_ratio,
            "relu_shrinkage": self.relu_shrinkage,
        }

"""What methods share that attack the image itself: PGD in the input box, with its arguments."""

import math
from typing import Any

from keras import ops
from numpy.typing import ArrayLike

from keras_taps.attacks.box_attack import box_attack, margins_at
from keras_taps.bounds.margins import margin_rows
from keras_taps.checks import check_count, check_real
from keras_taps.interval import input_box
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training.batch import Batch
from keras_taps.training.search_precision import SearchPrecision
from keras_taps.typing import Tensor

_SEED_OFFSET = 1_000_003  # starts of another stream than those of the latent attack


class InputAttack(SearchPrecision):
    """Mixin, placed before a `CertifiedModel`, that finds adversarial images of a batch.

    Args:
        network: `IntervalSequential`.
        eps: Radius at which the network is evaluated.
        train_eps: Final radius of training.
        pgd_steps: Steps >= 0 of PGD on the cross-entropy.
        pgd_step_size: First step > 0 relative to the radius of each pixel's interval.
        pgd_restarts: Random starts >= 1.
        pgd_radius: Radius > 0 of the attacked box relative to the radius of training; an
            evaluation attacks the box of its radius. Other than 1, `adversarial_accuracy` is
            left out of the training logs, because it would be about another box.
        **options: `search_dtype` as `SearchPrecision`, and those of the class after this mixin.

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """

    start_share = 1.0  # starts are uniform in this share of the box, about its centre

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        pgd_steps: int = 10,
        pgd_step_size: float = 0.2,
        pgd_restarts: int = 1,
        pgd_radius: float = 1.0,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        self.pgd_steps = check_count("pgd_steps", pgd_steps)
        self.pgd_step_size = check_real("pgd_step_size", pgd_step_size, 0, math.inf, low_open=True)
        self.pgd_restarts = check_count("pgd_restarts", pgd_restarts, low=1)
        self.pgd_radius = check_real("pgd_radius", pgd_radius, 0, math.inf, low_open=True)

    def adversarial_images(self, batch: Batch) -> Tensor:
        """The attacked images of a `Batch`, a tensor `(batch, ...)` without gradient."""
        box = batch.box
        if batch.training and self.pgd_radius != 1:
            box = input_box(
                batch.images,
                ops.minimum(batch.eps * self.pgd_radius, batch.domain.width),
                batch.domain,
            )
        points = box_attack(
            self.network.under(batch.given),
            box,
            batch.labels,
            batch.seed + _SEED_OFFSET,
            steps=self.pgd_steps,
            step_size=min(self.pgd_step_size / 2, 1.0),  # of the width; longer ones are clipped
            restarts=self.pgd_restarts,
            estimator="single",
            start_share=self.start_share,
            dtype=self.attack_dtype(batch),
        )
        return points[:, 0]

    def within_eps(self, batch: Batch, margins: Tensor) -> Tensor | None:
        """`margins` for the metrics, or `None` if the attack looked at another box than eps."""
        return margins if self.pgd_radius == 1 or not batch.training else None

    def adversarial_margins(self, batch: Batch) -> Tensor:
        """Margins `(batch, classes - 1)` at the attacked images, with the weights' gradient."""
        segment = self.network.under(batch.given)
        points = ops.expand_dims(self.adversarial_images(batch), 1)
        return margins_at(segment, points, margin_rows(segment.last, batch.labels))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pgd_steps": self.pgd_steps,
            "pgd_step_size": self.pgd_step_size,
            "pgd_restarts": self.pgd_restarts,
            "pgd_radius": self.pgd_radius,
        }

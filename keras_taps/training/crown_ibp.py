"""CROWN-IBP: whole box, a linear bound that gives way to the IBP bound."""

from typing import Any

from keras import ops
from numpy.typing import ArrayLike

from keras_taps.bounds.crown import LinearRelaxation
from keras_taps.bounds.margins import cross_entropy
from keras_taps.checks import check_real
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.typing import Tensor

_FUSED_CLASSES = 20  # from here on a row a class costs more than the fused bound loses


@serializable
class CrownIBPModel(CertifiedModel):
    """Certified training on `b CROWN + (1 - b) IBP`, with b falling from 1 while the radius grows.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        final_crown_weight: b in [0, 1] once the radius is final; 0 is IBP from there on.
        loss_fusion: Whether one fused row bounds the loss, in place of one row a class; by
            default from 20 classes on.
        **options: Those of `CertifiedModel`.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> model = CrownIBPModel(cnn3((8, 8, 1), 10, width=1), eps=0.1)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['eps', 'ibp_certified_accuracy', 'loss', 'natural_accuracy']

    References:
        Zhang et al., "Towards Stable and Efficient Training of Verifiably Robust Neural Networks",
        2020; Xu et al. 2020 (loss fusion).
    """

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        final_crown_weight: float = 0.0,
        loss_fusion: bool | None = None,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        self.final_crown_weight = check_real("final_crown_weight", final_crown_weight, 0, 1)
        if not (loss_fusion is None or isinstance(loss_fusion, bool)):
            raise ValueError(
                f"`loss_fusion` must be True, False or None. Received: loss_fusion={loss_fusion!r}"
            )
        self.loss_fusion = loss_fusion

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        relaxation = LinearRelaxation(self.network.under(batch.given), region, batch.labels)
        ibp = relaxation.ibp_margins()
        fused = self.loss_fusion
        if fused is None:
            fused = self.network.num_classes >= _FUSED_CLASSES

        def mixed(weight):
            if fused:
                loss = weight * relaxation.fused_loss() + (1 - weight) * cross_entropy(ibp)
            else:
                crown = relaxation.crown_margins()
                loss = cross_entropy(weight * crown + (1 - weight) * ibp)
            return ops.mean(loss)

        def after():
            if not self.final_crown_weight:
                return ops.mean(cross_entropy(ibp))
            return mixed(self.final_crown_weight)

        if batch.annealing is False:
            return Outcome(after(), ibp)
        share = self.share_of(batch.eps)
        weight = ops.cast(self.crown_weight(share), ibp.dtype)
        loss = ops.cond(batch.annealing, lambda: mixed(weight), after)
        return Outcome(loss, ibp)

    def crown_weight(self, share: Tensor) -> Tensor:
        """b at `eps = share * train_eps` while the radius grows."""
        return 1 - (1 - self.final_crown_weight) * share

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "final_crown_weight": self.final_crown_weight,
            "loss_fusion": self.loss_fusion,
        }

"""CC-IBP: the cross-entropy of convex combinations of margins; with a teacher CC-Dist."""

from typing import Any

from keras import ops
from numpy.typing import ArrayLike

from keras_taps.bounds.margins import cross_entropy
from keras_taps.checks import check_real
from keras_taps.layers.base import serializable
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training.batch import Batch
from keras_taps.training.expressive import ExpressiveModel, Reached
from keras_taps.training.taught import Taught
from keras_taps.typing import Tensor


@serializable
class CCIBPModel(Taught, ExpressiveModel):
    """Convex combination of margins: `L(alpha m_IBP + (1 - alpha) m_adv)`.

    With a teacher it is CC-Dist: added is `distillation` times the mean over features j, the inputs
    of the last layer, of the largest `(alpha h_j + (1 - alpha) h_j(x_adv) - t_j)^2`, h_j in its
    interval, t_j that of the teacher at the clean image. The mean is our reading of the paper.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        distillation: Weight >= 0 of what a teacher adds.
        **options: `teacher`, which must have as many features, and those of `ExpressiveModel`.

    Raises:
        ValueError: For a value out of range, or a teacher of other inputs, classes or features.

    Example:

    >>> model = CCIBPModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, alpha=0.5)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'eps', 'ibp_certified_accuracy', 'loss', 'natural_accuracy']

    References:
        De Palma et al. 2024, section 4; De Palma, "Learning Better Certified Models from
        Empirically-Robust Teachers", 2026 (CC-Dist).
    """

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        distillation: float = 1.0,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        self.distillation = check_real("distillation", distillation, 0, float("inf"))
        if self.teacher is not None:
            own, its = (each.layers[-1].kernel.shape[0] for each in (network, self.teacher))
            if own != its:
                raise ValueError(
                    f"`teacher` must have {own} inputs of its last layer, as the network has. "
                    f"Received: a teacher with {its}"
                )

    def mixture(self, ibp: Tensor, adversarial: Tensor) -> Tensor:
        return cross_entropy(self.alpha * ibp + (1 - self.alpha) * adversarial)

    def losses_of(self, batch: Batch, reached: Reached) -> Tensor:
        losses = super().losses_of(batch, reached)
        if self.teacher is None:
            return losses
        apart = (1 - self.alpha) * reached.point - self.teacher_features(batch)
        ends = (ops.square(self.alpha * bound + apart) for bound in reached.box)
        return losses + self.distillation * ops.mean(ops.maximum(*ends), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "distillation": self.distillation}

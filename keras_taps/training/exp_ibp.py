"""Exp-IBP: the weighted geometric mean of two cross-entropies."""

from keras import ops

from keras_taps.bounds.margins import cross_entropy
from keras_taps.layers.base import serializable
from keras_taps.training.expressive import ExpressiveModel
from keras_taps.typing import Tensor

_SMALLEST = 1e-8  # in float32 a confident cross-entropy is exactly 0, where a power has no slope


@serializable
class ExpIBPModel(ExpressiveModel):
    """Geometric mean of two losses: `L(m_IBP)^alpha L(m_adv)^(1 - alpha)`, sample by sample.

    The arguments are those of `ExpressiveModel`.

    Example:

    >>> model = ExpIBPModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, alpha=0.5)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'eps', 'ibp_certified_accuracy', 'loss', 'natural_accuracy']

    References:
        De Palma et al. 2024, section 4.
    """

    def mixture(self, ibp: Tensor, adversarial: Tensor) -> Tensor:
        bound, attacked = (
            ops.maximum(cross_entropy(margins), _SMALLEST) for margins in (ibp, adversarial)
        )
        return ops.power(bound, self.alpha) * ops.power(attacked, 1 - self.alpha)

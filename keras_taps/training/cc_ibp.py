"""CC-IBP: the cross-entropy of convex combinations of margins."""

from keras_taps.bounds.margins import cross_entropy
from keras_taps.layers.base import serializable
from keras_taps.training.expressive import ExpressiveModel
from keras_taps.typing import Tensor


@serializable
class CCIBPModel(ExpressiveModel):
    """Convex combination of margins: `L(alpha m_IBP + (1 - alpha) m_adv)`.

    The arguments are those of `ExpressiveModel`.

    Example:

    >>> model = CCIBPModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, alpha=0.5)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'eps', 'ibp_certified_accuracy', 'loss', 'natural_accuracy']

    References:
        De Palma et al. 2024, section 4.
    """

    def mixture(self, ibp: Tensor, adversarial: Tensor) -> Tensor:
        return cross_entropy(self.alpha * ibp + (1 - self.alpha) * adversarial)

"""IBP: full box, IBP bound."""

from keras import ops

from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import cross_entropy
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel


@serializable
class IBPModel(CertifiedModel):
    """Certified training on interval bounds.

    The arguments are those of `CertifiedModel`.

    Example:

    >>> model = IBPModel(cnn3((8, 8, 1), 10, width=1), eps=0.1)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['eps', 'ibp_certified_accuracy', 'loss', 'natural_accuracy']

    References:
        Gowal et al. 2018; Shi et al. 2021; Mao et al. 2023, equation 2.
    """

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        margins = ibp_margins(self.network.under(batch.given), region, batch.labels)
        return Outcome(ops.mean(cross_entropy(margins)), margins)

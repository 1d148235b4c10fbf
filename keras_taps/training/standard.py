"""Plain training: cross-entropy of the clean images, one end of the family."""

from keras import ops

from keras_taps.bounds.margins import cross_entropy, logit_margins
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel


@serializable
class StandardModel(CertifiedModel):
    """Cross-entropy of the clean images; the radius serves the evaluation alone.

    The arguments are those of `CertifiedModel`.

    Example:

    >>> model = StandardModel(cnn3((8, 8, 1), 10, width=1), eps=0.1)
    >>> model.compile(keras.optimizers.Adam(5e-4))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['eps', 'loss', 'natural_accuracy']
    """

    monitor = "val_natural_accuracy"

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        return Outcome(ops.mean(cross_entropy(logit_margins(batch.logits, batch.labels))))

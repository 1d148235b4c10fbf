"""Adversarial training: no box, the attacked image alone, the other end of the family."""

from keras import ops

from keras_taps.bounds.margins import cross_entropy
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.training.input_attack import InputAttack


@serializable
class AdversarialModel(InputAttack, CertifiedModel):
    """PGD training: the cross-entropy at adversarial images. It certifies nothing by itself.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        pgd_steps: Steps of PGD.
        pgd_step_size: Its step relative to the radius.
        **options: `pgd_restarts`, `pgd_radius`, and those of `CertifiedModel`.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> model = AdversarialModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, pgd_steps=2)
    >>> model.compile(keras.optimizers.Adam(5e-4))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'eps', 'loss', 'natural_accuracy']

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """

    monitor = "val_adversarial_accuracy"

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        margins = self.adversarial_margins(batch)
        loss = ops.mean(cross_entropy(margins))
        return Outcome(loss, adversarial_margins=self.within_eps(batch, margins))

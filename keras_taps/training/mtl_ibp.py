"""MTL-IBP: the weighted sum of two cross-entropies; with a teacher AD-CERT."""

from keras import ops

from keras_taps.bounds.margins import cross_entropy
from keras_taps.layers.base import serializable
from keras_taps.training.batch import Batch
from keras_taps.training.expressive import ExpressiveModel, Reached
from keras_taps.training.taught import Taught
from keras_taps.typing import Tensor


@serializable
class MTLIBPModel(Taught, ExpressiveModel):
    """Two tasks at once: `alpha L(m_IBP) + (1 - alpha) L(m_adv)`.

    With a teacher it is AD-CERT: in place of the second cross-entropy stands the divergence
    `KL(teacher at the image || network at the attacked image)`. That the teacher sees the clean
    image is our reading of the paper. A teacher that is sure of every label gives MTL-IBP.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        **options: `teacher` and those of `ExpressiveModel`.

    Raises:
        ValueError: For a value out of range, or a teacher of other inputs or classes.

    Example:

    >>> model = MTLIBPModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, alpha=0.5)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'eps', 'ibp_certified_accuracy', 'loss', 'natural_accuracy']

    References:
        De Palma et al. 2024, section 4; "Improving Certified Robustness via Adversarial
        Distillation", 2026 (AD-CERT).
    """

    def mixture(self, ibp: Tensor, adversarial: Tensor) -> Tensor:
        return self.alpha * cross_entropy(ibp) + (1 - self.alpha) * cross_entropy(adversarial)

    def losses_of(self, batch: Batch, reached: Reached) -> Tensor:
        if self.teacher is None:
            return super().losses_of(batch, reached)
        distilled = divergence(self.teacher_margins(batch), reached.adversarial)
        return self.alpha * cross_entropy(reached.ibp) + (1 - self.alpha) * distilled


def divergence(margins: Tensor, others: Tensor) -> Tensor:
    """Kullback-Leibler divergence of classes, from margins of the wrong ones.

    Args:
        margins: Tensor `(batch, classes - 1)` of `o_i - o_y`, from which others diverge.
        others: Tensor of the same shape.

    Returns:
        Tensor `(batch,)`.
    """
    first, second = (ops.pad(each, ((0, 0), (1, 0))) for each in (margins, others))
    difference = ops.log_softmax(first, axis=-1) - ops.log_softmax(second, axis=-1)
    return ops.sum(ops.softmax(first, axis=-1) * difference, axis=-1)

"""What a teacher adds to a method: a frozen network beside the one that is trained."""

from typing import Any

from keras import ops
from numpy.typing import ArrayLike

from keras_taps.bounds.margins import logit_margins
from keras_taps.networks.load import ModelLike, interval_network
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training.batch import Batch
from keras_taps.typing import Tensor


class Taught:
    """Mixin, placed before a method, with a network that was trained before, if one is given.

    Args:
        network: `IntervalSequential`.
        eps: Radius at which the network is evaluated.
        train_eps: Final radius of training.
        teacher: A network, a model of Keras or of this package, or the path of a `.keras` file or
            run folder, for the same inputs and classes; `None` for none. It is copied, saved with
            the model, and never trained.
        **options: As the class after this mixin.

    Raises:
        ValueError: For a teacher of other inputs or classes.
    """

    NETWORKS = ("network", "teacher")

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        teacher: ModelLike | None = None,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        self.teacher = None if teacher is None else self._frozen(interval_network(teacher))

    def _frozen(self, teacher):
        network = self.network
        if (teacher.input_shape, teacher.num_classes) != (network.input_shape, network.num_classes):
            raise ValueError(
                f"`teacher` must take inputs of shape {network.input_shape[1:]} and tell "
                f"{network.num_classes} classes apart, as the network does. Received: a teacher "
                f"of {teacher.input_shape[1:]} and {teacher.num_classes} classes"
            )
        copy = IntervalSequential.from_config(teacher.get_config())
        copy.set_weights(teacher.get_weights())
        copy.trainable = False
        return copy

    def teacher_features(self, batch: Batch) -> Tensor:
        """Inputs `(batch, features)` of the teacher's last layer at the clean images, constants."""
        return ops.stop_gradient(self.teacher.segment.body(batch.images))

    def teacher_margins(self, batch: Batch) -> Tensor:
        """Margins `(batch, classes - 1)` of the teacher at the clean images, constants."""
        return logit_margins(ops.stop_gradient(self.teacher(batch.images)), batch.labels)

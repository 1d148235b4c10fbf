"""What a training or evaluation step reports: the metrics of certified training."""

from typing import Any

import keras
from keras import ops

from keras_taps.bounds.margins import certified
from keras_taps.metrics import LastValue, Share
from keras_taps.networks.segment import CleanPass
from keras_taps.training.batch import Outcome
from keras_taps.typing import Tensor


class Measures:
    """Mixin of a Keras model with metrics of natural, certified, TAPS and adversarial accuracy.

    A metric for which the method computes nothing is not reported.
    """

    def create_metrics(self) -> None:
        """Create the metrics; called once, by the constructor of the model."""
        self.natural_accuracy = Share(name="natural_accuracy")
        self.ibp_certified_accuracy = Share(name="ibp_certified_accuracy")
        self.taps_accuracy = Share(name="taps_accuracy")
        self.eps_tracker = LastValue(name="eps")
        self.adversarial_accuracy = Share(name="adversarial_accuracy")
        # By training: names of the metrics that such a step does not compute.
        self._without: dict[bool, set[str]] = {}

    def measure(
        self, labels: Tensor, logits: Tensor, outcome: Outcome, training: bool, final: Tensor
    ) -> None:
        """Count a batch.

        Args:
            labels: Integer tensor `(batch,)`.
            logits: Tensor `(batch, classes)` of the clean images.
            outcome: `Outcome` of the method.
            training: Whether this is a training step.
            final: Scalar tensor, 0 while the radius grows and there is no TAPS estimate, else 1;
                or the number 1.
        """
        correct = ops.cast(ops.argmax(logits, axis=-1), "int32") == labels
        self.natural_accuracy.update_state(correct)
        found = self.measured(outcome)
        for metric, values in found:
            if values is not None:
                weighs = metric.name.startswith("taps_") and ops.is_tensor(final)
                weight = final * ops.ones_like(labels, "float32") if weighs else None
                metric.update_state(values, weight)
        self._without[training] = {metric.name for metric, values in found if values is None}

    def measured(self, outcome: Outcome) -> list[tuple[keras.Metric, Tensor | None]]:
        """Pairs of a metric and what an `Outcome` has for it, `(batch,)` or `None`."""
        pairs = (
            (self.ibp_certified_accuracy, outcome.ibp_margins),
            (self.taps_accuracy, outcome.taps_margins),
            (self.adversarial_accuracy, outcome.adversarial_margins),
        )
        return [(metric, None if m is None else certified(m)) for metric, m in pairs]

    def compute_metrics(
        self, x: Tensor, y: Tensor, y_pred: Tensor | CleanPass, sample_weight: Tensor | None = None
    ) -> dict[str, Any]:
        """Metrics of the batch, without those for which the method computes nothing."""
        training = isinstance(y_pred, CleanPass)
        logits = y_pred.logits if training else y_pred
        results = super().compute_metrics(x, y, logits, sample_weight)
        # Keras asks once before any step, to build the metrics.
        without = self._without.get(training, ())
        return {name: value for name, value in results.items() if name not in without}

"""Training on the convex outer polytope of Wong and Kolter: whole box, bounds of fixed slopes."""

from typing import Any

import keras
from keras import ops
from numpy.typing import ArrayLike

from keras_taps.bounds.fixed_slopes import fixed_slope_margins, parallel_nodes
from keras_taps.bounds.margins import certified, cross_entropy
from keras_taps.bounds.projections import projected_margins
from keras_taps.checks import check_count
from keras_taps.interval import Interval
from keras_taps.layers.base import serializable
from keras_taps.metrics import Share
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.typing import Tensor


@serializable
class ConvexModel(CertifiedModel):
    """Certified training on the bounds between parallel lines, every neuron bounded by them.

    The loss is `L(m)` with the margins m of `fixed_slope_margins`; its gradient goes through
    slopes and intermediate bounds. A step sends one row back for each neuron after the first
    activation, which is for small networks; on larger ones let `projections` estimate these
    boxes. The published radius grows in a straight line (`EpsAnneal(shape="linear")`).

    `convex_accuracy` is the share of images that these bounds certify, in float32. Estimates
    certify nothing: with `projections` training does not report it, and evaluation, which is
    always about the exact bounds, takes a row a neuron.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        projections: Number of random projections by which training estimates the boxes of all
            ReLUs but the first, 50 in the paper; `None` for exact ones.
        **options: Those of `CertifiedModel`.

    Raises:
        ValueError: For a value out of range, or a network with a layer that has no slope.

    Example:

    >>> model = ConvexModel(cnn3((8, 8, 1), 10, width=1), eps=0.1)
    >>> model.compile(keras.optimizers.Adam(1e-3))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['convex_accuracy', 'eps', 'loss', 'natural_accuracy']

    References:
        Wong and Kolter, "Provable Defenses against Adversarial Examples via the Convex Outer
        Adversarial Polytope", 2018; Wong et al., "Scaling Provable Adversarial Defenses", 2018
        (projections).
    """

    monitor = "val_convex_accuracy"

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        projections: int | None = None,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        if projections is not None:
            check_count("projections", projections, low=1)
        self.projections = projections
        self.convex_accuracy = Share(name="convex_accuracy")
        parallel_nodes(network.segment.body)  # or says which layer has no slope

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        segment = self.network.under(batch.given)
        if batch.training and self.projections is not None:
            drawn = batch.seed, self.projections
            margins = projected_margins(segment, region, batch.labels, *drawn)
            return Outcome(ops.mean(cross_entropy(margins)))
        margins = fixed_slope_margins(segment, region, batch.labels)
        return Outcome(ops.mean(cross_entropy(margins)), convex_margins=margins)

    def measured(self, outcome: Outcome) -> list[tuple[keras.Metric, Tensor | None]]:
        margins = outcome.convex_margins
        right = None if margins is None else certified(margins)
        return [*super().measured(outcome), (self.convex_accuracy, right)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projections": self.projections}

"""What flows between the base of the training methods and their formulas."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from keras_taps.domain import UNIT, Domain
from keras_taps.interval import Interval, input_box
from keras_taps.layers.passes import PLAIN, Pass
from keras_taps.typing import Tensor


@dataclass(frozen=True)
class Batch:
    """The images of one step, and under what conditions the method meets them.

    Args:
        images: Tensor `(batch, ...)` of values in the domain.
        labels: Integer tensor `(batch,)`.
        logits: Tensor `(batch, classes)` of the clean pass, with its gradient.
        eps: The radius of this step, a scalar tensor or one that broadcasts to one image.
        seed: Tensor of two integers, for random starts.
        annealing: Boolean tensor, whether eps still grows; `False` in an evaluation, and
            where steps are not compiled after the annealing.
        training: Whether this is a training step, in which a method may shrink its box; an
            evaluation is always about the whole box.
        given: `Pass` of everything that follows the clean pass: its moments are replayed.
        domain: `Domain` of the images.
        features: Outputs of the distance layers in the clean pass of a training step, if there are
            any, else `()`.
    """

    images: Tensor
    labels: Tensor
    logits: Tensor
    eps: Tensor
    seed: Tensor
    annealing: Tensor = False
    training: bool = True
    given: Pass = PLAIN
    domain: Domain = UNIT
    features: object = ()

    @cached_property
    def box(self) -> Interval:
        """The whole box, all images within `eps`, cut to their domain."""
        return input_box(self.images, self.eps, self.domain)


class Outcome(NamedTuple):
    """What a method returns for a batch.

    Margins are for the metrics and may be left `None`; those of bounds must be of the whole box.

    Args:
        loss: Scalar tensor, the loss of the method's bound. It is the whole loss while eps grows.
        ibp_margins: Tensor `(batch, classes - 1)` of IBP upper bounds.
        taps_loss: Scalar tensor, mean cross-entropy at the latent points, where there are any.
        taps_margins: Tensor `(batch, classes - 1)`, the margins at the latent points.
        adversarial_margins: Tensor `(batch, classes - 1)`, the margins at attacked images.
        taps_loss_gap: Tensor `(batch,)`, how far the TAPS loss of a sample can be from that with
            every class attacked.
        colt_margins: Tensor `(batch, classes - 1)`, the margins at points of a latent zonotope.
        convex_margins: Tensor `(batch, classes - 1)` of upper bounds by fixed slopes.
        diffai_margins: Tensor `(batch, classes - 1)` of upper bounds by a box or zonotope.
    """

    loss: Tensor
    ibp_margins: Tensor | None = None
    taps_loss: Tensor | None = None
    taps_margins: Tensor | None = None
    adversarial_margins: Tensor | None = None
    taps_loss_gap: Tensor | None = None
    colt_margins: Tensor | None = None
    convex_margins: Tensor | None = None
    diffai_margins: Tensor | None = None

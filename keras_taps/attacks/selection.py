"""Attack only the classes that can matter: the ones with the largest IBP bounds."""

from keras import ops

from keras_taps.attacks.box_attack import features_at
from keras_taps.bounds.margins import MarginRows, cross_entropy, wrong_classes
from keras_taps.checks import check_count
from keras_taps.networks.segment import Segment
from keras_taps.typing import Tensor


def check_estimators(estimators, num_classes):
    """Return `estimators`: 'all', or a number of classes in [1, `num_classes` - 1]."""
    if estimators == "all":
        return estimators
    if not isinstance(estimators, str) and check_count("estimators", estimators) in range(
        1, num_classes
    ):
        return int(estimators)
    raise ValueError(
        f"`estimators` must be 'all' or a number of classes in [1, {num_classes - 1}]. "
        f"Received: {estimators=}"
    )


class Selection:
    """The classes of each sample that are worth an attack, and what becomes of the others.

    A latent point cannot raise the margin of class i above its IBP bound `u_i`, so a class whose
    bound is far below 0 adds next to nothing to the loss, attacked or not. The k classes with the
    largest bounds get points of their own. Any other class is given the largest of its margins at
    these k points: they are in the box, so this too is an estimate from below, and it keeps its
    gradient.

    Args:
        margins: Tensor `(batch, classes - 1)` of IBP upper bounds of the margins.
        labels: Integer tensor `(batch,)`.
        count: How many classes to attack, k in [1, classes - 1].

    Example:

    >>> chosen = Selection(ops.array([[-9.0, 2.0, -8.0]]), ops.array([3]), 1)
    >>> [int(c) for c in chosen.classes[0]]
    [1]

    References:
        This package. The paper attacks every class (Mao et al. 2023, section 3.3, "multi").
    """

    def __init__(self, margins: Tensor, labels: Tensor, count: int):
        self._bounds = ops.stop_gradient(margins)
        wrong = margins.shape[-1]
        _, places = ops.top_k(self._bounds, count)
        self.classes = ops.take_along_axis(wrong_classes(labels, wrong + 1), places, axis=1)
        self._points_of = ops.one_hot(places, wrong, dtype=margins.dtype)  # (batch, k, wrong)
        self._chosen = ops.max(self._points_of, axis=1) > 0

    def margins_at(self, segment: Segment, points: Tensor, rows: MarginRows) -> Tensor:
        """Margins of all wrong classes from the points of the chosen ones.

        Args:
            segment: `Segment` that ends in the Dense layer from which `rows` come.
            points: Tensor `(batch, k, ...)`, in the order of `classes`.
            rows: `MarginRows` of all wrong classes.

        Returns:
            Tensor `(batch, classes - 1)`.
        """
        features = features_at(segment.body, points)
        found = ops.einsum("bkf,bnf->bkn", features, rows.weights) + rows.bias[:, None]
        own = ops.sum(found * self._points_of, axis=1)
        return ops.where(self._chosen, own, ops.max(found, axis=1))

    def loss_gap(self, margins: Tensor) -> Tensor:
        """Bound on what attacking the other classes too could change in the loss of each sample.

        With A the sum of `exp(margin)` over the chosen classes and U the sum of `exp(u)` over the
        others, the loss lies between `ln(1 + A)` and `ln(1 + A + U)` whatever points the others
        are given. This is the difference, at most U.

        Args:
            margins: Tensor `(batch, classes - 1)` from `margins_at`.

        Returns:
            Tensor `(batch,)` of numbers >= 0, without gradient.
        """
        margins = ops.stop_gradient(margins)
        least = ops.where(self._chosen, margins, -float("inf"))
        most = ops.where(self._chosen, margins, self._bounds)
        return cross_entropy(most) - cross_entropy(least)

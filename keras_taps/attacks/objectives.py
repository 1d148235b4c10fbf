"""What an attack on a classifier maximises, as functions of the margins `o_i - o_y`."""

from keras import ops

from keras_taps.bounds.margins import cross_entropy
from keras_taps.checks import check_choice

OBJECTIVES = ("cross-entropy", "margin", "dlr")

_TINY = 1e-12  # keeps the ratio finite where the compared logits are equal


def worst_margin(margins):
    """Largest margin of a wrong class: at least 0 where the point is misclassified or tied.

    Args:
        margins: Tensor `(batch, classes - 1)`.

    Returns:
        Tensor `(batch,)`.
    """
    return ops.max(margins, axis=-1)


def dlr(margins):
    """Difference of logits ratio: the worst margin over the gap of the first and third logit.

    Scaling the logits does not change it, so vanishing gradients of confident networks do not
    stop the attack.

    Args:
        margins: Tensor `(batch, classes - 1)` of three classes or more.

    Returns:
        Tensor `(batch,)`.

    Example:

    >>> float(dlr(ops.array([[-1.0, -4.0]]))[0])
    -0.25

    References:
        Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", 2020, equation 6.
    """
    first, _, third = _largest_logits(margins, 3)
    return worst_margin(margins) / (first - third + _TINY)


def target_margin(margins, targets):
    """Margin of one wrong class.

    Args:
        margins: Tensor `(batch, classes - 1)`.
        targets: Integer tensor `(batch,)`, which of the wrong classes in ascending order.

    Returns:
        Tensor `(batch,)`.
    """
    return ops.take_along_axis(margins, ops.expand_dims(targets, -1), axis=-1)[..., 0]


def target_dlr(margins, targets):
    """Targeted DLR: the margin of one class over the gap of the first and the next-best logits.

    Args:
        margins: Tensor `(batch, classes - 1)` of four classes or more.
        targets: As in `target_margin`.

    Returns:
        Tensor `(batch,)`.

    References:
        Croce & Hein 2020, equation 7.
    """
    first, _, third, fourth = _largest_logits(margins, 4)
    return target_margin(margins, targets) / (first - (third + fourth) / 2 + _TINY)


def until_broken(value, margins):
    """`value`, and infinity where some margin is at least 0.

    So a point that breaks the network is better than any that does not, whatever is maximised,
    and has no gradient that would move it on.

    Args:
        value: Tensor `(batch,)`.
        margins: Tensor `(batch, classes - 1)`.

    Returns:
        Tensor `(batch,)`.
    """
    return ops.where(ops.any(margins >= 0, axis=-1), float("inf"), value)


def image_objective(name, targeted, num_classes):
    """The function that an attack on images maximises.

    Args:
        name: One of 'cross-entropy', 'margin' and 'dlr'; `None` is the cross-entropy, or the
            margin if `targeted`.
        targeted: Whether each point is about one wrong class.
        num_classes: Number of logits.

    Returns:
        Function of margins `(batch, classes - 1)` and targets `(batch,)`.

    Raises:
        ValueError: If there is no such objective, or too few classes for it.
    """
    name = ("margin" if targeted else "cross-entropy") if name is None else name
    check_choice("objective", name, OBJECTIVES)
    if targeted and name == "cross-entropy":
        raise ValueError(
            "`objective` of a targeted attack must be 'margin' or 'dlr'. "
            f"Received: objective={name!r}"
        )
    needed = 3 + bool(targeted)
    if name == "dlr" and num_classes < needed:
        raise ValueError(
            f"`objective='dlr'` compares the {needed} largest logits{' if targeted' * targeted}, "
            "so it needs as many classes; accepted here: 'margin'. "
            f"Received: a network of {num_classes} classes"
        )
    if targeted:
        return {"margin": target_margin, "dlr": target_dlr}[name]
    chosen = {"cross-entropy": cross_entropy, "margin": worst_margin, "dlr": dlr}[name]
    return lambda margins, targets: chosen(margins)


def _largest_logits(margins, count):
    """The `count` largest logits relative to the true one, each a tensor `(batch,)`."""
    logits = ops.concatenate([ops.zeros_like(margins[..., :1]), margins], -1)
    return ops.unstack(ops.top_k(logits, count)[0], axis=-1)

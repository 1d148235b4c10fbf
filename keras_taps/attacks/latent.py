"""The TAPS estimate of the margins of any network, for metrics."""

from keras_taps.attacks.box_attack import box_attack, margins_at
from keras_taps.bounds.margins import margin_rows


def taps_margins(network, box, labels, classifier_relus, seed, steps=20, restarts=1):
    """Margins of the latent adversarial points: box through the extractor, attack the classifier.

    An input counts for **TAPS accuracy** when all of them are below 0. The estimate is not a bound:
    the box over-approximates, the attack under-approximates.

    Args:
        network: `IntervalSequential`.
        box: `Interval` of images, tensors `(batch, ...)`.
        labels: Integer tensor `(batch,)`.
        classifier_relus: ReLUs after the split; with 0 the attack is exact up to its steps.
        seed: Tensor of two integers for the random starts.
        steps: Gradient steps.
        restarts: Random starts.

    Returns:
        Tensor `(batch, num_classes - 1)`.

    References:
        Mao et al. 2023, section 3.1 and appendix C ("TAPS accuracy").
    """
    extractor, classifier = network.split(classifier_relus)
    points = box_attack(classifier, extractor(box), labels, seed, steps, restarts=restarts)
    return margins_at(classifier, points, margin_rows(classifier.last, labels))

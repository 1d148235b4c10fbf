"""What is measured of a trained network for each kind of target."""

from keras_taps.attacks.latent import taps_margins
from keras_taps.bounds.margins import certified
from keras_taps.interval import input_box
from keras_taps.reproduction.approximation import TIMEOUT, approximations
from keras_taps.reproduction.batches import over_batches
from keras_taps.reproduction.results import packed


def accuracies(workshop, run):
    """Shares of the certified images in percent, and times.

    Returns:
        Dictionary: `natural`, `adversarial`, `certified` (by all stages), `certified_ibp`,
        `certified_crown_ibp`, `unknown`, `count`, `certify_seconds`, `mean_certify_seconds`; and
        `held`, which images are natural and certified, as `packed`.
    """
    report = workshop.report(run)
    shares, by = report.accuracies(), report.certified_by()
    seconds = sum(record["seconds"] for record in report.records)
    verdicts = {record["index"]: record["verdict"] for record in report.records}
    verdicts = [verdicts[index] for index in sorted(verdicts)]
    return {
        **{name: 100 * shares[name] for name in ("natural", "adversarial", "certified")},
        "certified_ibp": 100 * by["ibp"],
        "certified_crown_ibp": 100 * by["crown-ibp"],
        "unknown": 100 * shares["unknown"],
        "count": shares["count"],
        "certify_seconds": seconds,
        "mean_certify_seconds": seconds / max(shares["count"], 1),
        "held": {
            "natural": packed([verdict != "misclassified" for verdict in verdicts]),
            "certified": packed([verdict == "certified" for verdict in verdicts]),
        },
    }


def estimates(workshop, run):
    """Natural and TAPS accuracy in percent, of all test images."""
    metrics = workshop.metrics(run)
    return {
        "natural": 100 * metrics["natural_accuracy"],
        "taps": 100 * metrics["taps_accuracy"],
        "count": metrics["count"],
    }


def goodness(workshop, run):
    """TAPS accuracy of the same images that are certified, beside what is proved of them."""
    found = accuracies(workshop, run)
    split = run.load_best().classifier_relus
    images = workshop.images(run, found["count"])
    return {**found, "taps": 100 * taps_accuracy(run, images, [split])[split]}


def splits(workshop, run):
    """TAPS accuracy in percent at every split of the test."""
    relus = run.load_best().network.legal_splits
    images = workshop.images(run)
    found = taps_accuracy(run, images, [split for split in relus if split])
    shares = {str(split): 100 * share for split, share in found.items()}
    return {"taps_by_split": shares, "count": len(images[1])}


def taps_accuracy(run, images, relus):
    """Share of images whose TAPS estimate is robust at the radius of a run.

    Args:
        run: `Run` that is trained.
        images: Tuple of images and labels.
        relus: Splits of the estimate, numbers of ReLUs in the classifier, at least 1.

    Returns:
        Dictionary from splits to shares in [0, 1].
    """
    network = run.load_best().network
    found = {}
    for split in relus:

        def robust(x, labels, seed, split=split):
            margins = taps_margins(network, input_box(x, run.recipe.eps), labels, split, seed)
            return (certified(margins),)

        (held,) = over_batches(robust, network, *images)
        found[split] = float(held.mean())
    return found


def limits_text(kind, scale):
    """When the measuring of an image ends, in a sentence; "" if it always does."""
    if kind == "approximation":
        return f" An exact search ends after {TIMEOUT} s."
    if kind in ("accuracies", "goodness"):
        return f" Certification ends after {scale.timeout:g} s an image."
    return ""


MEASURES = {
    "accuracies": accuracies,
    "estimates": estimates,
    "goodness": goodness,
    "splits": splits,
    "approximation": approximations,
}

"""One table row for a trained model: natural, PGD, IBP-certified and TAPS accuracy."""

import numpy as np

from keras_taps.attacks import adversarial_accuracy

COLUMNS = {
    "natural_accuracy": "natural",
    "pgd_accuracy": "PGD",
    "ibp_certified_accuracy": "IBP-certified",
    "taps_accuracy": "TAPS accuracy",
}
PGD_STEPS = 40


def evaluate_robustness(model, x, y, eps=None, batch_size=256, progress=None):
    """Evaluate a certified training model on test images.

    Args:
        model: `CertifiedModel`, compiled.
        x: Array `(count, ...)` of images in the domain of the model.
        y: Array `(count,)` of labels.
        eps: Radius, a number or an array that broadcasts to one image; by default the model's.
        batch_size: Images at a time.
        progress: Called with a short text before each stage.

    Returns:
        Dictionary of shares in [0, 1]: `natural_accuracy`, `pgd_accuracy` (40 steps),
        `ibp_certified_accuracy` (float32 bounds), `taps_accuracy` (an estimate, not a bound; not of
        networks without a split), and `count`.
    """
    progress = progress or (lambda text: None)
    if eps is not None and not np.array_equal(eps, model.eps):
        model = model.at_eps(eps)
    progress("natural, IBP-certified and TAPS accuracy")
    shares = model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
    progress(f"PGD, {PGD_STEPS} steps")
    shares["pgd_accuracy"] = adversarial_accuracy(
        model, x, y, model.eps, steps=PGD_STEPS, batch_size=batch_size
    )
    found = {name: float(shares[name]) for name in COLUMNS if name in shares}
    return {**found, "count": len(x)}

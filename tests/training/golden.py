"""Losses and gradients of every method on one batch with given points, for every backend to match.

    python -m tests.training.golden

writes family.json with the numbers of the backend in use. Weights, images and points come from
NumPy; what is compared is the mathematics, the attacks have their own tests.
"""

import json
from pathlib import Path

import numpy as np
from keras import ops

from keras_taps.networks import distance_net, sortnet_mlp
from keras_taps.training import METHODS
from tests.helpers import dense_network, images, numbers, randomise
from tests.training.steps import fixed_points, loss_and_gradients

FILE = Path(__file__).with_name("family.json")
EPS = 0.08
OPTIONS = {
    "crown-ibp": {"final_crown_weight": 0.7},
    "crown-ibp, fused": {"final_crown_weight": 0.7, "loss_fusion": True},
    "crown-ibp, annealing": {"loss_fusion": False},
    "sabr": {"tau_ratio": 0.6},
    "sabr, shrinkage": {"tau_ratio": 0.6, "relu_shrinkage": 0.8},
    "taps, alone": {"objective": "taps"},
    "taps, single": {"estimator": "single"},
    "taps, one class": {"estimators": 1},
    "staps": {"tau_ratio": 0.6, "relu_shrinkage": 0.8},
    "staps, annealing": {"tau_ratio": 0.6},
    "cc-ibp": {"alpha": 0.3},
    "mtl-ibp": {"alpha": 0.3},
    "exp-ibp": {"alpha": 0.3},
    "cc-ibp, taught": {"alpha": 0.3, "distillation": 2.0},
    "mtl-ibp, taught": {"alpha": 0.3},
    "colt": {"stage": 0, "stability": 0.1},
    "colt, stage": {"stage": 1, "stability": 0.1},
    "colt, annealing": {"stage": 1, "stability": 0.1, "l1": 1e-3},
    "diffai": {"box_share": 0.6},
    "diffai, annealing": {"bound_weight": 0.7, "pgd_steps": 0},
    "diffai, hbox": {"abstraction": "hbox", "box_share": 0.6},
    "diffai, deepz": {"abstraction": "deepz", "pgd_steps": 0},
    "ibp-r": {"stability": 0.1},
    "ibp-r, annealing": {"stability": 0.1, "include_logits": False, "mask": "adversarial"},
    "ibp-r, mask": {"stability": 0.1, "mask": "clean"},
    "sortnet": {"train_eps": 1.0, "clean_weight": 0.5},
    "sortnet, annealing": {"train_eps": 1.0, "clean_weight": 0.5},
    "sortnet, mlp": {"train_eps": 0.1, "clean_weight": 0.5},
    "sortnet, mlp, annealing": {"train_eps": 0.1, "eps_share": 1.0},
}
CASES = sorted({*METHODS, *OPTIONS})


def with_fixed_points(cls):
    """The method `cls` with adversarial images and latent points at fixed shares of their boxes."""

    class Fixed(cls):
        def adversarial_images(self, batch):
            box = batch.box
            share = numbers(*box.lower.shape, seed=7, low=0)
            return ops.stop_gradient(box.lower + ops.convert_to_tensor(share) * box.width)

        def places(self, batch):
            return ops.convert_to_tensor(numbers(*batch.images.shape, seed=5, low=0))

        def latent_attack(self, classifier, features, batch, classes=None):
            count = classifier.layers[-1].units - 1 if classes is None else classes.shape[1]
            return fixed_points(features, 1 if self.estimator == "single" else count)

        def latent_points(self, zonotope, classifier, batch, stream=0):
            errors = numbers(len(batch.labels), zonotope.size, seed=stream)
            return ops.stop_gradient(zonotope.points(ops.convert_to_tensor(errors)))

    return Fixed


def measure(case):
    """Loss of a case and, for each weight, the sum and the norm of its gradient."""
    x, y = images(8, (6,))
    network = dense_network(batch_norm=True, seed=3)
    if case.startswith("sortnet"):
        x, y = images(8, (3, 2, 1))
        make = sortnet_mlp if "mlp" in case else distance_net
        network = randomise(make((3, 2, 1), 3, width=5, depth=4), 3)
    options = OPTIONS.get(case, {})
    if "taught" in case:
        options = {**options, "teacher": dense_network(batch_norm=True, seed=9)}
    model = with_fixed_points(METHODS[case.split(",")[0]])(network, EPS, **options)
    if "annealing" in case:
        model.set_annealing(0, 10)
        model.step.assign(6)
    loss, gradients = loss_and_gradients(model, x, y)
    return {
        "loss": loss,
        "sums": [float(g.sum()) for g in gradients],
        "norms": [float(np.linalg.norm(g)) for g in gradients],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps({case: measure(case) for case in CASES}, indent=1) + "\n")

"""Attacks: one PGD loop, used in latent boxes for training and in input boxes for evaluation."""

from keras_taps.attacks.box_attack import box_attack, margins_at
from keras_taps.attacks.input_space import adversarial_accuracy, pgd_attack
from keras_taps.attacks.pgd import maximise, step_sizes

__all__ = [
    "adversarial_accuracy",
    "box_attack",
    "margins_at",
    "maximise",
    "pgd_attack",
    "step_sizes",
]

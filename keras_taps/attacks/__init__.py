"""Attacks: one PGD loop, used in latent boxes for training and in input boxes for evaluation."""

from keras_taps.attacks.apgd import auto_maximise
from keras_taps.attacks.box_attack import box_attack, margins_at
from keras_taps.attacks.falsifier import Falsifier, falsify
from keras_taps.attacks.input_space import PAPER_ATTACK, adversarial_accuracy, pgd_attack
from keras_taps.attacks.pgd import maximise, step_sizes
from keras_taps.attacks.selection import Selection
from keras_taps.attacks.suite import attack_suite

__all__ = [
    "PAPER_ATTACK",
    "Falsifier",
    "Selection",
    "adversarial_accuracy",
    "attack_suite",
    "auto_maximise",
    "box_attack",
    "falsify",
    "margins_at",
    "maximise",
    "pgd_attack",
    "step_sizes",
]

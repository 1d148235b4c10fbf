"""STAPS: small box, latent attack x IBP."""

from keras_taps.layers.base import serializable
from keras_taps.training.small_box import SmallBox
from keras_taps.training.taps import TAPSModel


@serializable
class STAPSModel(SmallBox, TAPSModel):
    """TAPS on the small box of SABR, for its propagation and for its IBP factor.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        tau_ratio: Width of the small box relative to the whole, `tau / eps` in (0, 1]; 1 is TAPS.
        relu_shrinkage: Factor in (0, 1] of the upper bounds of crossing ReLUs while training; 0.8
            in the paper's setting CIFAR-10 2/255.
        **options: Those of `TAPSModel`, and `pgd_steps`, `pgd_step_size`, `pgd_restarts`,
            `pgd_radius` as `SABRModel`.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> model = STAPSModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, attack_steps=2, pgd_steps=2)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['eps', 'loss', 'natural_accuracy']

    References:
        Mao et al., "Connecting Certified and Adversarial Training", 2023, section 3.5.
    """

"""SABR: small box, IBP bound."""

from keras_taps.layers.base import serializable
from keras_taps.training.ibp import IBPModel
from keras_taps.training.small_box import SmallBox


@serializable
class SABRModel(SmallBox, IBPModel):
    """Certified training on interval bounds of a small box around an adversarial image.

    Args:
        network: `IntervalSequential` that ends in a Dense layer of logits.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Final radius of training, by default `eps`.
        tau_ratio: Width of the small box relative to the whole, `lambda` in (0, 1]; 1 is IBP.
        relu_shrinkage: Factor in (0, 1] of the upper bounds of crossing ReLUs while training.
        pgd_steps: Steps of the attack that finds the centre.
        pgd_step_size: Its step relative to the radius.
        **options: `pgd_restarts`, `pgd_radius`, and those of `CertifiedModel`.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> model = SABRModel(cnn3((8, 8, 1), 10, width=1), eps=0.1, tau_ratio=0.4)
    >>> model.compile(keras.optimizers.Adam(5e-4, global_clipnorm=10.0))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['eps', 'loss', 'natural_accuracy']

    References:
        Müller et al., "Certified Training: Small Boxes are All You Need", 2023.
    """

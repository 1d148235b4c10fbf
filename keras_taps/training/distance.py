"""l_inf-distance nets and SortNet: norms that grow into maxima, a hinge at the certificate."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_taps.bounds.ibp import ibp_margins
from keras_taps.bounds.margins import certified, cross_entropy, logit_margins
from keras_taps.checks import check_real
from keras_taps.interval import Interval, as_interval
from keras_taps.layers import IntervalDistance, Pass, Relaxation
from keras_taps.layers.base import serializable
from keras_taps.layers.residual import walk
from keras_taps.networks.segment import CleanPass, Segment
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.schedules import progress, smooth_eps
from keras_taps.training.batch import Batch, Outcome
from keras_taps.training.certified_model import CertifiedModel
from keras_taps.typing import Tensor

_INFINITE = 1e6  # a norm that differs from the maximum by less than float32 does in training


@serializable
class DistanceNetModel(CertifiedModel):
    """Training of distance nets: their shape certifies, so no box and no attack is trained.

    Norms of power p take the place of the maxima; p grows exponentially along the ramp that
    `EpsAnneal` sets, and is infinite after it. With o the logits, s their learned scale and L the
    cross-entropy, a `distance_net` is trained on

    `mean max_i clip(1 + (o_i - o_y) / (2 train_eps), 0, 1) + w L(s o)`,

    where w falls exponentially along the ramp. With Dense layers after the distance layers
    (`sortnet_mlp`), the first term is `max(0, 1 + max_i m_i)` of the images that are classified
    right: m are the IBP bounds of the margins over the box of radius `train_eps` about the
    features. Radii are divided by the smallest deviation of the input normalisation.

    At finite p a network is not 1-Lipschitz, so a training step reports no certified accuracy;
    evaluation takes maxima and intervals. It needs mean shifts of the exact network:
    `BatchNormReestimation` takes them before each validation. Give Adam a small `epsilon`, for
    gradients shrink as p grows. The weight decay of an optimizer leaves the centres alone.

    Args:
        network: `IntervalSequential` of distance layers, from `distance_net` or `sortnet_mlp`.
        eps: Radius at which the network is evaluated, pixel units in [0, 1].
        train_eps: Radius > 0 of the hinge, by default `eps`; published are 1.5 to 4 times as
            large, with Dense layers 1.1 times.
        power: p >= 1 at the start of the ramp.
        final_power: p at its end, at least `power`.
        clean_weight: w > 0 at the start of the ramp.
        final_clean_weight: w > 0 at its end.
        eps_share: Share in [0, 1] of the steps up to the end of the ramp, over which the radius
            grows from 0; for networks with Dense layers.
        **options: `l1`, `seed`, `name` of `CertifiedModel`; there is no split.

    Raises:
        ValueError: For a value out of range, or a network without distance layers.

    Example:

    >>> model = DistanceNetModel(distance_net((8, 8, 1), 10, width=16, depth=3), eps=0.1)
    >>> model.compile(keras.optimizers.AdamW(0.02, beta_2=0.99, epsilon=1e-10))
    >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['eps', 'loss', 'natural_accuracy']

    References:
        Zhang et al., "Boosting the Certified Robustness of L-infinity Distance Nets", 2022;
        Zhang et al., "Rethinking Lipschitz Neural Networks and Certified Robustness: A Boolean
        Function Perspective" (SortNet), 2022.
    """

    monitor = "val_ibp_certified_accuracy"

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        power: float = 8.0,
        final_power: float = 1000.0,
        clean_weight: float = 0.1,
        final_clean_weight: float = 0.001,
        eps_share: float = 0.0,
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        if not np.any(self.train_eps):
            raise ValueError("`train_eps` must be above 0, for margins are divided by it.")
        self.power = check_real("power", power, 1, _INFINITE)
        self.final_power = check_real("final_power", final_power, self.power, _INFINITE)
        for name, value in (
            ("clean_weight", clean_weight),
            ("final_clean_weight", final_clean_weight),
        ):
            setattr(self, name, check_real(name, value, 0, math.inf, low_open=True))
        self.eps_share = check_real("eps_share", eps_share, 0, 1)
        self.logit_scale = self.add_weight((), "ones", name="logit_scale")
        layers = network.layers
        after = max(i for i, layer in enumerate(layers) if isinstance(layer, IntervalDistance)) + 1
        self._parts = tuple(layers[:after]), tuple(layers[after:])
        self._has_mlp = any(layer.trainable_variables for layer in self._parts[1])
        pixels = Interval(*(f((1, *network.input_shape[1:])) for f in (ops.zeros, ops.ones)))
        # How far the normalisation can move an input, relative to its pixel.
        self.stretch = float(ops.max(walk(network.leading_normalization, pixels).width))

    def checked_split(self, network: IntervalSequential, classifier_relus: int | None) -> None:
        chain = [layer for layer in network.layers if isinstance(layer, IntervalDistance)]
        if not chain or len(chain) < len(network.distances):
            raise ValueError(
                "`network` must have distance layers, none of them in a residual block: see "
                "`distance_net` and `sortnet_mlp`. Received: network "
                f"'{network.name}' with {len(chain)} of them"
            )
        if network.trainable_batch_norms:
            raise ValueError(
                "`network` must have no trainable BatchNormalization; distance layers shift by "
                f"their means. Received: layer '{network.trainable_batch_norms[0].name}'"
            )
        if classifier_relus is not None:
            raise ValueError(
                "`classifier_relus` must be None: a distance net has no split. Received: "
                f"classifier_relus={classifier_relus}"
            )

    def compile(self, optimizer: str | keras.Optimizer = "adam", **options: Any) -> None:
        """As `CertifiedModel.compile`; weight decay leaves the centres and biases of distances."""
        super().compile(optimizer, **options)
        if getattr(self.optimizer, "weight_decay", None) and not self.optimizer.built:
            own = [variable for layer in self.network.distances for variable in layer.weights]
            self.optimizer.exclude_from_weight_decay(var_list=own)

    def scheduled_eps(self) -> tuple[Tensor, Tensor]:
        """The radius grows over `eps_share` of the ramp; while p grows, `annealing` is true."""
        _, step, _, end = self.ramp()
        eps = ops.convert_to_tensor(self.train_eps, dtype="float32")
        if self.eps_share:
            eps = smooth_eps(step, 0, self.eps_share * ops.cast(end, "float32"), self.train_eps)
        return step < end, eps

    def relaxation(self) -> Relaxation:
        """The `Relaxation` of the step to come."""
        _, step, _, end = self.ramp()
        power = ops.where(step < end, self._along(0, self.power, self.final_power), _INFINITE)
        return Relaxation(power, self.step_seed())

    def _along(self, taken, first, last):
        """What grows exponentially from one number to another, so many steps ago."""
        _, step, start, end = self.ramp()
        return first * (last / first) ** progress(step - taken, start, end)

    def call(
        self, inputs: Tensor | Interval, training: bool | None = None
    ) -> Tensor | Interval | CleanPass:
        if not training or as_interval(inputs) is not None:
            return self.network(inputs, training=training)
        given = Pass(taken={}, relaxation=self.relaxation())
        distances, rest = (Segment(part, given) for part in self._parts)
        features = distances(inputs)
        return CleanPass(rest(features), (), features)

    def certified_loss(self, batch: Batch, region: Interval) -> Outcome:
        margins = logit_margins(batch.logits, batch.labels)
        if self._has_mlp:
            hinge = self._hinge_of_features(batch, margins)
        else:
            reach = 2 * self.stretch * float(np.max(self.train_eps))
            # The maximum comes first: of clipped numbers, XLA may find none that is equal to it.
            hinge = ops.clip(1 + ops.max(margins, axis=-1) / reach, 0.0, 1.0)
        # The counter has moved on in training.
        weight = self._along(int(batch.training), self.clean_weight, self.final_clean_weight)
        clean = cross_entropy(self.logit_scale * margins)
        return Outcome(ops.mean(hinge + ops.cast(weight, hinge.dtype) * clean))

    def _hinge_of_features(self, batch, margins):
        centre = batch.features if batch.training else Segment(self._parts[0])(batch.images)
        radius = ops.cast(self.stretch * ops.max(batch.eps), centre.dtype)
        box = Interval(centre - radius, centre + radius)
        bounds = ibp_margins(Segment(self._parts[1]), box, batch.labels)
        right = ops.cast(certified(margins), bounds.dtype)
        return right * ops.relu(1 + ops.max(bounds, axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "power": self.power,
            "final_power": self.final_power,
            "clean_weight": self.clean_weight,
            "final_clean_weight": self.final_clean_weight,
            "eps_share": self.eps_share,
        }

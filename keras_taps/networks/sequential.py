"""A network as a sequence of interval layers, and its split into extractor and classifier.

It is long because what Keras asks of a model (building, weights, files) stands beside the split.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import takewhile
from typing import Any

import keras

from keras_taps.checks import check_count
from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import serializable
from keras_taps.layers.conv2d import IntervalConv2D, IntervalDepthwiseConv2D
from keras_taps.layers.dense import IntervalDense, check_logits
from keras_taps.layers.distance import IntervalDistance
from keras_taps.layers.passes import PLAIN, Pass, forgotten_moments, used_twice
from keras_taps.layers.residual import (
    IntervalResidual,
    build_chain,
    check_interval_layers,
    unrolled,
)
from keras_taps.layers.shaping import (
    IntervalDropout,
    IntervalFlatten,
    IntervalReshape,
    IntervalTrainingOnly,
)
from keras_taps.networks.segment import CleanPass, Segment
from keras_taps.typing import Shape, Tensor

_MOVES = (IntervalFlatten, IntervalReshape)
_AFFINE = (IntervalDense, IntervalConv2D, IntervalDepthwiseConv2D)


@serializable
class IntervalSequential(keras.Model):
    """A classifier built from interval layers, one after the other.

    On a tensor of images it returns logits, on an `Interval` the box of logits. (A stock
    `keras.Sequential` drops the upper bound of a pair.)

    Args:
        layers: List of interval layers; a first `keras.Input` may stand for `input_shape`.
        input_shape: Shape of one image, `(height, width, channels)`; builds the network at once.
        name: Name of the model.

    Raises:
        ValueError: If there is no layer, no input shape, or a layer that takes no boxes.

    Example:

    >>> network = IntervalSequential(
    ...     [IntervalDense(8, activation="relu"), IntervalDense(3)], input_shape=(4,))
    >>> ops.shape(network(input_box(ops.ones((2, 4)), 0.1)).upper)
    (2, 3)

    References:
        Mao et al., "Connecting Certified and Adversarial Training", 2023, section 3.1 (the split).
    """

    def __init__(
        self,
        layers: Iterable[keras.Layer],
        input_shape: Shape | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name, autocast=False)  # each layer casts to its own precision
        layers = list(layers)
        if layers and isinstance(layers[0], (keras.KerasTensor, keras.layers.InputLayer)):
            first = layers.pop(0)
            shape = getattr(first, "batch_shape", None) or first.shape
            input_shape = input_shape or shape[1:]
        if not layers or input_shape is None:
            raise ValueError(
                "IntervalSequential needs at least one layer and an `input_shape`, as an argument "
                f"or as a first keras.Input. Received: {len(layers)} layers, {input_shape=}"
            )
        check_interval_layers(layers)
        self._chain = layers
        self._replays_in: int | None = None  # the thread that is in a training step
        self._image_shape = tuple(input_shape)
        self._logits_shape = build_chain(layers, (None, *self._image_shape))
        self.built = True

    @property
    def layers(self) -> list[keras.Layer]:
        """The layers in order."""
        return list(self._chain)

    @property
    def input_shape(self) -> Shape:
        """Shape of a batch of images, `(None, ...)`."""
        return (None, *self._image_shape)

    @property
    def output_shape(self) -> Shape:
        """Shape of a batch of logits, `(None, num_classes)`."""
        return tuple(self._logits_shape)

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self._logits_shape[-1]

    @property
    def relus(self) -> int:
        """Number of ReLUs (or other elementwise nonlinearities) in the network."""
        return sum(layer.relus for layer in self._chain)

    @property
    def affine_layers(self) -> list[keras.Layer]:
        """Dense and convolution layers, those inside residual blocks included."""
        return [layer for layer in self._flatten_layers() if isinstance(layer, _AFFINE)]

    @property
    def batch_norms(self) -> list[keras.Layer]:
        """Batch normalisation layers, those inside residual blocks included."""
        return list(self._norms)

    @cached_property
    def _norms(self):
        # Looked for once: each step asks, and layers do not change.
        kind = keras.layers.BatchNormalization
        return tuple(layer for layer in self._flatten_layers() if isinstance(layer, kind))

    @property
    def trainable_batch_norms(self) -> list[keras.Layer]:
        """Batch normalisation layers that take moments in training; frozen ones keep theirs."""
        return [layer for layer in self.batch_norms if layer.trainable]

    @property
    def distances(self) -> list[IntervalDistance]:
        """Distance layers, those inside residual blocks included."""
        return [layer for layer in self._flatten_layers() if isinstance(layer, IntervalDistance)]

    @property
    def mean_shifts(self) -> list[IntervalDistance]:
        """Distance layers that subtract a mean."""
        return [layer for layer in self.distances if layer.mean_shift]

    @property
    def segment(self) -> Segment:
        """The whole network as a `Segment`."""
        return self.under(PLAIN)

    def under(self, given: Pass) -> Segment:
        """The whole network as a `Segment` that is called under a `Pass`."""
        replays = given.replays or self._replays_in != threading.get_ident()
        if not replays and self.trainable_batch_norms:
            raise forgotten_moments()
        return Segment(tuple(self._chain), given)

    def call(
        self, inputs: Tensor | Interval, training: bool | None = None, given: Pass | None = None
    ) -> Tensor | Interval:
        return self.under(given or PLAIN)(inputs)

    def clean_pass(self, images: Tensor) -> CleanPass:
        """Logits of a training batch, by its own batch moments; the moving averages move on.

        Args:
            images: Tensor `(batch, ...)`.

        Returns:
            `CleanPass`, whose moments `replay` takes.

        Raises:
            ValueError: If a trainable BatchNormalization is used twice in the network.
        """
        taken: dict[keras.Layer, tuple[Tensor, Tensor]] = {}
        forms: dict[keras.Layer, tuple[Tensor, Tensor]] = {}
        logits = self(images, training=True, given=Pass(taken=taken, forms=forms))
        pairs = ([kept[layer] for layer in self.trainable_batch_norms] for kept in (taken, forms))
        moments, used = map(tuple, pairs)
        return CleanPass(logits, moments, forms=used)

    def replay(
        self,
        moments: Iterable[tuple[Tensor, Tensor]],
        forms: Iterable[tuple[Tensor, Tensor]] = (),
    ) -> Pass:
        """The `Pass` in which normalisation layers use the moments of a `CleanPass`.

        Args:
            moments: Its `moments`.
            forms: Its `forms`, from which nothing has to be computed again.
        """
        norms = self.trainable_batch_norms
        known = dict(zip(norms, forms, strict=True)) if forms else None
        return Pass(dict(zip(norms, moments, strict=True)), forms=known)

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Context of a training step, in which a call without batch moments is refused."""
        self._replays_in = threading.get_ident()
        try:
            yield
        finally:
            self._replays_in = None

    def compute_output_spec(self, inputs: Tensor | Interval, **kwargs: Any) -> Tensor | Interval:
        box = as_interval(inputs)
        if box is not None:
            return Interval(*(self.compute_output_spec(bound, **kwargs) for bound in box))
        shape = (inputs.shape[0], *self._logits_shape[1:])  # type: ignore[union-attr]
        return keras.KerasTensor(shape, dtype=self._chain[-1].compute_dtype)

    def _cuts(self):
        """Where the network may be cut: {ReLUs in the classifier: index of its first layer}."""
        if self.distances:
            raise ValueError(
                f"Network '{self.name}' has distance layers, after which there is no latent box to "
                "attack, so it cannot be split. Accepted: a network without them, or "
                "DistanceNetModel, which needs no split."
            )
        cuts, before = {}, 0
        for index, layer in enumerate(self._chain):
            before += layer.relus
            if layer.relus and not isinstance(layer, IntervalResidual):  # a sum is not a ReLU
                moved = takewhile(lambda x: isinstance(x, _MOVES), self._chain[index + 1 :])
                cuts[self.relus - before] = index + 1 + len(list(moved))
        return cuts

    @property
    def legal_splits(self) -> tuple[int, ...]:
        """Every `classifier_relus` at which the network can be split, ascending."""
        return tuple(sorted({*self._cuts(), self.relus}))

    @property
    def default_split(self) -> int:
        """The smallest of `legal_splits` with a ReLU in the classifier.

        Raises:
            ValueError: If the network has no ReLU, or distance layers.
        """
        splits = [split for split in self.legal_splits if split]
        if not splits:
            raise ValueError(
                f"Network '{self.name}' has no ReLU, so there is no classifier to attack after a "
                "split. Accepted: a network with at least one ReLU, or `classifier_relus=0`, which "
                "is IBP."
            )
        return splits[0]

    def split(self, classifier_relus: int, given: Pass = PLAIN) -> tuple[Segment, Segment]:
        """Cut the network after a ReLU into feature extractor and classifier.

        A Flatten after that ReLU stays with the extractor, so the classifier starts with the
        layer that feeds its first ReLU.

        Args:
            classifier_relus: Number of ReLUs in the classifier, one of `legal_splits`. With 0 the
                classifier is the last affine part; with all of them the extractor is only the
                input normalisation.
            given: `Pass` under which both parts are called.

        Returns:
            `(extractor, classifier)`, two `Segment`s that share this network's weights.

        Raises:
            ValueError: If there is no such cut: more ReLUs than the network has, a place inside a
                residual block, or distance layers.

        Example:

        >>> network = cnn3((28, 28, 1), 10)
        >>> extractor, classifier = network.split(1)
        >>> [type(layer).__name__ for layer in classifier.layers][-1]
        'IntervalDense'
        """
        wanted = check_count("classifier_relus", classifier_relus)
        cuts = {self.relus: len(self.leading_normalization), **self._cuts()}
        if wanted not in cuts:
            raise ValueError(
                f"`classifier_relus` must be one of {self.legal_splits}: the network has "
                f"{self.relus} ReLUs and is cut only after a ReLU of the main chain. "
                f"Received: classifier_relus={classifier_relus}"
            )
        layers, cut = self.under(given).layers, cuts[wanted]
        return Segment(layers[:cut], given), Segment(layers[cut:], given)

    @property
    def leading_normalization(self) -> tuple[keras.Layer, ...]:
        """Tuple of the Normalization and Rescaling layers that the network starts with."""
        kinds = (keras.layers.Normalization, keras.layers.Rescaling)
        return tuple(takewhile(lambda layer: isinstance(layer, kinds), self._chain))

    def check_classifier(self) -> None:
        """Raise `ValueError` unless the network ends in one Dense vector of logits."""
        check_logits(self._chain[-1])
        if len(self._logits_shape) != 2:
            raise ValueError(
                "The last layer must give one vector of logits an image. "
                f"Received: output shape {self.output_shape}"
            )
        if self.num_classes < 2:
            raise ValueError(f"A classifier needs two logits or more. Received: {self.num_classes}")

    def check_certifiable(self) -> None:
        """Raise `ValueError` unless the margins of this network can be bounded and trained.

        The last layer must be a Dense without activation, no Dropout may have a rate, no layer may
        act in training alone, no trainable BatchNormalization may be used twice, and no layer may
        have an activity regulariser.
        """
        self.check_classifier()
        seen = set()
        for layer in unrolled(self._chain):
            if layer in seen and layer in self.trainable_batch_norms:
                raise used_twice(layer)
            seen.add(layer)
            if layer.activity_regularizer is not None:
                raise ValueError(
                    f"Layer '{layer.name}' has an `activity_regularizer`, which Keras would add up "
                    "over boxes and attacked points too. Accepted in certified training: kernel "
                    "and bias regularisers, or `l1`."
                )
            if isinstance(layer, IntervalDropout) and layer.rate > 0:
                raise ValueError(
                    f"Dropout layer '{layer.name}' has rate {layer.rate}: a certified loss would "
                    "bound another network than the one it trains. Accepted: rate 0, or no Dropout."
                )
            if isinstance(layer, IntervalTrainingOnly):
                raise ValueError(
                    f"Layer '{layer.name}' of type {type(layer.layer).__name__} acts in training "
                    "alone: a certified loss would bound another network than the one it trains. "
                    "Accepted: a network without it, and augmented data (datasets.Augmentation)."
                )

    def get_config(self) -> dict[str, Any]:
        layers = [keras.saving.serialize_keras_object(layer) for layer in self._chain]
        return {"name": self.name, "layers": layers, "input_shape": list(self._image_shape)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "IntervalSequential":
        layers = [
            keras.saving.deserialize_keras_object(layer, custom_objects=custom_objects)
            for layer in config["layers"]
        ]
        return cls(layers, input_shape=tuple(config["input_shape"]), name=config["name"])

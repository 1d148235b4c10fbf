"""Parts of a network, and what the pass of a clean batch leaves."""

from dataclasses import dataclass
from typing import NamedTuple

import keras

from keras_taps.interval import Interval
from keras_taps.layers.passes import PLAIN, Pass
from keras_taps.layers.residual import walk
from keras_taps.typing import Tensor


@dataclass(frozen=True)
class Segment:
    """A run of consecutive layers of a network, sharing its weights; callable on tensors and boxes.

    Args:
        layers: Tuple of built interval layers.
        given: `Pass` under which they are called.
    """

    layers: tuple[keras.Layer, ...]
    given: Pass = PLAIN

    def __call__(self, inputs: Tensor | Interval) -> Tensor | Interval:
        return walk(self.layers, inputs, self.given)

    @property
    def segment(self) -> "Segment":
        """Itself, so that it stands where a network may."""
        return self

    @property
    def body(self) -> "Segment":
        """Everything but the last layer."""
        return Segment(self.layers[:-1], self.given)

    @property
    def last(self) -> keras.Layer:
        """The last layer."""
        return self.layers[-1]

    @property
    def variables(self) -> list[keras.Variable]:
        """Every variable of the layers, each once."""
        found = {id(v): v for layer in self.layers for v in layer.variables}
        return list(found.values())


class CleanPass(NamedTuple):
    """What a clean batch leaves: its logits, and the moments that its bounds are to replay.

    Args:
        logits: Tensor `(batch, classes)`.
        moments: Tuple of pairs `(mean, variance)`, one for each trainable normalisation layer in
            the order of `IntervalSequential.batch_norms`.
        features: Outputs of the distance layers, of a network that has some, else `()`.
        forms: Pairs `(scale, offset)` that the moments give, likewise; a replay without them
            computes them again.
    """

    logits: Tensor
    moments: tuple[tuple[Tensor, Tensor], ...]
    features: Tensor | tuple[()] = ()
    forms: tuple[tuple[Tensor, Tensor], ...] = ()

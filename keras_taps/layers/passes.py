"""What a pass through the layers is given and leaves: one value, handed from call to call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

from keras_taps.interval import Interval
from keras_taps.typing import Tensor


@dataclass(frozen=True, eq=False)
class Pass:
    """The conditions of one pass of tensors or boxes through interval layers.

    Layers take it as the argument `given`. It is opaque to Keras, so its tensors keep their
    precision, and they keep their gradients on every backend, which variables would lose.

    Args:
        moments: Mapping from normalisation layers to `(mean, variance)` of a clean batch, which
            they use in place of their own; those that it lacks use their moving averages. With
            `None`, layers called with `training=True` take the moments of the batch they see.
        taken: Dictionary that normalisation layers add the moments to which they take, and
            distance layers the means by which they shift.
        relu_shrinkage: Factor in (0, 1] of the upper bounds of crossing ReLUs. For training
            alone: such a box does not hold every output any more, so it proves nothing.
        relu_boxes: List that each box which enters a ReLU is appended to.
        relaxation: `Relaxation` of distance layers: the norms that training takes for maxima.
        forms: Mapping from normalisation layers to the `(scale, offset)`, tensors `(channels,)`,
            that their moments give: the clean pass computed them and a replay need not again. In
            a clean pass the dictionary that layers add theirs to.

    Example:

    ```python
    clean = network.clean_pass(images)  # updates the moving averages
    bounds = network(input_box(images, eps), given=network.replay(clean.moments))
    ```

    References:
        Shi et al., "Fast Certified Robust Training with Short Warmup", 2021, section 4 (moments
        of the clean batch); Müller et al., "Certified Training: Small Boxes are All You Need",
        2023, appendix C (shrinkage).
    """

    moments: Mapping[keras.Layer, tuple[Tensor, Tensor]] | None = None
    taken: dict[keras.Layer, tuple[Tensor, Tensor]] | None = None
    relu_shrinkage: float = 1.0
    relu_boxes: list[Interval] | None = None
    relaxation: Any = None  # a `Relaxation`, whose module imports this one
    forms: dict[keras.Layer, tuple[Tensor, Tensor]] | None = None

    @property
    def replays(self) -> bool:
        """Whether normalisation layers are given their moments."""
        return self.moments is not None

    def moments_of(self, layer: keras.Layer) -> tuple[Tensor, Tensor] | None:
        """Moments `(mean, variance)` given for `layer`, or `None`."""
        return self.moments.get(layer) if self.replays else None

    def form_of(self, layer: keras.Layer) -> tuple[Tensor, Tensor]:
        """Scale and offset `(channels,)` of a normalisation layer in this pass."""
        form = self.forms.get(layer) if self.forms and self.replays else None
        return form or layer.form(self.moments_of(layer))

    def take(self, layer: keras.Layer, *moments: Tensor) -> None:
        """Keep the moments that `layer` takes of its batch, if somebody asked for them.

        Raises:
            ValueError: If it took some already in this pass: a box could replay only one of them.
        """
        if self.taken is None:
            return
        if layer in self.taken:
            raise used_twice(layer)
        self.taken[layer] = moments

    def enters_relu(self, box: Interval) -> None:
        """Leave `box` with whoever asked for the inputs of ReLUs."""
        if self.relu_boxes is not None:
            self.relu_boxes.append(box)

    def stopped(self) -> "Pass":
        """The same pass with moments that are constants: every attack runs under it."""
        if not self.replays:
            return self
        stop = ops.stop_gradient
        moments = {k: (stop(m), stop(v)) for k, (m, v) in self.moments.items()}
        return replace(self, moments=moments, forms=None)  # gammas are no moments

    @property
    def tensors(self) -> list[Tensor]:
        """Flat list of the moments, for functions that must have every tensor as an argument."""
        return [moment for pair in (self.moments or {}).values() for moment in pair]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Pass":
        """The same pass with other moments, in the order of `tensors`."""
        if not self.replays:
            return self
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        return replace(self, moments=dict(zip(self.moments, pairs, strict=True)), forms=None)


def used_twice(layer):
    """The error about a normalisation layer that would have two sets of batch moments."""
    return ValueError(
        f"Normalisation layer '{layer.name}' is used twice in the network, so it has two sets "
        "of batch moments. Accepted in training: a layer for each use, or a frozen one "
        "(`trainable=False`)."
    )


def forgotten_moments():
    """The error about a training step that would bound the network by its moving averages."""
    return ValueError(
        "A training step takes the network with the batch moments of the clean images: "
        "`self.network.under(batch.given)`, or `self.network.split(relus, batch.given)`. "
        "Received: a call of the network without `batch.given`"
    )


PLAIN = Pass()  # nothing given, nothing asked for

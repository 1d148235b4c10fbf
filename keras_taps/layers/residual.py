"""Sums of boxes: the Add layer and the residual block."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import IntervalLayer, serializable
from keras_taps.layers.blocks import blocks
from keras_taps.layers.passes import PLAIN, Pass
from keras_taps.typing import Shape, Tensor


def add_all(terms):
    """Sum of tensors, or of boxes bound by bound."""
    total, *rest = terms
    for term in rest:
        if as_interval(total) is None:
            total = ops.add(total, term)
        else:
            total = Interval(*(ops.add(a, b) for a, b in zip(total, term, strict=True)))
    return total


@serializable
class IntervalAdd(keras.layers.Add):
    """`keras.layers.Add` that takes a list of boxes as well as a list of tensors.

    Example:

    >>> box = Interval(ops.zeros((1, 2)), ops.ones((1, 2)))
    >>> float(IntervalAdd()([box, box]).upper[0, 0])
    2.0
    """

    def __call__(
        self, inputs: Sequence[Tensor | Interval], *args: Any, **kwargs: Any
    ) -> Tensor | Interval:
        if not self.built and all(as_interval(item) is not None for item in inputs):
            self.build([tuple(item[0].shape) for item in inputs])
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Sequence[Tensor | Interval]) -> Tensor | Interval:
        boxes = [as_interval(item) for item in inputs]
        return super().call(inputs) if None in boxes else add_all(boxes)

    def compute_mask(self, inputs: Sequence[Tensor | Interval], mask: Any = None) -> None:
        return None  # images have none, and the stock method takes the mask of a box for a tensor

    def compute_output_spec(
        self, inputs: Sequence[Tensor | Interval], *args: Any, **kwargs: Any
    ) -> Tensor | Interval:
        boxes = [as_interval(item) for item in inputs]
        spec = super().compute_output_spec
        if None in boxes:
            return spec(inputs, *args, **kwargs)
        return Interval(*(spec(list(side)) for side in zip(*boxes, strict=True)))


@serializable
class IntervalResidual(IntervalLayer, keras.layers.Layer):
    """Residual block: the sum of several branches of layers that read the same input.

    Args:
        branches: At least two lists of interval layers; an empty list is the identity.

    Raises:
        ValueError: If fewer than two branches are given or one holds a layer that takes no boxes.

    Example:

    >>> block = IntervalResidual([[IntervalDense(2, activation="relu")], []])
    >>> ops.shape(block(Interval(ops.zeros((1, 2)), ops.ones((1, 2)))).upper)
    (1, 2)

    References:
        He et al., "Deep Residual Learning for Image Recognition", 2016.
    """

    def __init__(self, branches: Sequence[Sequence[keras.Layer]], **kwargs: Any):
        super().__init__(**{"autocast": False, **kwargs})  # its layers cast for themselves
        if len(branches) < 2:
            raise ValueError(
                f"`branches` must hold at least two lists of layers. Received: {len(branches)}"
            )
        self.branches = [list(branch) for branch in branches]
        for branch in self.branches:
            check_interval_layers(branch)

    @property
    def relus(self) -> int:
        return sum(layer.relus for branch in self.branches for layer in branch)

    def build(self, input_shape: Shape) -> None:
        for branch in self.branches:
            build_chain(branch, input_shape)

    def call(self, inputs: Tensor | Interval, given: Pass | None = None) -> Tensor | Interval:
        box = as_interval(inputs)
        if box is not None:
            return self.bounds(box, given)
        return self._sum(inputs, given)

    def bounds(self, box: Interval, given: Pass | None = None) -> Interval:
        return self._sum(box, given)  # its layers look at their own precision

    def _sum(self, inputs, given):
        return add_all([walk(branch, inputs, given) for branch in self.branches])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        for layer in self.branches[0]:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        branches = [[serialize(layer) for layer in branch] for branch in self.branches]
        return {**super().get_config(), "branches": branches}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "IntervalResidual":
        deserialize = keras.saving.deserialize_keras_object
        branches = [[deserialize(layer) for layer in branch] for branch in config["branches"]]
        return cls(**{**config, "branches": branches})


def walk(layers, inputs, given=None):
    """Send a tensor or a box through a sequence of layers.

    Args:
        layers: Interval layers; without `given` any functions will do.
        inputs: Tensor or `Interval`.
        given: `Pass` to hand to each of them.
    """
    if given is None or given is PLAIN:
        for layer in layers:
            inputs = layer(inputs)
        return inputs
    if given.replays or given.taken is not None:
        layers = blocks(layers, norms=given.replays)
    for layer in layers:
        inputs = layer(inputs, given=given)
    return inputs


def unrolled(layers):
    """The layers in the order in which they are called, those inside residual blocks included."""
    for layer in layers:
        if isinstance(layer, IntervalResidual):
            for branch in layer.branches:
                yield from unrolled(branch)
        else:
            yield layer


def build_chain(layers, input_shape):
    """Build layers one after another for inputs of `input_shape` (batch axis included)."""
    for layer in layers:
        if not layer.built:
            layer.build(input_shape)
        input_shape = layer.compute_output_shape(input_shape)
    return input_shape


def check_interval_layers(layers):
    """Raise `ValueError` unless every layer is an interval layer."""
    for layer in layers:
        if not isinstance(layer, IntervalLayer):
            raise ValueError(
                f"Layer '{getattr(layer, 'name', layer)}' of type {type(layer).__name__} takes no "
                "boxes. Accepted: the Interval layers of keras_taps; turn stock layers into them "
                "with `keras_taps.convert(model)`."
            )

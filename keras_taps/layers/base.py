"""How a stock Keras layer learns to take a box: two mixins and the affine rule."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_taps.interval import Interval, as_interval
from keras_taps.layers.passes import PLAIN, Pass
from keras_taps.typing import Tensor

_TOO_COARSE = ("float16", "bfloat16")


def serializable(cls):
    """Register a class for `.keras` files under this package's name."""
    return keras.saving.register_keras_serializable(package="keras_taps")(cls)


def affine(box, linear, absolute):
    """Interval image of an affine map: centre through the map, radius through its absolute kernel.

    Args:
        box: `Interval`.
        linear: The affine map, bias included.
        absolute: The linear map with every coefficient replaced by its absolute value, no bias.

    Returns:
        The smallest box that contains the image of `box`, up to rounding.

    References:
        Gowal et al. 2018, equation 6.
    """
    middle = box.centre
    centre, radius = linear(middle), absolute(box.upper - middle)
    return Interval(centre - radius, centre + radius)


def refuse_coarse_precision(layer):
    """Raise `ValueError` if outputs of `layer` can leave their bounds by rounding."""
    if layer.compute_dtype in _TOO_COARSE:
        raise ValueError(
            f"Layer '{layer.name}' was given a box but computes in {layer.compute_dtype}, whose "
            "rounding can push outputs out of their bounds. Accepted: dtype 'float32' or "
            "'float64'."
        )


class IntervalLayer:
    """Mixin, placed before a stock layer: on a tensor the stock layer, on a box `propagate`.

    A subclass writes `propagate(box, given)`. A layer whose stock `call` takes `training` writes
    `call` itself, because Keras reads the signature.
    """

    relus = 0  # how many ReLUs (or other elementwise nonlinearities) it applies; splits count them
    trains_alike = True  # whether a `Pass` alone says what it does in training

    @property
    def input_spec(self) -> None:
        # Stock specs count leaves and would refuse the two tensors of a box.
        return None

    @input_spec.setter
    def input_spec(self, value):
        pass

    def __call__(self, inputs: Tensor | Interval, *args: Any, **kwargs: Any) -> Tensor | Interval:
        box = as_interval(inputs)
        given = kwargs.get("given")
        if given is not None and self.computes_in(box or [inputs]):
            clean = given.taken is not None and kwargs.get("training") is not False
            if given.replays or (clean and self.trains_alike):
                return self.call(inputs, **kwargs)
        if box is None:
            return super().__call__(inputs, *args, **kwargs)
        if not self.built:
            # Keras would build from the pair of shapes; both bounds have the shape of a tensor.
            self.build(tuple(box.lower.shape))
        return super().__call__(box, *args, **kwargs)

    def computes_in(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the layer is built and Keras' call would convert neither inputs nor variables.

        Keras spends longer around a call than PyTorch on the layer itself, and every backend
        traces as much. What it does there beside conversions has no part in a clean or replayed
        pass: the phase is known, and there are no masks and no regularisers of activities.
        """
        if not all(map(keras.ops.is_tensor, tensors)):
            return False
        dtypes = {keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors}
        return self.built and dtypes == {self.compute_dtype} == {self.variable_dtype}

    def call(self, inputs: Tensor | Interval, given: Pass | None = None) -> Tensor | Interval:
        box = as_interval(inputs)
        return super().call(inputs) if box is None else self.bounds(box, given)

    def bounds(self, box: Interval, given: Pass | None = None) -> Interval:
        """`propagate`, refused in a precision in which outputs can leave their own bounds."""
        refuse_coarse_precision(self)
        return self.propagate(box, given or PLAIN)

    def propagate(self, box: Interval, given: Pass) -> Interval:
        """Box of the outputs for a box of inputs.

        Args:
            box: `Interval` of tensors `(batch, ...)`.
            given: `Pass`, which most layers have no use for.
        """
        raise NotImplementedError

    def compute_output_spec(
        self, inputs: Tensor | Interval, *args: Any, given: Pass | None = None, **kwargs: Any
    ) -> Tensor | Interval:
        box = as_interval(inputs)
        if box is None:
            return super().compute_output_spec(inputs, *args, **kwargs)
        spec = super().compute_output_spec
        return Interval(spec(box.lower, *args, **kwargs), spec(box.upper, *args, **kwargs))


class MonotoneLayer(IntervalLayer):
    """Mixin for layers that never decrease in any input: each bound goes through on its own."""

    def propagate(self, box: Interval, given: Pass) -> Interval:
        stock = super().call
        return Interval(stock(box.lower), stock(box.upper))

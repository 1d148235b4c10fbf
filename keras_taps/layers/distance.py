"""Distance layers: each neuron measures how far its input is from a centre of its own."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.checks import check_choice, check_count, check_real
from keras_taps.interval import Interval, as_interval
from keras_taps.layers.base import IntervalLayer, serializable
from keras_taps.layers.passes import PLAIN, Pass
from keras_taps.typing import Shape, Tensor

TERMS = 10  # differences that count, of a neuron that sorts them; 0.4**10 is 1e-4
_FLOATS = 2**22  # numbers of `batch x outputs x inputs` at a time
_BATCH = 256  # assumed where a compiled function does not know it
_SHARED = 32  # samples with one mask
_STREAM = 1_000_003  # between the seeds of two layers


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The smooth form of distance layers that is trained: p-norms of what a random mask leaves.

    Args:
        power: Number or scalar tensor p >= 1.
        seed: Tensor of two integers for the masks.
        drawn: Empty list, which counts the layers that drew one.

    References:
        Zhang et al., "Rethinking Lipschitz Neural Networks and Certified Robustness: A Boolean
        Function Perspective" (SortNet), 2022, section 4.3.
    """

    power: Tensor | float
    seed: Tensor | None = None
    drawn: list[None] = field(default_factory=list)

    def next_seed(self) -> Tensor:
        """The seed of the next layer that draws."""
        self.drawn.append(None)
        return self.seed + _STREAM * len(self.drawn)


@serializable
class IntervalDistance(IntervalLayer, keras.layers.Layer):
    """l_inf-distance neurons and the sorting neurons of SortNet, on boxes as well as tensors.

    With the differences `|x_i - w_ij|` of neuron j sorted, largest first, an output is
    `sum_k a_k |x - w_j|_(k)` with `a_k` proportional to `keep (1 - keep)^(k - 1)`, the 10 largest
    of them, and 1 in sum. `keep=1` is the largest difference alone. No output moves by more than
    the largest coordinate of the input does. On a box each difference has an interval of its own,
    and no output falls where a difference grows: that is the rule for boxes.

    Under a `Pass` with a `Relaxation` the neuron is the p-norm of its differences, of which each
    is kept with the probability `keep`: what training takes in place of maxima and sorting. In the
    pass of a clean batch (`Pass.taken`) the mean shift is that of the batch.

    At most `2**22` numbers of `batch x outputs x inputs` exist at a time.

    Args:
        units: Number of outputs.
        keep: Number in (0, 1]; the authors' commands call it dropout.
        mean_shift: Whether the mean of each output is subtracted: of the batch in training, its
            moving average else.
        use_bias: Whether a bias is added; not with `mean_shift`, which would undo it.
        momentum: Of the moving averages.
        kernel_initializer: Of the centres `(inputs, units)`, by default N(0, 1).
        **kwargs: As `keras.layers.Layer`.

    Raises:
        ValueError: For a value out of range.

    Example:

    >>> layer = IntervalDistance(2, mean_shift=False, kernel_initializer="zeros")
    >>> box = layer(Interval(ops.array([[-1.0, 2.0]]), ops.array([[0.5, 3.0]])))
    >>> float(box.lower[0, 0]), float(box.upper[0, 0])
    (2.0, 3.0)

    References:
        Zhang et al., "Towards Certifying l-infinity Robustness using Neural Networks with
        l-inf-dist Neurons", 2021; Zhang et al. 2022 (SortNet).
    """

    def __init__(
        self,
        units: int,
        keep: float = 1.0,
        mean_shift: bool = True,
        use_bias: bool = False,
        momentum: float = 0.9,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = check_count("units", units, low=1)
        self.keep = check_real("keep", keep, 0, 1, low_open=True)
        self.mean_shift = check_choice("mean_shift", mean_shift, (True, False))
        self.use_bias = check_choice("use_bias", use_bias, (True, False))
        if mean_shift and use_bias:
            raise ValueError(
                "`use_bias` must be False where `mean_shift` is True, which would undo it. "
                "Received: use_bias=True, mean_shift=True"
            )
        self.momentum = check_real("momentum", momentum, 0, 1)
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.RandomNormal(stddev=1.0)
        )

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                f"Distance layer '{self.name}' takes vectors; put a Flatten first. Received: "
                f"inputs of shape {tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units), initializer=self.kernel_initializer, name="kernel"
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        if self.mean_shift:
            self.moving_mean = self.add_weight(
                shape=(self.units,), initializer="zeros", name="moving_mean", trainable=False
            )

    @property
    def coefficients(self) -> np.ndarray:
        """Float64 array of the a_k, as many as count."""
        return sorted_weights(self.keep, self.kernel.shape[0])

    @property
    def shift(self) -> Tensor | None:
        """What is added to the distances of a box or, after training, of an image, or `None`."""
        if self.use_bias:
            return self.bias
        return -self.moving_mean if self.mean_shift else None

    def call(self, inputs: Tensor | Interval, given: Pass | None = None) -> Tensor | Interval:
        box = as_interval(inputs)
        if box is not None:
            return self.bounds(box, given)
        given = given or PLAIN
        y = self._distances(inputs, given.relaxation)
        if self.mean_shift and given.taken is not None:
            return y - self._batch_mean(y, given)
        return self._shifted(y)

    def propagate(self, box: Interval, given: Pass) -> Interval:
        reduce = self._reduction(box.lower, given.relaxation)

        def ends(rows, lower, upper):
            above, below = (bound[:, None, :] - rows for bound in (lower, upper))
            near = ops.relu(ops.maximum(above, -below))
            far = ops.maximum(ops.abs(above), ops.abs(below))
            return ops.stack([reduce(near), reduce(far)])

        found = _by_rows(ends, self.kernel, *box)
        return Interval(*(self._shifted(found[side]) for side in (0, 1)))

    def _distances(self, x, relaxation):
        reduce = self._reduction(x, relaxation)
        return _by_rows(lambda rows, x: reduce(ops.abs(x[:, None, :] - rows)), self.kernel, x)

    def _reduction(self, x, relaxation):
        """The function that makes an output of its differences, `(..., inputs)` to `(...)`."""
        if relaxation is None:
            return self._sum
        power = ops.cast(relaxation.power, x.dtype)
        mask = self._mask(x, relaxation)

        def norm(differences):
            if mask is not None:
                differences = ops.where(mask[:, None, :], differences, 0.0)
            return _norm(differences, power)

        return norm

    def _mask(self, x, relaxation):
        """Boolean tensor `(batch, inputs)` of the inputs that are kept, or `None` for all."""
        if self.keep == 1:
            return None
        batch = ops.shape(x)[0]
        count = (batch + _SHARED - 1) // _SHARED
        noise = backend.uniform((count, x.shape[-1]), relaxation.next_seed())
        return ops.take(noise < self.keep, ops.arange(batch) // _SHARED, axis=0)

    def _sum(self, differences):
        """The sorted sum along the last axis: in each round the largest counts and is taken out."""
        weights = self.coefficients.tolist()
        total = weights[0] * ops.max(differences, axis=-1)
        for weight in weights[1:]:
            place = ops.expand_dims(ops.argmax(differences, axis=-1), -1)
            places = ops.arange(differences.shape[-1], dtype=place.dtype)
            differences = ops.where(places == place, -1.0, differences)
            total = total + weight * ops.max(differences, axis=-1)
        return total

    def _shifted(self, y):
        return y if self.shift is None else y + self.shift

    def _batch_mean(self, y, given):
        mean = ops.mean(y, axis=0)
        given.take(self, mean)
        average = self.moving_mean * self.momentum + mean * (1.0 - self.momentum)
        self.moving_mean.assign(average)
        return mean

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "keep": self.keep,
            "mean_shift": self.mean_shift,
            "use_bias": self.use_bias,
            "momentum": self.momentum,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def sorted_weights(keep: float, inputs: int) -> np.ndarray:
    """Weights of the largest, second largest, ... difference, as float32 numbers in float64.

    Example:

    >>> sorted_weights(0.5, 2).round(3).tolist()
    [0.667, 0.333]
    """
    count = 1 if keep == 1 else min(TERMS, inputs)
    weights = keep * (1 - keep) ** np.arange(count)
    return (weights / weights.sum()).astype("float32").astype("float64")


def _norm(values, power):
    """p-norm along the last axis of numbers >= 0; relative to the largest, so nothing overflows."""
    largest = ops.stop_gradient(ops.max(values, axis=-1, keepdims=True)) + 1e-10
    # A power of 0 has no gradient on some backends, its logarithm with a little more has.
    total = ops.sum(ops.exp(power * ops.log(values / largest + 1e-12)), axis=-1)
    return largest[..., 0] * ops.exp(ops.log(total + 1e-30) / power)


def _by_rows(function, kernel, *tensors):
    """`function(rows, *tensors)` for the outputs of a kernel, a few at a time.

    Args:
        function: Maps centres `(n, inputs)` and the tensors to a tensor `(..., n)`.
        kernel: Variable `(inputs, outputs)`.
        tensors: Tensors `(batch, inputs)`.
    """
    rows = ops.transpose(kernel)
    outputs, inputs = rows.shape
    size = max(1, _FLOATS // ((tensors[0].shape[0] or _BATCH) * inputs))
    if size >= outputs:
        return function(rows, *tensors)
    chunks = -(-outputs // size)
    # Outputs that are computed twice fill the last chunk.
    filled = ops.concatenate([rows, rows[: chunks * size - outputs]], axis=0)
    parts = ops.reshape(filled, (chunks, size, inputs))
    found = ops.map(lambda part: backend.recomputed(function, part, *tensors), parts)
    found = ops.moveaxis(found, 0, -2)
    shape = ops.shape(found)
    return ops.reshape(found, (*shape[:-2], chunks * size))[..., :outputs]

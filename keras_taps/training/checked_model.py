"""What surrounds training and knows no formula: compiling, and checks of the data."""

from typing import Any

import keras
import numpy as np

from keras_taps import backend
from keras_taps.checks import check_labels
from keras_taps.datasets.batches import Batches
from keras_taps.domain import UNIT, check_images


class CheckedModel(keras.Model):
    """A Keras model around a `network`, with its own loss, that looks at data before it starts.

    A subclass sets `network`, an `IntervalSequential`, and the `domain` of its inputs.
    """

    def compile(
        self,
        optimizer: str | keras.Optimizer = "adam",
        *,
        loss: None = None,
        jit_compile: bool | str = "auto",
        **options: Any,
    ) -> None:
        """Configure training; the loss is the method's own.

        Args:
            optimizer: Keras optimizer; the field uses Adam 5e-4 with `global_clipnorm=10`.
            loss: Must stay `None`.
            jit_compile: 'auto' is the measured default: XLA on JAX and on TensorFlow's GPUs, the
                plain graph on TensorFlow's CPU, eager on PyTorch.
            **options: As `keras.Model.compile`.
        """
        if loss is not None:
            raise ValueError(
                f"`loss` must stay None: {type(self).__name__} brings its own. Received: {loss!r}"
            )
        self._jit_request = jit_compile
        jit_compile = backend.auto_jit_compile() if jit_compile == "auto" else jit_compile
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **options)
        backend.hasten(self.optimizer)

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile` was asked, so that 'auto' is decided anew where the model is loaded."""
        config = super().get_compile_config()
        return {**config, "jit_compile": self._jit_request} if config else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a loaded model as it was; Keras asks for this where `compile` is overridden."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force: bool = False) -> Any:
        """As Keras; the optimizer is built before, or TensorFlow would trace the step twice."""
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def fit(self, x: Any = None, y: Any = None, **options: Any) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, after a check of the data.

        Raises:
            ValueError: If images or labels have the wrong shape or range; of a data set the first
                batch is looked at.
        """
        check_data(self.network, x, y, self.domain)
        validation = options.get("validation_data")
        if validation is not None:
            pair = validation if isinstance(validation, tuple) else (validation, None)
            check_data(self.network, *pair[:2], self.domain)
        if isinstance(x, Batches):
            options["shuffle"] = False  # it shuffles by itself, reproducibly
        return super().fit(x, y, **options)

    def evaluate(
        self, x: Any = None, y: Any = None, **options: Any
    ) -> float | list[float] | dict[str, float]:
        """Evaluate at `eps` with moving batch statistics, after the checks that `fit` makes."""
        if not options.get("_use_cached_eval_dataset"):
            check_data(self.network, x, y, self.domain)
        return super().evaluate(x, y, **options)


def check_data(network, x, y, domain=UNIT):
    """Raise `ValueError` if images or labels cannot belong to `network`.

    Arrays are checked whole, data sets by their first batch; plain iterators, which cannot be
    rewound, are left to the in-step check that makes the loss NaN.

    Args:
        network: `IntervalSequential`.
        x: Array, tensor, `tf.data.Dataset`, `PyDataset`, torch `DataLoader` or iterator.
        y: Labels for an array `x`, else `None`.
        domain: `Domain` of the images.
    """
    x, y = _first_batch(x) if y is None else (x, y)
    if x is None:
        return
    check_images(keras.ops.convert_to_numpy(x), network.input_shape[1:], domain)
    if y is None:
        raise ValueError("`y` must hold the integer labels of the images. Received: y=None")
    check_labels(keras.ops.convert_to_numpy(y), network.num_classes)


def _first_batch(data):
    if data is None or isinstance(data, np.ndarray) or keras.ops.is_tensor(data):
        return data, None
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif hasattr(data, "take"):  # tf.data
        batch = next(iter(data.take(1)))
    elif hasattr(data, "__iter__") and not hasattr(data, "__next__"):
        batch = next(iter(data))
    else:
        return None, None
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError(
            "A data set must yield (images, labels) batches. "
            f"Received: batches of type {type(batch).__name__}"
        )
    return batch[0], batch[1]

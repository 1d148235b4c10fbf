"""Callbacks of certified training: radius, best model, stopping, averages, batch statistics.

All are in one file, long as it is, because users look for them in one place.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.checks import check_choice, check_count, check_real
from keras_taps.files import write_atomically
from keras_taps.layers import Pass
from keras_taps.schedules import SHAPES


class EpsAnneal(keras.callbacks.Callback):
    """Grow the radius from 0 to `train_eps` over the first epochs, step by step.

    The schedule runs inside the compiled step, from a step counter that is saved with the model;
    this callback only sets where it starts and ends. Steps are counted over the life of the
    model, so a resumed run continues in the middle of the ramp.

    Args:
        epochs: Epochs > 0 the ramp takes; fractions are allowed.
        start_epoch: Epoch >= 0 at which it begins.
        steps_per_epoch: Needed only for data whose length Keras cannot know.
        shape: 'smooth', slow at first, or 'linear'.

    Raises:
        ValueError: For a value out of range, a model that has no radius, or data of unknown
            length without `steps_per_epoch`.

    Example:

    ```python
    model.fit(train, epochs=70, callbacks=[EpsAnneal(epochs=20)])
    ```

    References:
        Gowal et al. 2018; Mao et al. 2023, Table 5 (smooth); Balunovic and Vechev 2020; De Palma
        et al. 2022 (linear).
    """

    def __init__(
        self,
        epochs: float,
        start_epoch: float = 0,
        steps_per_epoch: int | None = None,
        shape: str = "smooth",
    ):
        super().__init__()
        self.epochs = check_real("epochs", epochs, 0, float("inf"), low_open=True)
        self.start_epoch = check_real("start_epoch", start_epoch, 0, float("inf"))
        self.steps_per_epoch = steps_per_epoch
        self.shape = check_choice("shape", shape, SHAPES)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not hasattr(self.model, "set_annealing"):
            raise ValueError(
                "EpsAnneal needs a certified training model such as TAPSModel. "
                f"Received: {type(self.model).__name__}"
            )
        steps = self.steps_per_epoch or (self.params or {}).get("steps")
        if not steps:
            raise ValueError(
                "EpsAnneal does not know how many steps an epoch has, because the data has no "
                "length. Give `steps_per_epoch` to EpsAnneal."
            )
        start = round(self.start_epoch * steps)
        self.model.set_annealing(start, start + max(1, round(self.epochs * steps)), self.shape)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self.model.annealed():
            warnings.warn(
                "Training ended before the radius reached `train_eps`: train for more epochs than "
                f"the {self.start_epoch + self.epochs:g} of EpsAnneal, or continue with fit.",
                stacklevel=2,
            )


class _Selection(keras.callbacks.Callback):
    """Watches a validation quantity of epochs trained at the final radius; others do not count."""

    finished = False  # whether training should end

    def __init__(self, monitor: str, best: float | None = None):
        super().__init__()
        self.monitor = monitor
        self.best = -math.inf if best is None else best

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if self.monitor not in logs:
            raise ValueError(
                f"{type(self).__name__} needs '{self.monitor}' in the logs: give "
                f"`validation_data` to fit. Received: {', '.join(logs)}"
            )
        if not self.model.annealed():
            return
        self.count(float(logs[self.monitor]))
        if self.finished:
            self.model.stop_training = True

    def count(self, value: float) -> None:
        """Take the value of one more epoch."""
        before, self.best = self.best, max(self.best, value)
        self.counted(value, before)

    def counted(self, value: float, before: float) -> None:
        """Called after each epoch that counts, with the best value before it."""
        raise NotImplementedError


class BestModel(_Selection):
    """Keep the model with the highest validation TAPS accuracy, once the radius is final.

    Epochs that end while the radius still grows do not count: their weights are trained for a
    smaller radius than `train_eps`, although validation is at `eps` from the first epoch. Of equal
    epochs the last is kept. The images that choose must be held out from training and from
    testing. Training that ends before any epoch counts keeps nothing, and a warning says so.

    Args:
        filepath: File to write, `*.keras` (the model with its training state) or `*.weights.h5`;
            it is whole at any time.
        monitor: Logged quantity to maximise.
        best: Value to beat, of the run that is resumed.
        averaged: Whether to keep the averaged weights, which `WeightAveraging` or
            `keras.callbacks.SwapEMAWeights` validates, in place of the last ones.

    Raises:
        ValueError: For another file ending, or if the quantity is not logged.

    Example:

    ```python
    model.fit(train, epochs=70, validation_data=validation,
              callbacks=[EpsAnneal(epochs=20), BestModel("best.keras")])
    ```

    References:
        Mao et al. 2023, appendix B.1 and C.
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_taps_accuracy",
        best: float | None = None,
        averaged: bool = False,
    ):
        super().__init__(monitor, best)
        if not str(filepath).endswith((".keras", ".weights.h5")):
            raise ValueError(
                f"`filepath` must end in '.keras' or '.weights.h5'. Received: '{filepath}'"
            )
        self.filepath = filepath
        self.averaged = averaged

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.best > -math.inf:
            return
        old = " The file there is of another training." if Path(self.filepath).exists() else ""
        warnings.warn(
            f"BestModel did not write '{self.filepath}': no epoch ended with the radius at "
            f"`train_eps`.{old} Train longer than the epochs of EpsAnneal.",
            stacklevel=2,
        )

    def counted(self, value: float, before: float) -> None:
        if not value >= before:  # of equals the one that was trained longest
            return
        whole = str(self.filepath).endswith(".keras")
        save = self.model.save if whole else self.model.save_weights
        if not self.averaged:
            write_atomically(self.filepath, save)
            return
        swap = keras.callbacks.SwapEMAWeights()
        swap.set_model(self.model)
        swap.on_test_begin()
        try:
            write_atomically(self.filepath, save)
        finally:
            swap.on_test_end()


class TAPSEarlyStopping(_Selection):
    """Stop when the validation TAPS accuracy no longer rises, once the radius is final.

    Args:
        patience: Epochs >= 1 in a row without a higher value after which training stops.
        monitor: Logged quantity to maximise.
        past: Values of the epochs at the final radius that were trained before, oldest first, of
            the run that is resumed.

    Raises:
        ValueError: For a value out of range, or if the quantity is not logged.

    Example:

    ```python
    model.fit(train, epochs=70, validation_data=validation,
              callbacks=[EpsAnneal(epochs=20), TAPSEarlyStopping(patience=10)])
    ```
    """

    def __init__(self, patience: int = 10, monitor: str = "val_taps_accuracy", past: Sequence = ()):
        super().__init__(monitor)
        self.patience = check_count("patience", patience, low=1)
        self.waited = 0
        for value in past:
            self.count(value)

    @property
    def finished(self) -> bool:
        """Whether the patience is used up."""
        return self.waited >= self.patience

    def counted(self, value: float, before: float) -> None:
        self.waited = 0 if value > before else self.waited + 1


class WeightAveraging(keras.callbacks.SwapEMAWeights):
    """Average the weights at the ends of the last epochs, all alike (SWA), and validate these.

    Training goes on with its own weights; when `fit` ends the model has the average. Until
    `start_epoch` the validated weights are the trained ones. `BestModel(averaged=True)` keeps what
    was validated. The average lies in the optimizer, so it is saved with the model, and a resumed
    run continues it. Put `BatchNormReestimation` after this callback: batch statistics of other
    weights do not fit.

    Args:
        start_epoch: Epochs >= 0 of the run after which the average begins; counted from its first
            epoch, also where it is resumed.

    Raises:
        ValueError: For a value out of range, or an optimizer that has no such average.

    Example:

    ```python
    model.compile(keras.optimizers.Adam(5e-4, use_ema=True, ema_momentum=1.0))
    model.fit(train, epochs=70, validation_data=validation,
              callbacks=[EpsAnneal(20), WeightAveraging(60), BestModel("swa.keras", averaged=True)])
    ```

    References:
        Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018;
        the code of "CTBench: A Library and Benchmark for Certified Training", 2025, which takes
        the weights of every tenth step in place of each epoch.
    """

    def __init__(self, start_epoch: float):
        super().__init__()
        self.start_epoch = check_real("start_epoch", start_epoch, 0, float("inf"))
        self._due: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        optimizer = self.model.optimizer
        if not getattr(optimizer, "use_ema", False) or optimizer.ema_momentum != 1:
            raise ValueError(
                "WeightAveraging needs an optimizer that holds an average and leaves it alone: "
                "Adam(use_ema=True, ema_momentum=1.0), for instance. Received: "
                f"use_ema={getattr(optimizer, 'use_ema', False)}, "
                f"ema_momentum={getattr(optimizer, 'ema_momentum', None)}"
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._due = epoch

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._average()
        super().on_test_begin(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._average()

    def _average(self):
        """Once an epoch: before its validation, or without one at its end."""
        if self._due is None:
            return
        count, self._due = max(1, math.ceil(self._due + 1 - self.start_epoch)), None
        # On JAX, reading `self.model` also writes the state of the loop back into the variables.
        optimizer = self.model.optimizer
        averages = optimizer._model_variables_moving_average
        for weight, average in zip(self.model.trainable_variables, averages, strict=True):
            average.assign(average.value + (weight.value - average.value) / count)


class BatchNormReestimation(keras.callbacks.Callback):
    """Replace the moving averages of batch normalisation by moments over all training images.

    So are the mean shifts of distance layers, of the exact network. It happens at the end of each
    epoch, before the validation of that epoch, with the weights that are validated.

    Args:
        data: What yields `(images, ...)` batches and can be iterated in every epoch: `Batches`, a
            `tf.data.Dataset`, a list. Use the training images without augmentation.

    Raises:
        ValueError: If there are no batches.

    Example:

    ```python
    batches = Batches(x_train, y_train, 256, shuffle=False)
    model.fit(x_train, y_train, callbacks=[EpsAnneal(20), BatchNormReestimation(batches)])
    ```

    References:
        CTBench, "CTBench: A Library and Benchmark for Certified Training", 2025, which evaluates
        with such statistics.
    """

    def __init__(self, data: Any):
        super().__init__()
        self.data = data
        self._due, self._moments = False, None

    def _layers(self):
        network = self.model.network
        return [*network.trainable_batch_norms, *network.mean_shifts]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        network, layers = self.model.network, self._layers()

        def moments(images):
            taken = {}
            network(images, training=True, given=Pass(taken=taken))
            return [list(taken[layer]) for layer in layers]

        self._moments = backend.compiled(moments, network.variables)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._due = True

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._reestimate()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._reestimate()

    def _reestimate(self):
        if not self._due:
            return
        self._due = False
        # On JAX, reading `self.model` also writes the state of the loop back into the variables.
        layers = self._layers()
        if not layers:
            return
        total, sums = 0, [0.0] * len(layers)
        for images in self._images():
            count = len(images)
            found = self._moments(ops.convert_to_tensor(images, dtype=keras.config.floatx()))
            for index, moments in enumerate(found):
                mean, *variance = (
                    np.asarray(ops.convert_to_numpy(moment), "float64") for moment in moments
                )
                means = np.stack([mean, *(v + mean**2 for v in variance)])
                sums[index] = sums[index] + count * means
            total += count
        if not total:
            raise ValueError("`data` must yield batches of images. Received: no batch")
        for layer, means in zip(layers, sums, strict=True):
            mean, *square = means / total
            layer.moving_mean.assign(mean)
            if square:
                layer.moving_variance.assign(np.maximum(square[0] - mean**2, 0))

    def _images(self):
        if isinstance(self.data, keras.utils.PyDataset):
            return (self.data[index][0] for index in range(len(self.data)))
        return (batch[0] for batch in self.data)

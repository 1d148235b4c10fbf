"""Callbacks of certified training: the radius schedule and the choice of the best model."""

import keras

from keras_taps.checks import check_real
from keras_taps.files import write_atomically


class EpsAnneal(keras.callbacks.Callback):
    """Grow the radius from 0 to `train_eps` over the first epochs, step by step.

    The schedule runs inside the compiled step, from a step counter that is saved with the model;
    this callback only sets where it starts and ends. Steps are counted over the life of the
    model, so a resumed run goes on in the middle of the ramp.

    Args:
        epochs: Epochs > 0 the ramp takes; fractions are allowed.
        start_epoch: Epoch >= 0 at which it begins.
        steps_per_epoch: Needed only for data whose length Keras cannot know.

    Raises:
        ValueError: For a value out of range, a model that has no radius, or data of unknown
            length without `steps_per_epoch`.

    Example:

    ```python
    model.fit(train, epochs=70, callbacks=[EpsAnneal(epochs=20)])
    ```

    References:
        Gowal et al. 2018; Mao et al. 2023, Table 5.
    """

    def __init__(self, epochs, start_epoch=0, steps_per_epoch=None):
        super().__init__()
        self.epochs = check_real("epochs", epochs, 0, float("inf"), low_open=True)
        self.start_epoch = check_real("start_epoch", start_epoch, 0, float("inf"))
        self.steps_per_epoch = steps_per_epoch

    def on_train_begin(self, logs=None):
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
        self.model.set_annealing(start, start + max(1, round(self.epochs * steps)))


class BestModel(keras.callbacks.Callback):
    """Keep the model with the highest validation TAPS accuracy, once the radius is final.

    Epochs that end while the radius still grows do not count: they are easier. The images that
    choose must be held out from training and from testing.

    Args:
        filepath: File to write, `*.keras` (the model with its training state) or `*.weights.h5`;
            it is whole at any time.
        monitor: Logged quantity to maximise.
        best: Value to beat, of the run that is resumed.

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

    def __init__(self, filepath, monitor="val_taps_accuracy", best=None):
        super().__init__()
        if not str(filepath).endswith((".keras", ".weights.h5")):
            raise ValueError(
                f"`filepath` must end in '.keras' or '.weights.h5'. Received: '{filepath}'"
            )
        self.filepath = filepath
        self.monitor = monitor
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        if not self.model.annealed():
            return
        if self.monitor not in (logs or {}):
            raise ValueError(
                f"BestModel needs '{self.monitor}' in the logs: give `validation_data` to fit. "
                f"Received: {', '.join(logs or {})}"
            )
        value = float(logs[self.monitor])
        if self.best is None or value > self.best:
            self.best = value
            whole = str(self.filepath).endswith(".keras")
            write_atomically(self.filepath, self.model.save if whole else self.model.save_weights)

"""The radius of training: a schedule that is saved with the model and runs in its compiled step."""

import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.checks import check_choice, check_count
from keras_taps.schedules import SHAPES, progress, smooth_eps
from keras_taps.typing import Tensor


class RadiusSchedule:
    """Mixin of a Keras model that counts its training steps and grows `eps` to `train_eps`.

    The counters are variables of the model: compiled steps read them, and a resumed run continues
    where it was.
    """

    def create_counters(self) -> None:
        """Create the variables; called once, by the constructor of the model."""
        self.step = self._counter("step")
        self.anneal_start = self._counter("anneal_start")
        self.anneal_end = self._counter("anneal_end")

    def _counter(self, name):
        with backend.on_host():  # where reading it waits for no accelerator
            return self.add_weight(
                name=name,
                shape=(),
                dtype="int32",
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
            )

    def count_step(self) -> None:
        """Count a training step."""
        with backend.on_host():
            self.step.assign_add(1)

    def scheduled_eps(self) -> tuple[Tensor | bool, Tensor]:
        """`(annealing, eps)` of the step to come: a boolean tensor and the radius.

        Where steps are not compiled, `annealing` is `False` once it has ended.
        """
        final = ops.convert_to_tensor(self.train_eps, dtype="float32")
        if not backend.compiles() and self.annealed():
            return False, final
        straight, *ramp = self.ramp()
        step, _, end = ramp
        line = final * progress(*ramp)
        return step < end, ops.where(straight, line, smooth_eps(*ramp, final))

    def share_of(self, eps: Tensor) -> Tensor:
        """Which share of `train_eps` a radius on the way to it is, a scalar tensor."""
        final = float(np.mean(self.train_eps))
        return ops.mean(eps) / final if final else 1.0

    def ramp(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`(straight, step, start, end)` of the schedule, as tensors."""
        step, start, end = (
            ops.convert_to_tensor(v) for v in (self.step, self.anneal_start, self.anneal_end)
        )
        straight = start < 0
        return straight, step, ops.where(straight, -1 - start, start), end

    def annealed(self) -> bool:
        """Whether the radius has reached `train_eps`; reads variables, so call it between steps."""
        return int(self.step) >= int(self.anneal_end)

    def set_annealing(self, start: int, end: int, shape: str = "smooth") -> None:
        """Grow the radius from training step `start` to `end`; `EpsAnneal` calls this.

        Args:
            start: Step >= 0.
            end: Step >= `start`.
            shape: 'smooth' or 'linear'.

        Raises:
            ValueError: If a step is negative, `end < start` or there is no such shape.
        """
        check_choice("shape", shape, SHAPES)
        start, end = check_count("start", start), check_count("end", end)
        if end < start:
            raise ValueError(f"`end` must be at least `start`. Received: {start=}, {end=}")
        # The sign saves the shape with the model: old files have no fourth counter.
        self.anneal_start.assign(start if shape == "smooth" else -1 - start)
        self.anneal_end.assign(end)

"""What one pass through the layers leaves for the next: batch statistics and ReLU input boxes.

Both are kept in plain Python objects while a step is traced or run, so they are tensors of that
step, with gradients on every backend, and no variable has to carry them.
"""

import contextlib
import threading

from keras import ops


class _Active(threading.local):
    # Thread-local: tf.distribute traces each replica in a thread of its own.
    recording = None
    replaying = None
    stop_gradient = False
    relu_inputs = None
    relu_shrinkage = 1.0


_active = _Active()


@contextlib.contextmanager
def _set(**values):
    before = {name: getattr(_active, name) for name in values}
    vars(_active).update(values)
    try:
        yield
    finally:
        vars(_active).update(before)


class BatchStatistics:
    """The biased batch moments of the clean images of one training step.

    The clean pass records them; bounds, latent points and adversarial points replay them, so
    that all see the same network and the moving averages move exactly once a step.

    Example:

    ```python
    statistics = BatchStatistics()
    with statistics.record():
        logits = network(images, training=True)  # updates the moving averages
    with statistics.replay():
        bounds = network(input_box(images, eps))  # same moments, no update
    ```

    References:
        Shi et al., "Fast Certified Robust Training with Short Warmup", 2021, section 4.
    """

    def __init__(self):
        self._moments = {}

    def record(self):
        """Context in which normalisation layers called with `training=True` leave their moments."""
        return _set(recording=self)

    def replay(self):
        """Context in which normalisation layers use the recorded moments, on tensors and boxes."""
        return _set(replaying=self)

    def put(self, layer, mean, variance):
        """Keep the moments of `layer`."""
        self._moments[id(layer)] = (mean, variance)

    def get(self, layer):
        """Moments `(mean, variance)` of `layer`, or `None` if it took none: it is not trainable."""
        return self._moments.get(id(layer))


def record_moments(layer, mean, variance):
    """Leave the moments of `layer` with the recording scope, if there is one."""
    if _active.recording is not None:
        _active.recording.put(layer, mean, variance)


def replayed_moments(layer):
    """Moments to use for `layer` now, or `None` outside a replay or where none were recorded."""
    if _active.replaying is None:
        return None
    moments = _active.replaying.get(layer)
    if moments is not None and _active.stop_gradient:
        moments = tuple(ops.stop_gradient(moment) for moment in moments)
    return moments


def replayed():
    """The moments of the open replay, for a pass that is computed again when it is closed.

    Returns:
        `(moments, again)`: a flat list of tensors, and a function that opens a replay of tensors
        given in their place.
    """
    if _active.replaying is None:
        return [], lambda tensors: contextlib.nullcontext()
    keys = list(_active.replaying._moments)
    flat = [moment for pair in _active.replaying._moments.values() for moment in pair]

    def again(tensors):
        statistics = BatchStatistics()
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        statistics._moments = dict(zip(keys, pairs, strict=True))
        return statistics.replay()

    return flat, again


def is_replaying():
    """Whether a `BatchStatistics.replay` scope is open."""
    return _active.replaying is not None


def stop_statistics_gradient():
    """Context in which no gradient flows through replayed moments: every attack runs in it."""
    return _set(stop_gradient=True)


@contextlib.contextmanager
def record_relu_inputs():
    """Context that yields a list and appends to it every box that enters a ReLU."""
    boxes = []
    with _set(relu_inputs=boxes):
        yield boxes


def record_relu_input(box):
    """Leave `box` with the recording scope, if there is one."""
    if _active.relu_inputs is not None:
        _active.relu_inputs.append(box)


def shrink_relus(factor):
    """Context in which the upper bounds of crossing ReLUs are multiplied by `factor` in (0, 1].

    For training alone: such a box does not hold every output any more, so it proves nothing.

    References:
        Müller et al., "Certified Training: Small Boxes are All You Need", 2023, appendix C.
    """
    return _set(relu_shrinkage=factor)


def relu_shrinkage():
    """Factor for the upper bounds of crossing ReLUs, 1 outside of `shrink_relus`."""
    return _active.relu_shrinkage

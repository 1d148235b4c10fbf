"""What the callers of a cascade give: a model, images and labels, stages, a shard."""

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_taps import backend
from keras_taps.checks import check_choice, check_labels
from keras_taps.choices import STAGES
from keras_taps.domain import UNIT, Domain, check_images
from keras_taps.networks.load import network_and_domain
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.verification.bridges.from_keras import read_network


def check_stages(stages):
    """Return the names of stages as a tuple, or raise `ValueError` if one is unknown or none given.

    Example:

    >>> check_stages(["ibp", "crown"])
    ('ibp', 'crown')
    """
    if isinstance(stages, str):
        stages = [stage.strip() for stage in stages.split(",")]
    if not len(stages):
        raise ValueError(f"`stages` must be a list of names out of {STAGES}. Received: {stages!r}")
    if len(set(stages)) < len(stages):
        raise ValueError(f"`stages` must name each stage once. Received: {list(stages)}")
    return tuple(check_choice("stages", stage, STAGES) for stage in stages)


def load_network(model, domain="model"):
    """Interval network, graph and `Domain` of a model or of the path of one."""
    network, domain = network_and_domain(model, domain)
    return network, read_network(network), domain


def checked_data(
    x: ArrayLike, y: ArrayLike, network: IntervalSequential, domain: Domain = UNIT
) -> tuple[np.ndarray, np.ndarray]:
    """Images in float32, the numbers that are certified, and labels `(count,)`.

    Raises:
        ValueError: If they do not fit the network or each other.
    """
    if y is None:
        raise ValueError("`y` must hold the labels; certification needs them. Received: None")
    x, y = np.asarray(x), np.asarray(y)
    check_images(x, network.input_shape[1:], domain)
    check_labels(y, network.num_classes)
    y = y.reshape(-1).astype("int64")
    if len(x) != len(y):
        raise ValueError(
            f"`x` and `y` must have the same length. Received: {len(x)} images, {len(y)} labels"
        )
    return x.astype("float32"), y


def parse_shard(shard):
    """First index and step of a shard "i/n", or `ValueError`."""
    if shard is None:
        return 0, 1
    number, _, count = str(shard).partition("/")
    if number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count):
        return int(number) - 1, int(count)
    raise ValueError(f'`shard` must be text "i/n" with 1 <= i <= n. Received: shard={shard!r}')


def own_outputs(network, batch_size):
    """Outputs of the model itself, batches padded to one shape."""
    run = backend.compiled(network, network.variables)

    def outputs(points):
        found = []
        for start in range(0, len(points), batch_size):
            part = points[start : start + batch_size]
            filled = np.resize(part, (batch_size, *part.shape[1:])).astype("float32")
            found.append(ops.convert_to_numpy(run(ops.convert_to_tensor(filled)))[: len(part)])
        return np.concatenate(found) if found else np.zeros((0, network.num_classes))

    return outputs

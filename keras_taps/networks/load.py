"""Networks from whatever a user has: a file, a run folder, a model, with one clear message."""

from pathlib import Path
from typing import TypeAlias

import keras

from keras_taps.domain import UNIT, Domain
from keras_taps.networks.convert import convert
from keras_taps.networks.sequential import IntervalSequential

ModelLike: TypeAlias = keras.Model | str | Path  # what `interval_network` takes


def model_file(folder):
    """Path of the model that a run folder stands for: the best, or the last if none was chosen."""
    best, last = Path(folder) / "best.keras", Path(folder) / "last.keras"
    return last if last.exists() and not best.exists() else best


def load_model(path: str | Path) -> keras.Model:
    """Load a `.keras` file, or the best model of a run folder.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as a model of this package.
    """
    path = model_file(path) if Path(path).is_dir() else Path(path)
    if path.suffix == ".onnx":
        raise ValueError(
            f"A model of Keras is needed here, a .keras file. Received: '{path}'. ONNX files are "
            "for `keras-taps verify` and `keras_taps.verification.read_onnx`."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file '{path}'.")
    try:
        return keras.saving.load_model(path)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ValueError(
            f"'{path}' cannot be loaded as a Keras model; the file may be damaged ({reason})."
        ) from error


def interval_network(model: ModelLike) -> IntervalSequential:
    """The interval network of whatever a user measures or certifies.

    Args:
        model: `IntervalSequential`, a model of certified training, a Keras model that `convert`
            takes, or the path of a `.keras` file or a run folder with one of them.

    Raises:
        FileNotFoundError: If it is a path without a file.
        ValueError: If it is none of these, or cannot be converted; the message names the layer.
    """
    return network_and_domain(model)[0]


def network_and_domain(model, domain="model"):
    """As `interval_network`, and what values the inputs may take.

    Args:
        model: As there.
        domain: `(low, high)`, numbers or arrays that broadcast to one input; `None` for no bounds;
            or 'model' for those that a model of certified training has, [0, 1] for others.

    Returns:
        `(IntervalSequential, Domain)`.

    Raises:
        FileNotFoundError: If it is a path without a file.
        ValueError: If it cannot be converted, or the domain is none or does not broadcast.
    """
    if isinstance(model, (str, Path)):
        model = load_model(model)
    if isinstance(domain, str) and domain == "model":
        domain = getattr(model, "domain", UNIT)
    network = getattr(model, "network", model)
    network = network if isinstance(network, IntervalSequential) else convert(network)
    return network, Domain.of(domain).fitted(network.input_shape[1:])

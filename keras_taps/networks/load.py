"""Models from `.keras` files, with one clear message if it cannot be."""

from pathlib import Path

import keras


def load_model(path):
    """Load a `.keras` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as a model of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file '{path}'.")
    try:
        return keras.saving.load_model(path)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ValueError(
            f"'{path}' cannot be loaded as a Keras model; the file may be damaged ({reason})."
        ) from error

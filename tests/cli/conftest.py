"""Models on disk, for the commands that read them."""

import keras
import pytest

from keras_taps import datasets
from keras_taps.experiments.build import build_model
from keras_taps.experiments.recipes import recipe
from keras_taps.experiments.run import Run
from keras_taps.verification import certify


@pytest.fixture(scope="session")
def stock(tmp_path_factory):
    """Path of a stock Keras model that reads some digits."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(12, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    x, y = datasets.load("digits").train
    model.fit(x, y, batch_size=128, epochs=8, verbose=0)
    path = tmp_path_factory.mktemp("models") / "stock.keras"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def softmax(tmp_path_factory):
    """Path of a model whose outputs are probabilities."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    path = tmp_path_factory.mktemp("models") / "softmax.keras"
    model.save(path)
    return path


@pytest.fixture
def run_folder(tmp_path):
    """Run folder of a tiny network that was never trained."""
    chosen = recipe("digits-0.1-ibp", width=1)
    run = Run.create(tmp_path / "run", chosen)
    build_model(chosen, 1, 0).save(run.path("best.keras"))
    return run.folder


@pytest.fixture(scope="session")
def shards(stock, tmp_path_factory):
    """Paths of two reports with certificates, each of half of 8 digits; not to be changed."""
    folder = tmp_path_factory.mktemp("shards")
    x, y = (part[:8] for part in datasets.load("digits").test)
    stages = ["ibp", "attack", "crown-ibp"]
    paths = [folder / f"part-{i}.jsonl" for i in (1, 2)]
    for i, path in enumerate(paths, 1):
        options = {"stages": stages, "certificates": True, "batch_size": 4}
        certify(stock, x, y, 0.03, out=path, shard=f"{i}/2", **options)
    return paths

import os

import numpy as np
import pytest

from keras_taps import backend
from keras_taps.training import STAPSModel
from tests.helpers import dense_network, numbers

pytestmark = pytest.mark.skipif(backend.NAME != "jax", reason="only JAX keeps compilations")

FOLDER, ENABLED = "jax_compilation_cache_dir", "jax_enable_compilation_cache"


@pytest.fixture
def config():
    """The configuration of JAX, put back afterwards."""
    import jax

    names = (FOLDER, ENABLED, "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder(config, monkeypatch, tmp_path):
    from keras_taps.backend import jax_cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config.update(FOLDER, "mine")
    jax_cache.keep_compilations()
    assert getattr(config, FOLDER) == "mine"

    config.update(FOLDER, None)
    config.update(ENABLED, False)
    jax_cache.keep_compilations()
    assert getattr(config, FOLDER) is None
    assert not list(tmp_path.iterdir())

    config.update(ENABLED, True)
    jax_cache.keep_compilations()
    (folder,) = (tmp_path / "keras_taps" / "jax").iterdir()
    assert getattr(config, FOLDER) == str(folder)

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    config.update(FOLDER, None)
    jax_cache.keep_compilations()
    assert getattr(config, FOLDER) is None


def test_the_oldest_files_go(tmp_path):
    from keras_taps.backend import jax_cache

    for age in range(5):
        path = tmp_path / str(age)
        path.write_bytes(bytes(10))
        os.utime(path, (1000 - age, 1000 - age))
    jax_cache.shrink(tmp_path, 50)
    assert len(list(tmp_path.iterdir())) == 5
    jax_cache.shrink(tmp_path, 49)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def test_every_seed_has_the_same_program():
    import jax

    x, y = np.abs(numbers(2, 6)) / 10, np.array([0, 1])
    network = dense_network()

    def program(seed):
        model = STAPSModel(network, 0.1, seed=seed, attack_steps=1, pgd_steps=1)
        variables = (
            model.trainable_variables,
            model.non_trainable_variables,
        )

        def loss(trainable, non_trainable):
            return model.stateless_compute_loss(
                trainable, non_trainable, [v.value for v in model.metrics_variables], x=x, y=y
            )

        return str(jax.make_jaxpr(loss)(*([v.value for v in part] for part in variables)))

    assert program(1) == program(2)

"""What every test shares: one seed, no device but the CPU, hypothesis without deadlines."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The tests compile many tiny functions and run each of them once.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Half of the time goes into code generation if XLA fuses what it compiles, a tenth of the rest
# into splitting small functions for many threads.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)
# Many are alike, so compilations are kept. Workers of one run share them, for they inherit the
# variable: what another is still writing is compiled again, with a warning.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import gc

import hypothesis
import pytest

# Keras is imported where it is needed: the process that hands tests to workers runs none.

# Derandomised, so that a red suite stays red when it is run again.
hypothesis.settings.register_profile(
    "keras_taps",
    deadline=None,
    max_examples=8,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("keras_taps")


# Where verdicts are decided, new examples are tried every time, as many as hypothesis likes.
ROOMS = {Path(__file__).parent / "verification" / n for n in ("certificate", "formats", "graph")}
USUAL = hypothesis.settings(max_examples=100, derandomize=False)


@pytest.fixture(autouse=True)
def seed():
    """Every test starts from the same global seed and names its layers anew."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def eager():
    """On TensorFlow operations run one by one in a file: where each function is called a few times,
    tracing takes several times as long.
    """
    if _backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True, scope="module")
def memory():
    """What JAX compiled for one file takes memory and time of all that follow."""
    yield
    if _backend() == "jax":
        import jax

        jax.clear_caches()


def pytest_collection_finish():
    """Tracing makes many objects that live on: they are looked at less often, imports never."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def pytest_collection_modifyitems(config, items):
    """Tests marked `once`, and examples, run on the backend that starts and compiles fastest."""
    for test in {item.obj for item in items if ROOMS & set(item.path.parents)}:
        chosen = hasattr(test, "_hypothesis_internal_settings_applied")
        if hypothesis.is_hypothesis_test(test) and not chosen:
            USUAL(test)
    if _backend() != "torch":
        once = [item for item in items if _is_once(item)]
        config.hook.pytest_deselected(items=once)
        items[:] = [item for item in items if not _is_once(item)]


def _backend():
    import keras

    return keras.backend.backend()


def _is_once(item):
    return isinstance(item, pytest.DoctestItem) or item.get_closest_marker("once")

import keras
import numpy as np
from keras import ops

from keras_taps import backend
from tests.helpers import close, dense_network, numbers, numpy, seed_tensor


def test_input_gradient():
    x = ops.convert_to_tensor(numbers(3, 2))
    values, gradient = backend.input_gradient(lambda z: ops.sum(z**3, axis=-1), x)
    close(values, (numbers(3, 2) ** 3).sum(-1))
    close(gradient, 3 * numbers(3, 2) ** 2)


def test_uniform_is_pure():
    """The same seed gives the same numbers, whatever the global state."""
    first = numpy(backend.uniform((1000, 3), seed_tensor(1, 2)))
    keras.utils.set_random_seed(5)
    close(backend.uniform((1000, 3), seed_tensor(1, 2)), first, 0)
    assert first.min() >= 0
    assert first.max() < 1
    assert abs(first.mean() - 0.5) < 0.02
    for other in ((1, 3), (2, 2)):
        assert not np.allclose(numpy(backend.uniform((1000, 3), seed_tensor(*other))), first)


def test_compiled_reads_variables_anew():
    network, x = dense_network(), ops.convert_to_tensor(numbers(2, 6))
    function = backend.compiled(lambda z: network(z), network.variables)
    close(function(x), network(x))
    network.layers[-1].bias.assign_add(ops.ones(3))
    close(function(x), network(x))


def test_one_replica():
    assert backend.replica_count() == 1
    close(backend.global_mean(ops.array(2.0)), 2.0)

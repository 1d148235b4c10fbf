import keras
import numpy as np
import pytest
from keras import ops

from keras_taps import backend
from tests.helpers import close, dense_network, gradients, numbers, numpy, seed_tensor


def test_input_gradient():
    x = ops.convert_to_tensor(numbers(3, 2))
    values, gradient = backend.input_gradient(lambda z: ops.sum(z**3, axis=-1), x)
    close(values, (numbers(3, 2) ** 3).sum(-1))
    close(gradient, 3 * numbers(3, 2) ** 2)
    weight = keras.Variable(2.0)
    for unused in (lambda z: ops.ones(3), lambda z: ops.ones(3) * weight):
        close(backend.input_gradient(unused, x)[1], np.zeros((3, 2)))


def test_recomputed_has_the_same_gradient():
    """Of everything that is given, and 0 for what is not used."""
    a, b, c = (ops.convert_to_tensor(numbers(3, 2, seed=i)) for i in range(3))

    def function(a, b, unused):
        return ops.sum(ops.sin(a)) * ops.sum(b**2)

    def again(a, b, unused):
        return backend.recomputed(function, a, b, unused)

    (value, found), (whole, expected) = (gradients(f, a, b, c) for f in (again, function))
    close(value, whole, 1e-6)
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, 1e-6)


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


@pytest.mark.parametrize(
    ("shape", "window", "strides", "padding"),
    [
        ((2, 9, 9, 1), (5, 5), 2, "valid"),  # rows and columns after the last window
        ((3, 9, 7, 3), (3, 2), (2, 3), "same"),
        ((2, 6, 6, 2), (4, 4), (2, 2), "valid"),
        ((2, 7, 7, 2), (1, 1), 2, "same"),
        ((2, 6, 6, 2), (2, 2), 3, "valid"),  # strides over pixels that no window sees
    ],
)
@pytest.mark.parametrize("longest", [0, 10**6], ids=["windows", "rows"])
def test_convolution_and_its_derivatives(shape, window, strides, padding, longest, monkeypatch):
    for name in ("_ROW", "_BACK_ROW"):  # only JAX takes short rows as they are
        if backend.NAME == "jax":
            monkeypatch.setattr(f"keras_taps.backend.jax_convolution.{name}", longest)
    random = np.random.default_rng(0)
    x = ops.convert_to_tensor(random.normal(size=shape).astype("float32"))
    kernel = random.normal(size=(*window, shape[-1], 4)).astype("float32")

    def own(x):
        return backend.convolution(x, kernel, strides, padding, "channels_last", (1, 1))

    def stock(x):
        return ops.conv(x, kernel, strides=strides, padding=padding)

    rows = ops.sin(stock(x))
    close(own(x), stock(x), 1e-4)
    close(backend.transposed(own, x, rows), backend.transposed(stock, x, rows), 1e-4)

    def again(function):  # the derivative of the transpose, as in the training with CROWN
        def pulled(rows):
            return ops.sin(backend.transposed(function, x, rows))

        return backend.input_gradient(pulled, rows)[1]

    close(again(own), again(stock), 1e-4)


@pytest.mark.skipif(backend.NAME == "tensorflow", reason="its convolution keeps the input's size")
def test_convolution_of_no_images():
    x, kernel = ops.zeros((0, 9, 9, 1)), ops.ones((3, 3, 1, 2))
    y = backend.convolution(x, kernel, 2, "valid", "channels_last", (1, 1))
    assert tuple(y.shape) == (0, 4, 4, 2)


@pytest.mark.skipif(backend.NAME != "jax", reason="only JAX has derivatives of its own")
@pytest.mark.parametrize("longest", [(0, 0), (0, 10**6), (10**6, 10**6)])
def test_derivatives_of_the_kernel_gradient(longest, monkeypatch):
    import jax

    for name, value in zip(("_ROW", "_BACK_ROW"), longest, strict=True):
        monkeypatch.setattr(f"keras_taps.backend.jax_convolution.{name}", value)
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 9, 7, 3)).astype("float32")
    kernel = random.normal(size=(3, 2, 3, 4)).astype("float32")

    def second(function):
        def total(x, kernel):
            y, pull = jax.vjp(function, x, kernel)
            return sum(ops.sum(ops.sin(part)) for part in pull(ops.sin(y)))

        return jax.grad(total, (0, 1))(x, kernel)

    own = second(lambda x, k: backend.convolution(x, k, 2, "same", "channels_last", 1))
    stock = second(lambda x, k: ops.conv(x, k, strides=2, padding="same"))
    for one, other in zip(own, stock, strict=True):
        close(one, other, 1e-4)


@pytest.mark.parametrize("kind", [keras.optimizers.Adam, keras.optimizers.AdamW])
def test_a_hastened_optimizer_steps_as_that_of_keras(kind):
    """Tiny gradients too, where epsilon counts, and those whose axes a convolution permutes."""
    random = np.random.default_rng(0)
    start = [random.normal(size=shape).astype("float32") for shape in ((3, 4), (2, 3, 5, 4))]
    drawn = 10.0 ** random.uniform(-12, 0, (5, 3, 4)), random.normal(size=(5, 4, 5, 2, 3))
    outcomes = []
    for hastened in (False, True):
        weights = [keras.Variable(value) for value in start]
        optimizer = kind(1e-2, epsilon=1e-7, global_clipnorm=1.0)
        optimizer.build(weights)
        if hastened:
            backend.hasten(optimizer)
        for rows, images in zip(*drawn, strict=True):
            gradients = rows.astype("float32"), images.astype("float32")
            plain, permuted = map(ops.convert_to_tensor, gradients)
            optimizer.apply([plain, ops.transpose(permuted, (2, 3, 1, 0))], weights)
        outcomes.append([numpy(value) for value in (*weights, *optimizer.variables[2:])])
    for found, expected in zip(*outcomes, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)

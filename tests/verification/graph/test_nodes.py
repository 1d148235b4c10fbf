"""Each node alone: against its matrix, its transpose, and plain loops."""

import numpy as np
import pytest

from keras_taps.verification.graph.nodes import (
    Conv,
    Dense,
    MaxPool,
    Relu,
    Reshape,
    Scale,
    Sum,
    same_padding,
)

RNG = np.random.default_rng(0)
SHAPE = (5, 4, 2)


def conv(height, width, inputs, outputs, **options):
    kernel = RNG.normal(size=(height, width, inputs, outputs))
    return Conv(kernel, RNG.normal(size=outputs), SHAPE, **options)


LINEAR = {
    "dense": Dense(RNG.normal(size=(6, 4)), RNG.normal(size=4)),
    "plain": conv(3, 2, 2, 3),
    "strides": conv(2, 2, 2, 3, strides=(2, 3)),
    "stride that leaves a rest": conv(2, 3, 2, 1, strides=(2, 2)),
    "padding": conv(3, 3, 2, 2, padding=((1, 2), (0, 3))),
    "padding and strides": conv(3, 2, 2, 2, strides=(2, 1), padding=((2, 0), (1, 1))),
    "dilation": conv(2, 2, 2, 3, dilation=(3, 2)),
    "groups": conv(2, 2, 1, 4, groups=2),
    "groups, strides and dilation": conv(
        2, 2, 1, 6, groups=2, strides=(1, 2), dilation=(2, 1), padding=((0, 1), (1, 0))
    ),
    "depthwise": conv(3, 3, 1, 2, groups=2, padding=((1, 1), (1, 1))),
    "scale": Scale(RNG.normal(size=SHAPE), RNG.normal(size=SHAPE), SHAPE),
    "scale a channel": Scale(RNG.normal(size=2), np.zeros(()), SHAPE),
    "scale a row": Scale(RNG.normal(size=(5, 1, 1)), RNG.normal(size=(5, 1, 1)), SHAPE),
    "reshape": Reshape(SHAPE, (8, 5)),
}


@pytest.fixture(params=LINEAR)
def node(request):
    return LINEAR[request.param]


def matrix(node):
    """The map as a matrix `(inputs, outputs)`, one input at a time."""
    size = int(np.prod(node.in_shape))
    return node.apply(np.eye(size).reshape(size, *node.in_shape)).reshape(size, -1)


def test_shapes(node):
    assert node(np.zeros((3, *node.in_shape))).shape == (3, *node.out_shape)
    for count in (2, 0):
        assert node.transpose(np.zeros((count, *node.out_shape))).shape == (count, *node.in_shape)


def test_transpose(node):
    """<Wx, r> = <x, W'r>."""
    x, r = RNG.normal(size=(7, *node.in_shape)), RNG.normal(size=(7, *node.out_shape))
    ahead = (node.apply(x) * r).reshape(7, -1).sum(1)
    back = (x * node.transpose(r)).reshape(7, -1).sum(1)
    np.testing.assert_allclose(ahead, back, rtol=1e-12, atol=1e-12)


def test_absolute(node):
    """The matrix of `absolute` is the elementwise absolute value, and it has no bias."""
    bare = node.absolute()
    np.testing.assert_array_equal(matrix(bare), np.abs(matrix(node)))
    assert not np.any(bare.bias)
    assert not np.any(bare.magnitude)


def test_affine(node):
    x = RNG.normal(size=(3, *node.in_shape))
    np.testing.assert_array_equal(node(x), node.apply(x) + node.bias)
    through = (x.reshape(3, -1) @ matrix(node)).reshape(3, *node.out_shape)
    np.testing.assert_allclose(node.apply(x), through, rtol=1e-12, atol=1e-12)


def test_terms_count_every_summand(node):
    """No output, and no entry of the transpose, sums more products than `terms`."""
    used = matrix(node) != 0
    most = max(used.sum(0).max(), used.sum(1).max())
    assert most <= node.terms or isinstance(node, Reshape)


def test_magnitude_defaults_to_the_bias(node):
    np.testing.assert_array_equal(node.magnitude, np.abs(node.bias))


def test_arrays_become_float64():
    found = Dense(np.ones((2, 3), "float32"), np.zeros(3, "int32"))
    assert {v.dtype for v in vars(found).values()} == {np.dtype("float64")}


@pytest.mark.parametrize("name", ["dense", "padding and strides", "groups"])
def test_scaled(name):
    node = LINEAR[name]
    scale, shift = RNG.normal(size=node.out_shape[-1]), RNG.normal(size=node.out_shape[-1])
    found = node.scaled(scale, shift, np.abs(shift))
    x = RNG.normal(size=(4, *node.in_shape))
    np.testing.assert_allclose(found(x), node(x) * scale + shift, rtol=1e-12, atol=1e-12)
    assert np.all(found.magnitude >= np.abs(found.bias) * (1 - 1e-15))


def test_convolution_by_loops():
    node = LINEAR["groups, strides and dilation"]
    x = RNG.normal(size=SHAPE)
    (top, _), (left, _) = node.padding
    found = node(x[None])[0]
    for i, j, o in np.ndindex(node.out_shape):
        total = node.bias[o]
        group = o // (node.kernel.shape[-1] // node.groups)
        for a, b, c in np.ndindex(node.kernel.shape[:3]):
            row = i * node.strides[0] + a * node.dilation[0] - top
            column = j * node.strides[1] + b * node.dilation[1] - left
            if 0 <= row < SHAPE[0] and 0 <= column < SHAPE[1]:
                total += node.kernel[a, b, c, o] * x[row, column, group + c]
        assert found[i, j, o] == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_relu(slope):
    x = RNG.normal(size=(50, 3))
    expected = np.where(x > 0, x, slope * x)
    np.testing.assert_array_equal(Relu((3,), slope)(x), expected)


@pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [((2, 2), (2, 2), ((0, 0), (0, 0))), ((3, 2), (2, 1), ((1, 1), (0, 1)))],
)
def test_max_pool(size, strides, padding):
    """Negative inputs: padding with zeros would win."""
    node, x = MaxPool(SHAPE, size, strides, padding), -np.abs(RNG.normal(size=SHAPE))
    found, members = node(x[None])[0], node.members()
    assert found.shape == node.out_shape
    for i, j, c in np.ndindex(node.out_shape):
        rows = i * strides[0] - padding[0][0] + np.arange(size[0])
        columns = j * strides[1] - padding[1][0] + np.arange(size[1])
        rows = rows[(rows >= 0) & (rows < SHAPE[0])]
        columns = columns[(columns >= 0) & (columns < SHAPE[1])]
        assert found[i, j, c] == x[np.ix_(rows, columns, [c])].max()
        inside = members[i, j, c][members[i, j, c] >= 0]
        expected = [(r * SHAPE[1] + k) * SHAPE[2] + c for r in rows for k in columns]
        assert sorted(inside) == sorted(expected)


def test_sum_with_an_identity():
    branch = (LINEAR["depthwise"], Relu(SHAPE))
    node, x = Sum(SHAPE, (branch, ())), RNG.normal(size=(2, *SHAPE))
    np.testing.assert_array_equal(node(x), np.maximum(branch[0](x), 0) + x)
    assert node.out_shape == Sum(SHAPE, ((), branch)).out_shape == SHAPE


@pytest.mark.parametrize("n", [5, 6, 7])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("s", [1, 2, 3])
def test_same_padding_keeps_every_pixel(n, k, s):
    """As many outputs as strides fit, and the odd pixel at the end."""
    ((before, after),) = same_padding((n,), (k,), (s,), (1,))
    assert (n + before + after - k) // s + 1 == -(-n // s)
    assert 0 <= after - before <= 1

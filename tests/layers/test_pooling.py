import keras
import numpy as np
import pytest

from keras_taps.layers import IntervalAveragePooling2D
from keras_taps.networks import convert
from tests.helpers import BACKEND, assert_contains, close, numbers, numpy, random_box


def averages(x, pool, stride):
    """Mean of the pixels in each window, padded as TensorFlow does, by hand."""
    sizes = x.shape[1:3]
    counts = [-(-n // stride) for n in sizes]
    before = [
        max((c - 1) * stride + k - n, 0) // 2 for c, k, n in zip(counts, pool, sizes, strict=True)
    ]
    rows, columns = (
        [slice(max(i * stride - b, 0), i * stride - b + k) for i in range(c)]
        for c, b, k in zip(counts, before, pool, strict=True)
    )
    return np.stack([[x[:, r, c].mean((1, 2)) for c in columns] for r in rows]).transpose(
        2, 0, 1, 3
    )


@pytest.mark.parametrize("pool", [(2, 2), (3, 3), (4, 4), (2, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [5, 6])
def test_average_of_the_pixels_in_a_window(size, pool, stride):
    layer = IntervalAveragePooling2D(pool, strides=stride, padding="same")
    x = numbers(2, size, size, 3)
    close(layer(x), averages(x, pool, stride), 1e-5)
    box = random_box(2, size, size, 3)
    assert_contains(layer(box), numpy(layer(box.centre)))


def test_where_the_stock_layer_is_another_function():
    stock = keras.Sequential(
        [keras.Input((5, 5, 1)), keras.layers.AveragePooling2D(4, padding="same")]
    )
    if BACKEND != "torch":
        close(convert(stock)(numbers(2, 5, 5, 1)), numpy(stock(numbers(2, 5, 5, 1))))
        return
    with pytest.raises(ValueError, match=r"counts repeated border pixels.*Accepted"):
        convert(stock)

import numpy as np
import pytest

from keras_taps.checks import (
    check_choice,
    check_count,
    check_labels,
    check_real,
)
from keras_taps.domain import check_images, check_radius


@pytest.mark.parametrize("value", [0, 0.5, 1, np.float32(0.25), np.int64(1)])
def test_real_in_range(value):
    assert check_real("a", value, 0, 1) == float(value)


@pytest.mark.parametrize("value", [-1e-9, 1.1, float("nan"), "0.5", None, True, [0.5]])
def test_real_out_of_range(value):
    with pytest.raises(ValueError, match=r"`a` must be a number in \[0, 1\]. Received: a="):
        check_real("a", value, 0, 1)


def test_real_open_below():
    with pytest.raises(ValueError, match=r"\(0, inf\)"):
        check_real("a", 0, 0, float("inf"), low_open=True)


def test_radius_hints_at_pixel_units():
    assert check_radius("eps", 2 / 255) == 2 / 255
    with pytest.raises(ValueError, match=r"Received: eps=2.*write 2 / 255, not 2"):
        check_radius("eps", 2)


def test_radius_as_text():
    assert check_radius("eps", "51 / 255") == 0.2
    assert check_radius("eps", "0.1") == 0.1
    for text in ("a", "1/0", "", "2/255/3"):
        with pytest.raises(ValueError, match="`train_eps` must be a number or a fraction"):
            check_radius("train_eps", text)
    with pytest.raises(ValueError, match="write 2 / 255, not 2"):
        check_radius("eps", "2")


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", None])
def test_count_refuses(value):
    with pytest.raises(ValueError, match=r"`n` must be a whole number >= 0. Received: n="):
        check_count("n", value)


def test_count_takes_numpy():
    assert check_count("n", np.int32(3), low=3) == 3


def test_choice():
    assert check_choice("mode", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"`mode` must be one of 'a', 'b'. Received: mode='c'"):
        check_choice("mode", "c", ("a", "b"))


def test_images_accepted():
    check_images(np.zeros((2, 3, 4, 1)), (3, 4, 1))
    check_images(np.ones((2, 3, 4, 1)), (None, None, 1))
    check_images(np.zeros((0, 3)), (3,))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3, 3, 1)), r"shape \(batch, 3, 4, 1\). Received: shape \(2, 3, 3, 1\)"),
        (np.zeros((3, 4, 1)), r"Received: shape \(3, 4, 1\)"),
        (np.zeros((2, 3, 4)), r"no channel axis: use x\[..., None\]"),
        (
            np.full((2, 3, 4, 1), 1.01),
            r"in \[0, 1\]. Received: 24 values outside, of values from 1.01",
        ),
        (np.full((2, 3, 4, 1), -0.01), r"Received: 24 values outside, of values from -0.01"),
        (np.full((2, 3, 4, 1), np.nan), r"24 values that are NaN or infinite, in 2 of 2 inputs"),
        (np.full((2, 3, 4, 1), np.inf), r"24 values that are NaN or infinite, in 2 of 2 inputs"),
    ],
)
def test_images_refused(x, message):
    with pytest.raises(ValueError, match=f"`x` must.*{message}"):
        check_images(x, (3, 4, 1))


def test_one_bad_pixel_among_many_is_found():
    x = np.zeros((2, 3, 4, 1))
    x[1, 2, 3, 0] = np.nan
    with pytest.raises(ValueError, match="Received"):
        check_images(x, (3, 4, 1))


def test_labels_accepted():
    check_labels(np.array([0, 1, 2]), 3)
    check_labels(np.array([[0], [2]]), 3)
    check_labels(np.array([0.0, 2.0]), 3)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 3], "from 0 to 2.*Received: values from 0 to 3"),
        ([-1, 0], "Received: values from -1 to 0"),
        ([0.5, 1], "Received: values from 0.5"),
        ([np.nan, 1], "Received: values from nan"),
        (["cat", "dog"], "Received: dtype <U3"),
        (np.eye(3), "one-hot labels: use argmax"),
        (np.zeros((2, 2, 2)), r"Received: shape \(2, 2, 2\)"),
    ],
)
def test_labels_refused(y, message):
    with pytest.raises(ValueError, match=f"`y` must.*{message}"):
        check_labels(np.asarray(y), 3)


def test_images_that_are_not_finite_are_counted_and_located():
    x = np.zeros((5, 2, 2, 1))
    x[3, 0] = np.nan
    x[4, 1, 1] = np.inf
    message = r"3 values that are NaN or infinite, in 2 of 5 inputs, the first at index 3"
    with pytest.raises(ValueError, match=message):
        check_images(x, (2, 2, 1))


def test_complex_images():
    with pytest.raises(ValueError, match=r"must hold real numbers. Received: dtype complex128"):
        check_images(np.zeros((1, 3), "complex"), (3,))


def test_the_first_wrong_label():
    with pytest.raises(ValueError, match=r"1 of 3 are none of these, the first 4 at index 2"):
        check_labels(np.array([0, 3, 4]), 4)

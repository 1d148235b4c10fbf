import numpy as np
import pytest
from keras import ops

from keras_taps.attacks.objectives import (
    dlr,
    image_objective,
    target_dlr,
    target_margin,
    until_broken,
    worst_margin,
)
from keras_taps.bounds.margins import cross_entropy, logit_margins
from tests.helpers import close, gradients, numbers

LOGITS = np.array([[1.0, 3.0, 2.0, 0.0], [1.0, 3.0, 2.0, 0.0]], "float32")
MARGINS = logit_margins(ops.convert_to_tensor(LOGITS), np.array([1, 2], "int32"))


def tensor(*values, dtype="float32"):
    return ops.convert_to_tensor(np.array(values, dtype))


def test_worst_margin():
    close(worst_margin(MARGINS), [-1, 1])


def test_dlr():
    """-(z_y - max z_i) / (z_1 - z_3), by hand."""
    close(dlr(MARGINS), [-1 / 2, 1 / 2])


def test_target_margin():
    close(target_margin(MARGINS, tensor(0, 1, dtype="int32")), [-2, 1])


def test_target_dlr():
    """-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2), by hand."""
    close(target_dlr(MARGINS, tensor(0, 1, dtype="int32")), [-2 / 2.5, 1 / 2.5])


@pytest.mark.parametrize("scale", [1e-3, 100.0])
def test_dlr_does_not_see_the_scale_of_logits(scale):
    close(dlr(scale * MARGINS), dlr(MARGINS))


def test_dlr_of_equal_logits_is_finite():
    close(dlr(tensor([0.0, 0.0, 0.0])), [0])
    close(target_dlr(tensor([0.0, 0.0, 0.0]), tensor(0, dtype="int32")), [0])


def test_dlr_has_the_sign_of_the_margin():
    margins = ops.convert_to_tensor(numbers(50, 4, low=-3, high=1))
    assert np.array_equal(ops.sign(dlr(margins)), ops.sign(worst_margin(margins)))


def test_a_broken_point_is_best_and_rests():
    """Ties count; neither value nor gradient depends on the objective any more."""
    margins = np.array([[-1.0, 0.0], [-1.0, -2.0], [np.nan, -1.0]], "float32")

    def value(margins):
        return until_broken(worst_margin(margins), margins)

    found = ops.convert_to_numpy(value(ops.convert_to_tensor(margins)))
    assert found[0] == np.inf
    assert found[1] == -1
    _, (gradient,) = gradients(lambda m: ops.sum(value(m)), margins[:2])
    close(gradient, [[0, 0], [1, 0]])


@pytest.mark.parametrize(
    ("name", "targeted", "expected"),
    [
        (None, False, cross_entropy),
        ("cross-entropy", False, cross_entropy),
        ("margin", False, worst_margin),
        ("dlr", False, dlr),
        (None, True, target_margin),
        ("margin", True, target_margin),
        ("dlr", True, target_dlr),
    ],
)
def test_names(name, targeted, expected):
    targets = tensor(2, 0, dtype="int32")
    expected = expected(MARGINS, targets) if targeted else expected(MARGINS)
    close(image_objective(name, targeted, 4)(MARGINS, targets), expected)


@pytest.mark.parametrize(
    ("name", "targeted", "classes", "message"),
    [
        ("loss", False, 10, "must be one of 'cross-entropy', 'margin', 'dlr'"),
        ("cross-entropy", True, 10, "of a targeted attack must be 'margin' or 'dlr'"),
        ("dlr", False, 2, "compares the 3 largest logits, .* a network of 2 classes"),
        ("dlr", True, 3, "compares the 4 largest logits if targeted, .* a network of 3 classes"),
    ],
)
def test_bad_names(name, targeted, classes, message):
    with pytest.raises(ValueError, match=f"`objective.*{message}"):
        image_objective(name, targeted, classes)

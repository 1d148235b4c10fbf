import numpy as np
import pytest
from keras import ops

from keras_taps.bounds import crown_ibp_margins, ibp_margins
from keras_taps.bounds.margins import (
    certified,
    cross_entropy,
    margin_rows,
    point_margins,
    upper_margins,
    wrong_classes,
)
from keras_taps.layers import IntervalDense, IntervalReLU
from keras_taps.networks import IntervalSequential
from tests.helpers import close, numbers, numpy, random_box, randomise

LABELS = np.array([0, 2, 3, 1], "int32")


def last_layer(use_bias=True):
    layer = IntervalDense(4, use_bias=use_bias)
    layer.build((None, 5))
    return randomise(layer)


def by_hand(layer, features, classes):
    """Margins from the logits, `o_i - o_y`."""
    logits = numpy(layer(ops.convert_to_tensor(features)))
    return np.take_along_axis(logits, classes, 1) - logits[np.arange(4), LABELS][:, None]


def test_wrong_classes():
    expected = [[c for c in range(4) if c != y] for y in LABELS]
    assert numpy(wrong_classes(LABELS, 4)).tolist() == expected


@pytest.mark.parametrize("use_bias", [True, False])
def test_margins_at_points_equal_differences_of_logits(use_bias):
    layer, features = last_layer(use_bias), numbers(4, 5)
    found = point_margins(margin_rows(layer, LABELS), ops.convert_to_tensor(features[:, None]))
    close(found, by_hand(layer, features, numpy(wrong_classes(LABELS, 4))))


@pytest.mark.parametrize("use_bias", [True, False])
def test_elision_equals_per_class_differencing(use_bias):
    """Property 8: exact over the box, and never looser than subtracting the bounds of logits."""
    layer, box = last_layer(use_bias), random_box(4, 5)
    classes = numpy(wrong_classes(LABELS, 4))
    found = numpy(upper_margins(margin_rows(layer, LABELS), box))
    kernel, (lower, upper) = numpy(layer.kernel), numpy(box)
    bias = numpy(layer.bias) if use_bias else np.zeros(4)
    logits = numpy(layer(box))
    for b, y in enumerate(LABELS):
        for n, c in enumerate(classes[b]):
            row = kernel[:, c] - kernel[:, y]
            # The vertex that maximises a linear function.
            exact = row @ np.where(row > 0, upper[b], lower[b]) + bias[c] - bias[y]
            close(found[b, n], exact)
            assert found[b, n] <= logits.upper[b, c] - logits.lower[b, y] + 1e-6


def test_true_class_gives_exactly_zero():
    """Property 8."""
    layer, box = last_layer(), random_box(4, 5)
    rows = margin_rows(layer, LABELS, classes=LABELS[:, None])
    assert not np.any(numpy(upper_margins(rows, box)))
    assert not np.any(numpy(point_margins(rows, ops.convert_to_tensor(numbers(4, 1, 5)))))


def test_cross_entropy_of_margins():
    logits = numbers(4, 4, low=-9, high=9).astype("float64")
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(4), LABELS]
    margins = np.stack(
        [np.delete(row - row[y], y) for row, y in zip(logits, LABELS, strict=True)]
    ).astype("float32")
    close(cross_entropy(ops.convert_to_tensor(margins)), expected)


def test_cross_entropy_does_not_overflow():
    close(cross_entropy(ops.array([[1000.0, -1000.0]])), [1000.0])
    close(cross_entropy(ops.array([[-1000.0, -1000.0]])), [0.0])


def test_certified_needs_finite_bounds_below_zero():
    """Ties count as not robust."""
    nan, inf = float("nan"), float("inf")
    rows = [[-1, -2], [-1, 0], [-1, 1], [nan, -1], [-inf, -1], [inf, -1]]
    expected = [True, False, False, False, False, False]
    assert numpy(certified(ops.array(rows))).tolist() == expected


@pytest.mark.parametrize("bound", [ibp_margins, crown_ibp_margins])
def test_a_last_layer_that_is_no_logits_is_refused(bound):
    """Merging W_i - W_y would drop the activation and certify what is a tie."""
    box = random_box(2, 4)
    for last, name in ((IntervalDense(3, activation="relu"), "relu"), (IntervalReLU(), "linear")):
        network = IntervalSequential([IntervalDense(3), last], input_shape=(4,))
        with pytest.raises(ValueError, match=f"must be a Dense layer of logits.*'{name}'"):
            bound(network, box, np.array([0, 1]))


@pytest.mark.parametrize("bound", [ibp_margins, crown_ibp_margins])
def test_coarse_precision_is_refused(bound):
    """Float32 bounds would be about another network than the one that computes in bfloat16."""
    for layers in ([IntervalDense(3, dtype="mixed_bfloat16")],
                   [IntervalDense(3, dtype="mixed_bfloat16"), IntervalDense(3)]):  # fmt: skip
        network = IntervalSequential(layers, input_shape=(4,))
        with pytest.raises(ValueError, match="computes in bfloat16"):
            bound(network, random_box(2, 4), np.array([0, 1]))


@pytest.mark.parametrize("labels", [np.eye(4), np.zeros((2, 2, 1))])
def test_labels_that_are_not_one_an_image_are_refused(labels):
    with pytest.raises(ValueError, match=r"one-hot labels: use argmax.*Received: shape"):
        margin_rows(last_layer(), ops.convert_to_tensor(labels))

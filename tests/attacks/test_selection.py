"""Classes chosen by their bounds: margins of all from points of some, and what that can cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_taps.attacks.box_attack import box_attack, margins_at
from keras_taps.attacks.selection import Selection, check_estimators
from keras_taps.bounds import ibp_margins, margin_rows
from keras_taps.bounds.margins import cross_entropy
from keras_taps.interval import Interval
from tests.helpers import close, conv_network, numbers, numpy, random_box, seed_tensor

CLASSES, BATCH = 4, 5


def setting(count, seed=0):
    """Classifier, box of its inputs, labels, bounds, rows and the selection."""
    network = conv_network()
    _, classifier = network.split(1)
    features = int(np.prod(network.split(1)[0](ops.zeros((1, *network.input_shape[1:]))).shape[1:]))
    box = random_box(BATCH, features, seed=seed, width=1.0)
    labels = ops.convert_to_tensor(np.arange(BATCH) % network.num_classes, dtype="int32")
    bounds = ibp_margins(classifier, box, labels)
    rows = margin_rows(classifier.layers[-1], labels)
    return classifier, box, labels, bounds, rows, Selection(bounds, labels, count)


def test_the_largest_bounds_are_chosen():
    bounds = ops.array([[-1.0, 3.0, 2.0], [5.0, -2.0, 0.0]])
    chosen = Selection(bounds, ops.array([0, 2]), 2)
    assert numpy(chosen.classes).tolist() == [[2, 3], [0, 3]]


@pytest.mark.parametrize("count", [1, 2, None])
def test_margins_by_hand(count):
    """A chosen class has its margin at its own point, any other its largest at the points."""
    wrong = conv_network().num_classes - 1
    classifier, box, labels, bounds, rows, chosen = setting(count or wrong)
    points = box_attack(classifier, box, labels, seed_tensor(), 3, classes=chosen.classes)
    assert tuple(points.shape) == (BATCH, count or wrong, *box.lower.shape[1:])
    found = numpy(chosen.margins_at(classifier, points, rows))
    each = [  # all margins at the i-th points
        numpy(margins_at(classifier, ops.repeat(points[:, i : i + 1], wrong, axis=1), rows))
        for i in range(count or wrong)
    ]
    for sample in range(BATCH):
        order = np.argsort(-numpy(bounds)[sample], kind="stable")
        for rank, place in enumerate(order):
            values = [margins[sample, place] for margins in each]
            expected = values[rank] if rank < len(values) else max(values)
            assert found[sample, place] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert np.all(found <= numpy(bounds) + 1e-4)


def test_all_classes_chosen_is_the_paper():
    """Each has the margin at the point that attacked it, in the order of the classes."""
    wrong = conv_network().num_classes - 1
    classifier, box, _, bounds, rows, chosen = setting(wrong)
    order = np.argsort(-numpy(bounds), axis=1)
    points = numbers(BATCH, wrong, *box.lower.shape[1:])
    sorted_points = np.take_along_axis(points, order[..., None], axis=1)
    expected = margins_at(classifier, ops.convert_to_tensor(points), rows)
    found = chosen.margins_at(classifier, ops.convert_to_tensor(sorted_points), rows)
    close(found, numpy(expected), 1e-4)
    close(chosen.loss_gap(found), np.zeros(BATCH))


@given(st.integers(0, 10**6), st.integers(1, CLASSES - 1))
def test_the_gap_bounds_the_difference(seed, count):
    """Whatever the margins of classes without a point would be, below their bounds."""
    rng = np.random.default_rng(seed)
    bounds = rng.normal(scale=4, size=(BATCH, CLASSES - 1)).astype("float32")
    chosen = Selection(ops.convert_to_tensor(bounds), ops.zeros(BATCH, "int32"), count)
    taken = np.zeros_like(bounds)
    np.put_along_axis(taken, numpy(chosen.classes) - 1, 1.0, axis=1)
    below = bounds - rng.exponential(2, (2, *bounds.shape)).astype("float32")
    first, second = (np.where(taken, below[0], b) for b in below)
    gap = numpy(chosen.loss_gap(ops.convert_to_tensor(first)))
    losses = [numpy(cross_entropy(ops.convert_to_tensor(m))) for m in (first, second)]
    assert np.all(np.abs(losses[0] - losses[1]) <= gap + 1e-5)
    assert np.all(gap <= (np.exp(bounds) * (1 - taken)).sum(1) + 1e-5)


def test_only_chosen_classes_are_attacked():
    """The point of a sample raises the margin of the class that was asked for."""
    classifier, box, labels, _, _, _ = setting(1)
    classes = ops.convert_to_tensor(np.full((BATCH, 1), 2), dtype="int32")
    points = box_attack(classifier, box, labels, seed_tensor(), 20, classes=classes)
    rows = margin_rows(classifier.layers[-1], labels, classes)
    reached = numpy(margins_at(classifier, points, rows))
    middle = ops.expand_dims(Interval(*box).centre, 1)
    assert np.all(reached >= numpy(margins_at(classifier, middle, rows)) - 1e-5)


@pytest.mark.parametrize("bad", [0, 10, "some", 2.5, True])
def test_bad_numbers_are_named(bad):
    with pytest.raises((ValueError, TypeError), match="estimators"):
        check_estimators(bad, 10)

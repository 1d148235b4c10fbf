import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops

from keras_taps.attacks.box_attack import box_attack, margins_at
from keras_taps.bounds import ibp_margins, margin_rows
from keras_taps.bounds.margins import cross_entropy
from keras_taps.interval import Interval, input_box
from tests.helpers import (
    close,
    conv_network,
    dense_network,
    gradients,
    images,
    numpy,
    random_box,
    seed_tensor,
    weight_gradients,
)

LABELS = np.array([0, 1, 2, 1], "int32")


def margins(segment, points, labels=LABELS):
    return numpy(margins_at(segment, points, margin_rows(segment.layers[-1], labels)))


def attack(segment, box, labels=LABELS, seed=0, **options):
    return box_attack(segment, box, labels, seed_tensor(seed), **options)


def assert_in_box(points, box):
    points, (lower, upper) = numpy(points), numpy(box)
    assert np.all(points >= lower[:, None])
    assert np.all(points <= upper[:, None])


@pytest.mark.parametrize(("estimator", "count"), [("multi", 2), ("single", 1)])
@pytest.mark.parametrize("steps", [0, 3])
def test_shape_and_box(estimator, count, steps):
    network, box = dense_network(), random_box(4, 6)
    points = attack(network.segment, box, steps=steps, estimator=estimator)
    assert tuple(points.shape) == (4, count, 6)
    assert_in_box(points, box)
    assert margins(network.segment, points).shape == (4, 2)


def test_images_have_their_axes():
    network, (x, y) = conv_network(), images(4)
    points = attack(network.segment, input_box(x, 0.1), y, steps=2)
    assert tuple(points.shape) == (4, 2, 6, 6, 1)


def test_linear_classifier_is_solved_exactly():
    """Property 1: the corner points give the IBP margins."""
    network, box = dense_network(hidden=()), random_box(4, 6)
    points = attack(network.segment, box)
    close(margins(network.segment, points), ibp_margins(network, box, LABELS))


def test_nan_network_gives_points_of_the_box():
    network, box = dense_network(), random_box(4, 6)
    network.layers[-1].kernel.assign(np.full((4, 3), np.nan))
    assert_in_box(attack(network.segment, box, steps=3), box)


def test_box_without_width_gives_its_point():
    network, x = dense_network(), random_box(4, 6).lower
    points = numpy(attack(network.segment, Interval(x, x), steps=3))
    close(points, np.repeat(numpy(x)[:, None], 2, 1), 0)


@pytest.mark.parametrize("estimator", ["multi", "single"])
def test_more_restarts_are_never_worse(estimator):
    network, box = dense_network(seed=1), random_box(4, 6, width=3)
    found = []
    for restarts in (1, 2, 4):
        points = attack(network.segment, box, steps=2, restarts=restarts, estimator=estimator)
        values = margins(network.segment, points)
        found.append(values if estimator == "multi" else numpy(cross_entropy(values)))
    assert np.all(found[1] >= found[0] - 1e-6)
    assert np.all(found[2] >= found[1] - 1e-6)
    assert np.any(found[2] > found[0] + 1e-6)


def test_seed_decides():
    network, box = dense_network(), random_box(4, 6)
    first, same, other = (attack(network.segment, box, seed=s, steps=0) for s in (0, 0, 1))
    close(first, same, 0)
    assert not np.allclose(numpy(first), numpy(other))


def test_starts_are_uniform_and_differ_by_class():
    network = dense_network(inputs=500, hidden=())
    box = Interval(ops.zeros((4, 500)), ops.ones((4, 500)))
    points = numpy(attack(network.segment, box, steps=0))
    assert abs(points.mean() - 0.5) < 0.03
    assert abs(points.std() - 1 / np.sqrt(12)) < 0.02
    assert not np.allclose(points[:, 0], points[:, 1])


@hypothesis.given(seed=st.integers(0, 10**6), width=st.sampled_from([0.0, 0.1, 2.0]))
def test_estimate_is_between_start_and_bound(seed, width):
    """Property 5."""
    network, box = dense_network(seed=seed), random_box(4, 6, seed=seed, width=width)
    found = margins(network.segment, attack(network.segment, box, seed=seed, steps=4))
    start = margins(network.segment, attack(network.segment, box, seed=seed, steps=0))
    bound = numpy(ibp_margins(network, box, LABELS))
    assert np.all(start <= found + 1e-5)
    assert np.all(found <= bound + 1e-5 * (1 + np.abs(bound)))


def test_centre_as_candidate(monkeypatch):
    """Property 5: with the centre as first candidate the estimate is at least its margin."""
    network, box = dense_network(seed=5), random_box(4, 6, width=2)
    monkeypatch.setattr(
        "keras_taps.backend.uniform", lambda shape, seed: ops.full(shape, 0.5, dtype="float32")
    )
    found = margins(network.segment, attack(network.segment, box, steps=4))
    centre = margins(network.segment, ops.expand_dims(box.centre, 1))
    assert np.all(centre <= found + 1e-5)


def test_no_gradient_flows_out():
    """Neither to the box nor to the weights nor to the clean batch's statistics."""
    network = conv_network()
    x, y = images(4)

    def through_box(lower, upper):
        points = attack(network.segment, Interval(lower, upper), y, steps=2)
        return ops.sum(points) + 0.0 * ops.sum(lower)

    for gradient in gradients(through_box, *input_box(x, 0.1))[1]:
        assert not np.any(gradient)

    def through_weights():
        clean = network.clean_pass(ops.convert_to_tensor(x))
        extractor, classifier = network.split(1, network.replay(clean.moments))
        points = attack(classifier, extractor(input_box(x, 0.1)), y, steps=2)
        return ops.sum(points) + 0.0 * ops.sum(clean.logits)

    for gradient in weight_gradients(through_weights, network.trainable_variables)[1]:
        assert not np.any(gradient)


def test_attack_sees_the_replayed_statistics_and_changes_none():
    """Property 6: points found by batch moments; scaling them moves no average."""
    network, (x, y) = conv_network(), images(4)
    moments = network.clean_pass(ops.convert_to_tensor(100 * x)).moments
    before = [numpy(w).copy() for w in network.weights]
    segment = network.under(network.replay(moments))
    replayed = margins(segment, attack(segment, input_box(x, 0.1), y), y)
    for old, new in zip(before, network.weights, strict=True):
        close(old, new, 0)
    plain = margins(network.segment, attack(network.segment, input_box(x, 0.1), y), y)
    assert not np.allclose(replayed, plain)

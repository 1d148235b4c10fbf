from functools import partial

import numpy as np
import pytest
from keras import ops

from keras_taps.attacks.apgd import auto_maximise
from keras_taps.attacks.objectives import image_objective
from keras_taps.attacks.pgd import maximise, step_sizes
from keras_taps.attacks.search import ImageSearch, all_broken
from tests.helpers import close, conv_network, dense_network, images, numpy

EPS = 0.1
CROSS_ENTROPY = image_objective("cross-entropy", False, 3)


def pgd(steps):
    return partial(maximise, sizes=step_sizes(steps))


def search(network=None, count=30, eps=EPS, **options):
    x, y = images(count)
    return ImageSearch(network or conv_network(), x, y, eps, **options)


def after_run(maximiser=None, objective=CROSS_ENTROPY, batch_size=256, seed=0, **options):
    found = search(batch_size=batch_size, seed=seed)
    found.run(maximiser or pgd(4), objective, **options)
    return found


def test_misclassified_images_are_broken_by_themselves():
    network, (x, y) = conv_network(), images(30)
    found = search(network)
    assert np.array_equal(found.robust, numpy(network(x)).argmax(1) == y)
    assert 0 < found.robust.mean() < 1
    assert np.array_equal(found.images, x)


def test_ties_are_broken():
    network = dense_network(classes=2)
    network.layers[-1].kernel.assign(np.zeros((4, 2)))
    network.layers[-1].bias.assign([0.5, 0.5])
    x, y = images(4, (6,), classes=2)
    assert not ImageSearch(network, x, y, EPS).robust.any()


def test_a_network_of_nan_is_not_robust():
    network = conv_network()
    network.layers[-1].bias.assign([np.nan] * 3)
    assert not search(network).robust.any()


@pytest.mark.parametrize("maximiser", [pgd(4), partial(auto_maximise, steps=4)])
@pytest.mark.parametrize("name", ["cross-entropy", "margin", "dlr"])
def test_broken_images_break_the_network(maximiser, name):
    """Whatever is maximised; and margins and images belong together."""
    network, (x, y) = conv_network(), images(30)
    found = search(network)
    before = found.robust.copy()
    found.run(maximiser, image_objective(name, False, 3))
    logits = numpy(network(found.images))
    assert np.array_equal(logits.argmax(1) == y, found.robust)
    wrong = np.where(np.arange(3) == y[:, None], -np.inf, logits).max(1)
    close(found.margins, wrong - logits[np.arange(30), y], 1e-4)
    assert found.robust.sum() < before.sum()
    assert np.all(np.abs(found.images - x) <= EPS + 1e-6)


def test_early_stop_changes_no_verdict(monkeypatch):
    early = after_run(restarts=3)
    monkeypatch.setattr("keras_taps.attacks.search.all_broken", lambda *_: ops.array(False))
    late = after_run(restarts=3)
    assert np.array_equal(early.robust, late.robust)
    close(early.images, late.images, 1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_batches_change_nothing(batch_size):
    """Compaction and padding are reproducible: starts belong to image and run, not to a place."""
    whole, parts = after_run(restarts=3), after_run(batch_size=batch_size, restarts=3)
    assert np.array_equal(whole.robust, parts.robust)
    close(whole.images, parts.images, 1e-4)


def test_starts_are_the_same_on_every_backend():
    """NumPy draws them, from the seed, the stream, the run and the image."""
    x, _ = images(30)
    found = after_run(pgd(0), seed=5, stream=2)
    lower, upper = np.maximum(x - EPS, 0), np.minimum(x + EPS, 1)
    starts = [np.random.default_rng([5, 2, 0, i]).random((6, 6, 1)) for i in range(30)]
    starts = lower + np.stack(starts) * (upper - lower)
    moved = np.any(found.images != x, axis=(1, 2, 3))
    assert moved.any()
    close(found.images[moved], starts[moved])


def test_only_unbroken_images_are_run():
    """Each run is counted once; those of broken images are done at once."""
    robust = search().robust.sum()
    calls = []
    after_run(pgd(0), restarts=4, batch_size=8, progress=lambda *call: calls.append(call))
    assert calls[0] == (4 * (30 - robust), 120)
    assert calls[-1] == (120, 120)
    assert calls == sorted(calls)
    assert len(calls) <= 1 + -(-4 * robust // 8)


def test_nothing_to_do():
    x, y = images(6)
    network = conv_network()
    y = (numpy(network(x)).argmax(1) + 1) % 3
    calls = []
    found = ImageSearch(network, x, y, EPS)
    found.run(None, None, progress=lambda *call: calls.append(call))  # never called
    assert calls == [(6, 6)]


def test_no_images():
    found = ImageSearch(conv_network(), np.zeros((0, 6, 6, 1)), np.zeros(0), EPS)
    found.run(pgd(1), CROSS_ENTROPY)
    assert found.images.shape == (0, 6, 6, 1)
    assert found.robust.shape == (0,)


def test_hardest_classes_come_first():
    network, (x, y) = conv_network(), images(30)
    logits = numpy(network(x))
    found = search(network)
    for i in range(30):
        wrong = np.delete(np.arange(3), y[i])
        assert np.all(np.diff(logits[i][wrong[found.hardest[i]]]) <= 0)


def test_images_and_labels_of_different_number():
    x, y = images(4)
    with pytest.raises(ValueError, match=r"one label for each image\. .*4 images, 3 labels"):
        ImageSearch(conv_network(), x, y[:3], EPS)


@pytest.mark.parametrize(
    ("values", "owners", "expected"),
    [
        ([np.inf, np.inf], [0, 1], True),
        ([np.inf, 5.0], [0, 1], False),
        ([np.inf, 5.0], [0, 0], True),  # one restart of the same image is enough
        ([np.nan, np.nan], [0, 1], False),
    ],
)
def test_all_broken(values, owners, expected):
    values = ops.convert_to_tensor(np.array(values, "float32"))
    assert bool(all_broken(values, ops.convert_to_tensor(np.array(owners, "int32")))) is expected

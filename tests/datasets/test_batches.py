import numpy as np
import pytest

from keras_taps.datasets import Batches

X, Y = np.arange(10.0)[:, None], np.arange(10)


def labels(batches):
    return np.concatenate([batches[i][1] for i in range(len(batches))])


def next_epoch(batches):
    """What Keras does from one epoch to the next."""
    batches.on_epoch_begin()
    batches.on_epoch_end()
    batches.on_epoch_begin()


def test_every_image_once_and_in_step_with_its_label():
    batches = Batches(X, Y, batch_size=4)
    assert len(batches) == 3
    assert [len(batches[i][1]) for i in range(3)] == [4, 4, 2]
    assert sorted(labels(batches)) == list(range(10))
    for i in range(3):
        assert np.array_equal(batches[i][0][:, 0], batches[i][1])


def test_each_epoch_has_its_own_order():
    batches = Batches(X, Y, batch_size=4)
    first = labels(batches)
    next_epoch(batches)
    assert not np.array_equal(labels(batches), first)


def test_resumed_run_sees_the_same_batches():
    """Property 10: the order of an epoch depends on seed and epoch alone."""
    batches = Batches(X, Y, batch_size=4, seed=3)
    for _ in range(2):
        batches.on_epoch_begin()
        batches.on_epoch_end()
    batches.on_epoch_begin()
    assert np.array_equal(labels(batches), labels(Batches(X, Y, batch_size=4, seed=3, epoch=2)))


def test_keras_announces_an_end_before_the_first_epoch():
    batches = Batches(X, Y, batch_size=4, seed=3)
    first = labels(batches)
    batches.on_epoch_end()
    batches.on_epoch_begin()
    assert np.array_equal(labels(batches), first)


def test_seeds_differ():
    assert not np.array_equal(labels(Batches(X, Y, 4, seed=0)), labels(Batches(X, Y, 4, seed=1)))


def test_without_shuffling():
    assert np.array_equal(labels(Batches(X, Y, 4, shuffle=False)), Y)


def test_drop_last():
    assert len(Batches(X, Y, 4, drop_last=True)) == 2
    assert len(Batches(X, Y, 5, drop_last=True)) == 2
    assert len(Batches(X, Y, 20, drop_last=True)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, Y[:9], 4), "same length, at least 1. Received: 10 and 9"),
        ((X[:0], Y[:0], 4), "Received: 0 and 0"),
        ((X, Y, 0), "`batch_size` must be"),
        ((X, Y, 4, True, -1), "`seed` must be"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batches(*arguments)

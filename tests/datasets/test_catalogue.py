import numpy as np
import pytest

from keras_taps.datasets import DATASETS, dataset_info, load


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_digits(digits):
    sizes = [len(part[0]) for part in (digits.train, digits.validation, digits.test)]
    assert sum(sizes) == 1797
    assert sizes[1] == round(0.1 * (sizes[0] + sizes[1]))
    for x, y in (digits.train, digits.validation, digits.test):
        assert x.dtype == np.float32
        assert y.dtype == np.int32
        assert x.shape[1:] == digits.info.input_shape
        assert x.min() == 0
        assert x.max() == 1
        assert set(y) == set(range(10))


def test_statistics_in_the_catalogue(digits):
    x = np.concatenate([digits.train[0], digits.validation[0]])
    assert x.mean() == pytest.approx(digits.info.mean[0], abs=2e-3)
    assert x.std() == pytest.approx(digits.info.std[0], abs=2e-3)


def test_split_is_reproducible_and_disjoint(digits):
    again, other = load("digits"), load("digits", seed=1)
    assert np.array_equal(again.validation[0], digits.validation[0])
    assert not np.array_equal(other.validation[0], digits.validation[0])
    assert np.array_equal(other.test[0], digits.test[0])

    def rows(part):
        return {row.tobytes() for row in part[0]}

    assert len(rows(digits.train) & rows(digits.validation)) == 0


def test_no_validation():
    data = load("digits", validation=0)
    assert len(data.validation[0]) == 0
    assert len(data.train[0]) + len(data.test[0]) == 1797


@pytest.mark.parametrize("validation", [-0.1, 1, 2])
def test_bad_validation(validation):
    with pytest.raises(ValueError, match=r"`validation` must .*Received: validation="):
        load("digits", validation=validation)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"Received: 'minst'.*Did you mean 'mnist'"):
        dataset_info("minst")


def test_every_entry_is_complete():
    for name, info in DATASETS.items():
        assert info.name == name
        assert len(info.input_shape) == 3
        assert len(info.mean) == len(info.std) == info.input_shape[-1]

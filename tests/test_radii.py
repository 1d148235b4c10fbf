"""Radii of many inputs: which array means what, and what is refused."""

import numpy as np
import pytest

from keras_taps.domain import Domain
from keras_taps.radii import Radii, radii_text

pytestmark = pytest.mark.once

EACH = np.array([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("eps", "shape", "shared"),
    [
        (0.1, (3,), 0.1),
        ("51/255", (3,), 0.2),
        ([0.1, 0, 0.2], (3,), [0.1, 0, 0.2]),
        ([0.1], (3,), [0.1]),
        ([[0.1, 0, 0.2]], (3,), [0.1, 0, 0.2]),
        (EACH[None], (4,), EACH),  # of 4 inputs too
        (np.ones((2, 1)), (2, 5), np.ones((2, 1))),
        (EACH[:2], (None, 2), EACH[:2]),
    ],
)
def test_one_for_all(eps, shape, shared):
    radii = Radii.of(eps, shape, 4)
    assert not radii.differ
    np.testing.assert_array_equal(radii[3], shared)
    batch = radii.batch(np.array([0, 3]), shape)
    assert batch.shape == (2, *[1] * (len(shape) - np.ndim(shared)), *np.shape(shared))


@pytest.mark.parametrize(
    ("eps", "shape"),
    [
        (EACH, (3,)),
        (EACH[:, None], (4,)),
        (EACH.reshape(4, 1, 1, 1), (5, 5, 4)),
        (EACH[:, None] * [1, 2], (2,)),
        ((EACH[:, None] * [1, 2])[:, None], (3, 2)),
        (EACH[:, None] * [1, 2], (None,)),
    ],
)
def test_one_for_each(eps, shape):
    radii = Radii.of(eps, shape, 4)
    assert radii.differ
    for i in range(4):
        np.testing.assert_array_equal(np.ravel(radii[i]), np.ravel(eps[i]))
    assert isinstance(radii[0], float) == (eps.size == 4)
    x = np.zeros((4, *(size or 2 for size in shape)))
    chosen = np.array([2, 0, 2])
    wanted = [x[0] + radii[i] for i in chosen]
    np.testing.assert_array_equal(x[chosen] + radii.batch(chosen, shape), wanted)
    with pytest.raises(IndexError):
        radii[4]


@pytest.mark.parametrize(
    ("eps", "shape", "message"),
    [
        (EACH, (4,), r"reshape\(-1, 1\) for the first, eps\[None\] for the second.*\(4,\)"),
        (EACH, (2, 3, 4), r"each of the 4 inputs, or .*eps.reshape\(-1, 1, 1, 1\)"),
        (EACH[:3], (5,), r"each of 4 inputs.*Received: an array of shape \(3,\)"),
        (EACH[:3, None], (5,), "each of 4 inputs"),
        (EACH[:, None, None], (5,), "each of 4 inputs"),
        (np.ones((4, 3)), (2,), "each of 4 inputs"),
        (np.ones((4, 2)), (3, 2), "each of 4 inputs"),  # neither rows of an input nor inputs
        (-EACH, (3,), r"in \[0, 1\]"),
        (EACH * np.nan, (3,), r"in \[0, 1\]"),
        (EACH * 9, (3,), r"in \[0, 1\]"),
        ([0.1, [0.2], 0.3, 0.4], (3,), r"in \[0, 1\]"),
        ([], (3,), r"in \[0, 1\]"),
    ],
)
def test_what_is_refused(eps, shape, message):
    with pytest.raises(ValueError, match=f"`eps` .*{message}"):
        Radii.of(eps, shape, 4)


def test_domains_and_text():
    assert str(Radii.of(EACH * 9, (3,), 4, Domain.of((-5, 5)))) == "0.9 to 3.6"
    assert radii_text([]) == "none"
    assert Radii.of([0.5], (1,), 1).shared == [0.5]  # one input: both readings are one

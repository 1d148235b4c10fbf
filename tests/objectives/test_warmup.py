import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval
from keras_taps.objectives import warmup_regulariser
from tests.helpers import gradients, numpy, random_box


def reference(entry, boxes, tau=0.5):
    """SPEC section 5, in NumPy float64; terms that are NaN or infinite are skipped."""

    def relu(x):
        return max(x, 0.0)

    def centre_and_radius(box):
        lower, upper = (np.asarray(b, "float64") for b in box)
        return (lower + upper) / 2, (upper - lower) / 2

    first = centre_and_radius(entry)[1].mean()
    total = 0.0
    for box in boxes:
        centre, radius = centre_and_radius(box)
        lower, upper = (np.asarray(b) for b in box)
        terms = [relu(tau - first / max(radius.mean(), 1e-12)) / tau]
        on, off = lower > 0, upper < 0
        spread = (centre - centre.mean()) ** 2
        for a, b in (
            ((centre * on).mean(), abs((centre * off).mean())),  # never -0.0
            ((spread * on).sum(), (spread * off).sum()),
        ):
            with np.errstate(all="ignore"):
                ratio = np.float64(a) / np.float64(b)
                terms.append(relu(tau - min(ratio, 1 / ratio)) / tau)
        total += sum(t for t in terms if np.isfinite(t))
    return total / len(boxes)


def shifted(seed, by, width=0.3):
    box = random_box(4, 5, seed=seed, width=width)
    return Interval(box.lower + by, box.upper + by)


CASES = {
    "mixed": [shifted(1, 0.0), shifted(2, 0.2), shifted(3, -0.3)],
    "all active": [shifted(1, 5.0)],
    "all inactive": [shifted(1, -5.0)],
    "none stable": [Interval(-ops.ones((2, 3)), ops.ones((2, 3)))],
    "wide": [shifted(1, 0.1, width=40.0)],
    "wide and mixed": [shifted(1, 0.1, width=40.0), shifted(1, 0.4, width=0.01)],
    "no width": [shifted(1, 0.0, width=0.0)],
    "one constant": [Interval(ops.ones((2, 3)), ops.ones((2, 3)))],
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_independent_implementation(name):
    entry = random_box(4, 6, width=0.2)
    expected = reference(numpy(entry), [numpy(box) for box in CASES[name]])
    found = float(numpy(warmup_regulariser(entry, CASES[name])))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_terms_are_really_tested():
    """The cases above are not a collection of zeros."""
    entry = random_box(4, 6, width=0.2)
    values = {k: float(numpy(warmup_regulariser(entry, boxes))) for k, boxes in CASES.items()}
    assert values["mixed"] > 0
    assert values["wide"] > 0.5
    assert values["all active"] != values["none stable"]


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite(name):
    entry = random_box(4, 6, width=0.2)
    for box in CASES[name]:
        _, found = gradients(lambda lo, hi: warmup_regulariser(entry, [Interval(lo, hi)]), *box)
        assert all(np.all(np.isfinite(g)) for g in found)


def test_narrower_boxes_are_better():
    entry = random_box(4, 6, width=0.2)
    wide, narrow = CASES["wide"][0], shifted(1, 0.1, width=1.0)
    assert float(warmup_regulariser(entry, [wide])) > float(warmup_regulariser(entry, [narrow]))

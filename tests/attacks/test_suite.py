import numpy as np
import pytest

from keras_taps.attacks import attack_suite, pgd_attack
from keras_taps.attacks.suite import suite_stages
from tests.helpers import conv_network, dense_network, images, numpy

pytestmark = pytest.mark.usefixtures("eager")

EPS = 0.06


@pytest.fixture(scope="module")
def attacked():
    network, calls = conv_network(classes=4), []
    x, y = images(30, classes=4)
    found = attack_suite(network, x, y, EPS, steps=4, progress=lambda *call: calls.append(call))
    return network, x, y, *found, calls


def test_verdicts(attacked):
    network, x, y, found, robust, broken_by, _ = attacked
    assert np.array_equal(numpy(network(found)).argmax(1) == y, robust)
    assert np.array_equal(broken_by == "", robust)
    assert np.array_equal(broken_by == "clean", numpy(network(x)).argmax(1) != y)
    assert np.all(np.abs(found - x) <= EPS + 1e-6)


def test_names_are_those_of_the_stages(attacked):
    assert set(attacked[5]) <= {
        "",
        "clean",
        "pgd-cross-entropy",
        "pgd-margin",
        "apgd-cross-entropy",
        "apgd-dlr",
        "pgd-targeted-margin",
        "apgd-targeted-dlr",
    }
    assert "pgd-cross-entropy" in attacked[5]


def test_never_weaker_than_its_first_attack(attacked):
    network, x, y, _, robust, broken_by, _ = attacked
    alone = pgd_attack(network, x, y, EPS, steps=4)[1]
    assert np.array_equal(alone, ~np.isin(broken_by, ["clean", "pgd-cross-entropy"]))
    assert np.all(robust <= alone)


def test_progress(attacked):
    calls = attacked[6]
    assert calls == sorted(calls)
    assert calls[-1] == (30 * (4 + 2 * 3),) * 2


def test_two_classes():
    network, (x, y) = dense_network(classes=2), images(6, (6,), 2)
    assert attack_suite(network, x, y, EPS, steps=1)[1].shape == (6,)


def test_stages():
    """With few classes the margin stands in for the DLR."""
    assert [name for _, name, _ in suite_stages(2)] == ["cross-entropy", "margin"] * 2
    assert suite_stages(3)[-1] == ("apgd", "margin", True)
    assert suite_stages(4)[-1] == ("apgd", "dlr", True)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"targets": 4}, "`targets` must be"), ({"restarts": 0}, "`restarts` must be")],
)
def test_bad_arguments(change, message):
    x, y = images(3, classes=4)
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        attack_suite(conv_network(classes=4), x, y, EPS, **{"steps": 1, **change})

"""The certified radius: proved where it says, and not far below where proof ends."""

import numpy as np
import pytest

from keras_taps.verification import certified_radius
from keras_taps.verification.bridges.from_keras import read_network
from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.graph.unsafe import margin_forms
from tests.helpers import dense_network, images, numpy

TOLERANCE = 0.01


@pytest.fixture(scope="module")
def found():
    network = dense_network()
    x, _ = images(6, (6,))
    y = numpy(network(x)).argmax(-1)
    y[0] = (y[0] + 1) % 3
    seen = []
    options = {"stages": ["ibp"], "batch_size": 8}
    radii = certified_radius(
        network, x, y, 0.5, TOLERANCE, progress=lambda *a: seen.append(a), **options
    )
    return network, x, y, radii, seen


def test_proved_below_and_not_above(found):
    network, x, y, radii, _ = found
    graph = read_network(network)
    checker = Checker(graph)

    def proved(i, eps):
        forms = margin_forms(y[i], 3)
        box = input_interval(x[i], eps)
        return bool(np.all(checker.upper_bounds(*box, forms, np.zeros(2), "ibp") < 0))

    assert radii[0] == -1
    for i, radius in enumerate(radii[1:], 1):
        assert radius == 0 or proved(i, radius)
        assert radius == 0.5 or not proved(i, radius + TOLERANCE)


def test_progress(found):
    seen = found[-1]
    assert seen[-1][0] == seen[-1][1] == len(seen) - 1 == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high": 0}, "`high` must be"),
        ({"tolerance": 0}, "`tolerance` must be"),
        ({"stages": ["ibq"]}, "`stages` must be"),
        ({"stages": []}, "`stages` must be"),
    ],
)
def test_bad_input(found, options, message):
    network, x, y, *_ = found
    with pytest.raises(ValueError, match=message):
        certified_radius(network, x, y, **options)

"""The settings that certification, one property and radii share are checked in one place."""

import numpy as np
import pytest

from keras_taps.networks import cnn3
from keras_taps.verification import Verifier, certified_radius, certify, read_network, verify
from keras_taps.verification.cascade.options import Options

pytestmark = pytest.mark.once
NETWORK = cnn3((8, 8, 1), 10, width=1)
CALLS = {
    "certify": lambda **options: certify(NETWORK, np.zeros((0, 8, 8, 1)), [], 0.1, **options),
    "radius": lambda **options: certified_radius(NETWORK, np.zeros((0, 8, 8, 1)), [], **options),
    "verify": lambda **options: verify(read_network(NETWORK), [], **options),
    "verifier": lambda **options: Verifier(read_network(NETWORK), **options),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_refused(call):
    with pytest.raises(TypeError, match=r"no option `branchng`\. .*`?branching"):
        call(branchng="gap")
    for name, value in {"branching": "x", "memory": 0, "seed": -1}.items():
        with pytest.raises(ValueError, match=rf"`{name}` .*Received"):
            call(**{name: value})


def test_a_report_names_what_verdicts_depend_on():
    assert set(Options().about) < {*Options().__dict__}
    assert "batch_size" not in Options().about

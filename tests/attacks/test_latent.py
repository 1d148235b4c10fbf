import numpy as np

from keras_taps.attacks.latent import taps_margins
from keras_taps.bounds import ibp_margins
from tests.helpers import close, dense_network, numpy, random_box, seed_tensor

LABELS = np.array([0, 1, 2, 1], "int32")


def test_no_relu_after_the_split_is_ibp():
    """Property 1: the last affine layer is solved exactly."""
    network, box = dense_network(), random_box(4, 6)
    close(taps_margins(network, box, LABELS, 0, seed_tensor()), ibp_margins(network, box, LABELS))


def test_estimate_is_never_above_the_bound():
    """Property 5."""
    network, box = dense_network(), random_box(4, 6)
    bound = numpy(ibp_margins(network, box, LABELS))
    for relus in (1, 2):
        found = numpy(taps_margins(network, box, LABELS, relus, seed_tensor(), restarts=2))
        assert np.all(found <= bound + 1e-5)

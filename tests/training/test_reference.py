"""All backends give the numbers of one independent NumPy implementation (property 10)."""

import numpy as np
import pytest
from keras import ops

from keras_taps.interval import input_box
from tests.helpers import close, dense_network, images, numpy
from tests.training import reference
from tests.training.steps import FixedPoints, batch_of, fixed_shares, loss_and_gradients, outcome_of

EPS = 0.05


@pytest.mark.parametrize(
    ("relus", "c", "w_taps"), [(1, 0.5, 5.0), (2, 1.0, 1.0), (1, 0.2, np.inf), (2, 0.5, 0.0)]
)
def test_loss_and_gradients_for_given_points(relus, c, w_taps):
    """Property 10."""
    x, y = images(8, (6,))
    network = dense_network(batch_norm=True, seed=3)
    model = FixedPoints(network, EPS, classifier_relus=relus, c=c, w_taps=w_taps)
    weights = [numpy(w).copy() for w in network.trainable_variables]
    features = network.split(relus)[0](input_box(x, EPS)).lower
    shares = fixed_shares(2, tuple(features.shape))
    expected, gradients, *_ = reference.taps_step(weights, x, y, EPS, shares, relus, c, w_taps)
    loss, found = loss_and_gradients(model, x, y)
    assert loss == pytest.approx(expected, rel=1e-5)
    scale = max(np.abs(g).max() for g in gradients)
    assert scale > 0.1
    for a, b in zip(found, gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * scale)


def test_margins_for_given_points():
    """Property 10: by the statistics of the clean batch."""
    x, y = images(8, (6,))
    network = dense_network(batch_norm=True, seed=3)
    model = FixedPoints(network, EPS, classifier_relus=1)
    weights = [numpy(w).copy() for w in network.trainable_variables]
    given = network.replay(network.clean_pass(ops.convert_to_tensor(x)).moments)
    outcome = outcome_of(model, batch_of(x, y, EPS, given=given))
    shares = fixed_shares(2, (8, 5))
    weights = [w.astype("float64") for w in weights]
    *_, taps, ibp, _ = reference.losses(weights, x.astype("float64"), y, EPS, shares, 1, 0.5)
    close(outcome.taps_margins, taps, 1e-4)
    close(outcome.ibp_margins, ibp, 1e-4)

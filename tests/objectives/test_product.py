import math

import numpy as np
import pytest
from keras import ops

from keras_taps.objectives import product_loss
from tests.helpers import close, gradients


def losses(x):
    return ops.sum(ops.exp(x)), ops.sum(x**2) + 1.0


X = np.array([0.3, -0.7, 1.1], "float32")
TAPS, D_TAPS = np.exp(X).sum(), np.exp(X)
IBP, D_IBP = (X**2).sum() + 1, 2 * X


@pytest.mark.parametrize("w", [0, 0.5, 1, 5, math.inf])
def test_value_and_gradient(w):
    """Property 3: the paper's formula."""
    alpha = 1.0 if math.isinf(w) else w / (1 + w)
    value, (gradient,) = gradients(lambda x: product_loss(*losses(x), w), X)
    assert value == pytest.approx(TAPS * IBP, rel=1e-5)
    close(gradient, 2 * alpha * IBP * D_TAPS + (2 - 2 * alpha) * TAPS * D_IBP)


def test_weight_one_is_the_derivative_of_the_product():
    """Property 3: by autodiff."""
    _, (expected,) = gradients(lambda x: math.prod(losses(x)), X)
    _, (found,) = gradients(lambda x: product_loss(*losses(x), 1.0), X)
    close(found, expected)


def test_extreme_weights_leave_one_term():
    """Property 3."""
    _, (ibp_only,) = gradients(lambda x: product_loss(*losses(x), 0), X)
    _, (taps_only,) = gradients(lambda x: product_loss(*losses(x), math.inf), X)
    close(ibp_only, 2 * TAPS * D_IBP)
    close(taps_only, 2 * IBP * D_TAPS)


def test_default_weight_is_five():
    _, (five,) = gradients(lambda x: product_loss(*losses(x), 5.0), X)
    _, (default,) = gradients(lambda x: product_loss(*losses(x)), X)
    close(five, default, 0)


@pytest.mark.parametrize("w", [-1, float("nan"), "5", None])
def test_bad_weight(w):
    with pytest.raises(ValueError, match=r"`w_taps` must be .*Received: w_taps="):
        product_loss(ops.ones(()), ops.ones(()), w)

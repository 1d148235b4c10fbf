import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers import (
    IntervalActivation,
    IntervalConv2D,
    IntervalDense,
    IntervalELU,
    IntervalLeakyReLU,
    IntervalReLU,
    Pass,
)
from keras_taps.layers.activations import _KNOWN, activation_name, check_activation
from keras_taps.layers.curves import CURVES
from tests.helpers import close, numpy, random_box


@pytest.mark.parametrize("name", _KNOWN)
def test_activations_fall_up_to_their_bottom_alone(name):
    x = np.linspace(-8, 8, 2001).astype("float32")
    y = numpy(keras.activations.get(name)(ops.convert_to_tensor(x)))
    bottom = CURVES[name].bottom if name in CURVES else None
    falling = x[1:] <= (-np.inf if bottom is None else bottom)
    assert np.all(np.diff(y)[falling] <= 1e-6)
    assert np.all(np.diff(y)[~falling] >= -1e-6)


@pytest.mark.parametrize("name", CURVES)
def test_boxes_hold_every_value_and_no_more(name):
    ends = np.sort(np.random.default_rng(0).normal(0, 3, (2, 200)).astype("float32"), axis=0)
    box = Interval(*map(ops.convert_to_tensor, ends))
    x = np.linspace(*ends, 1001, dtype="float32")
    y = numpy(keras.activations.get(name)(ops.convert_to_tensor(x)))
    lower, upper = numpy(IntervalActivation(name)(box))
    slack = 1e-6 * (1 + np.abs(y))
    assert np.all(y >= lower - slack)
    assert np.all(y <= upper + slack)
    assert np.allclose(lower, y.min(0), atol=1e-4)
    assert np.allclose(upper, y.max(0), rtol=1e-5)


def test_only_the_exact_gelu_is_known():
    assert IntervalActivation("gelu").relus == 1
    with pytest.raises(ValueError, match="no bounds are known"):
        IntervalActivation(ops.gelu)  # the approximate one


@pytest.mark.parametrize("name", ["softmax", "mish", "tanh_shrink"])
def test_other_activations_refused(name):
    with pytest.raises(ValueError, match=f"'{name}', of which no bounds are known. Accepted"):
        IntervalActivation(name)
    with pytest.raises(ValueError, match="no bounds are known"):
        IntervalDense(2, activation=name)


def test_softmax_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="Leave the softmax off"):
        check_activation(keras.activations.softmax, "last")


def test_functions_of_ones_own_are_refused():
    with pytest.raises(ValueError, match="no bounds are known"):
        IntervalConv2D(2, 3, activation=lambda x: -x)


def test_identity_is_linear():
    assert activation_name(None) == activation_name(keras.activations.linear) == "linear"

    def linear(x):
        return -x

    assert activation_name(linear) != "linear"


@pytest.mark.parametrize("make", [lambda: IntervalReLU(threshold=-1), lambda: IntervalELU(-0.5)])
def test_activations_that_decrease_somewhere_are_refused(make):
    with pytest.raises(ValueError, match=r"(?s)(negative|>= 0).*Received"):
        make()


def test_relu_by_hand():
    box = Interval(ops.array([[-2.0, -1.0, 1.0]]), ops.array([[-1.0, 3.0, 2.0]]))
    close(IntervalReLU()(box), Interval(np.array([[0, 0, 1.0]]), np.array([[0, 3.0, 2.0]])))


@pytest.mark.parametrize(
    ("layer", "relus"),
    [
        (IntervalReLU(), 1),
        (IntervalLeakyReLU(), 1),
        (IntervalELU(), 1),
        (IntervalActivation("tanh"), 1),
        (IntervalActivation("linear"), 0),
        (IntervalDense(3, activation="relu"), 1),
        (IntervalDense(3), 0),
    ],
)
def test_nonlinearities_are_counted(layer, relus):
    assert layer.relus == relus


@pytest.mark.parametrize(
    ("layer", "recorded"),
    [
        (IntervalReLU(), True),
        (IntervalLeakyReLU(), True),
        (IntervalActivation("relu"), True),
        (IntervalActivation("tanh"), False),
        (IntervalActivation("linear"), False),
    ],
)
def test_boxes_that_enter_a_relu_are_recorded(layer, recorded):
    box = random_box(2, 3)
    boxes = []
    layer(box, given=Pass(relu_boxes=boxes))
    layer(box.lower, given=Pass(relu_boxes=boxes))  # a tensor leaves nothing
    assert len(boxes) == recorded
    if recorded:
        close(boxes[0], box)
    layer(box)
    assert len(boxes) == recorded


def test_a_fused_relu_records_its_own_input():
    layer, box = IntervalDense(3, activation="relu"), random_box(2, 4)
    boxes = []
    out = layer(box, given=Pass(relu_boxes=boxes))
    close(Interval(*(np.maximum(numpy(bound), 0) for bound in boxes[0])), out)
    assert np.any(numpy(boxes[0].lower) < 0)


def test_a_name_is_not_enough():
    """A function of the user's may be called like a known one."""

    def tanh(x):
        return ops.sin(3 * x)

    with pytest.raises(ValueError, match="tanh', of which no bounds are known"):
        IntervalActivation(tanh)
    assert IntervalActivation(ops.tanh).relus == 1


def test_elu_is_saved_whichever_way_it_was_made():
    assert IntervalELU(3.0).get_config()["alpha"] == 3.0

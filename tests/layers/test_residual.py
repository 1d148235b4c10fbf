import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval
from keras_taps.layers import IntervalAdd, IntervalDense, IntervalReLU, IntervalResidual
from keras_taps.layers.residual import build_chain, walk
from tests.helpers import assert_contains, close, numpy, random_box, sample_points


def test_add_of_tensors_is_the_stock_layer():
    a, b = random_box(2, 3)
    close(IntervalAdd()([a, b]), keras.layers.Add()([a, b]))


def test_add_of_boxes():
    a, b, c = (random_box(2, 3, seed=seed) for seed in range(3))
    out = IntervalAdd()([a, b, c])
    close(out.lower, a.lower + b.lower + c.lower)
    close(out.upper, a.upper + b.upper + c.upper)


def test_add_of_two_boxes_in_a_functional_model(tmp_path):
    inputs = [keras.Input((3,)) for _ in range(4)]
    out = IntervalAdd()([Interval(*inputs[:2]), Interval(*inputs[2:])])
    assert [tuple(t.shape) for t in out] == [(None, 3)] * 2
    model = keras.Model(inputs, list(out))
    a, b = random_box(2, 3), random_box(2, 3, seed=1)
    expected = [a.lower + b.lower, a.upper + b.upper]
    model.save(tmp_path / "add.keras")
    for found in (model, keras.saving.load_model(tmp_path / "add.keras")):
        close(found([*a, *b])[0], expected[0])
        close(found([*a, *b])[1], expected[1])


def test_nested_blocks():
    inner = IntervalResidual([[IntervalDense(3), IntervalReLU()], []])
    block = IntervalResidual([[IntervalDense(3), inner], [IntervalDense(3)], []])
    box = random_box(1, 3)
    out = block(box)
    assert block.relus == 1
    assert_contains(out, numpy(block(ops.convert_to_tensor(sample_points(box)))))


def test_weights_of_all_branches_are_tracked():
    block = IntervalResidual([[IntervalDense(3)], [IntervalDense(3, use_bias=False)]])
    block.build((None, 3))
    assert len(block.trainable_variables) == 3


def test_one_branch_refused():
    with pytest.raises(ValueError, match=r"at least two lists of layers. Received: 1"):
        IntervalResidual([[IntervalDense(3)]])


def test_stock_layer_refused():
    with pytest.raises(ValueError, match=r"'last' of type Dense takes no boxes.*convert"):
        IntervalResidual([[keras.layers.Dense(3, name="last")], []])


def test_walk_and_build_chain():
    layers = [IntervalDense(3, kernel_initializer="ones"), IntervalReLU()]
    assert build_chain(layers, (None, 2)) == (None, 3)
    close(walk(layers, ops.ones((1, 2))), np.full((1, 3), 2.0))

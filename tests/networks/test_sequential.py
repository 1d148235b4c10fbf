import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.interval import Interval, input_box
from keras_taps.layers import (
    IntervalActivation,
    IntervalDense,
    IntervalDropout,
    IntervalFlatten,
    IntervalReLU,
    IntervalResidual,
    IntervalTrainingOnly,
    Pass,
)
from keras_taps.networks import IntervalSequential, cnn3, resnet
from tests.helpers import close, conv_network, dense_network, images, random_box


def test_tensor_and_box():
    network, box = dense_network(), random_box(2, 6)
    assert tuple(network(box.lower).shape) == (2, 3)
    out = network(box)
    assert isinstance(out, Interval)
    assert tuple(out.upper.shape) == (2, 3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("relus", [0, 1, 2, 3])
def test_split_equals_unsplit(relus, training):
    """Property 7: logits through the two blocks, in train and eval mode."""
    network, (x, _) = conv_network(), images()
    taken = {}
    logits = network(ops.convert_to_tensor(x), training=training, given=Pass(taken=taken))
    given = Pass(moments=taken)
    extractor, classifier = network.split(relus, given)
    close(classifier(extractor(ops.convert_to_tensor(x))), logits)
    close(classifier(extractor(input_box(x, 0.1))), network(input_box(x, 0.1), given=given))


def test_split_counts_relus_and_keeps_flatten_with_the_extractor():
    network = cnn3((8, 8, 1), 10, width=1, mean=0.1, std=0.3)
    for relus in (0, 1, 2):
        extractor, classifier = network.split(relus)
        assert sum(layer.relus for layer in classifier.layers) == relus
        assert extractor.layers + classifier.layers == tuple(network.layers)
    extractor, classifier = network.split(0)
    assert isinstance(extractor.layers[-1], IntervalFlatten)
    assert isinstance(classifier.layers[0], IntervalDense)
    # With every ReLU in the classifier only the normalisation is left in front.
    assert network.split(2)[0].layers == network.leading_normalization


def test_split_shares_weights():
    network = dense_network()
    _, classifier = network.split(1)
    assert classifier.layers[-1] is network.layers[-1]
    assert len(classifier.variables) == 4


def test_fused_activations_are_cut_after():
    network = IntervalSequential(
        [IntervalDense(4, activation="relu"), IntervalActivation("tanh"), IntervalDense(3)],
        input_shape=(5,),
    )
    assert network.legal_splits == (0, 1, 2)
    assert len(network.split(1)[0].layers) == 1


def test_no_cut_inside_or_right_after_a_block():
    """The sum of a block is the output of no ReLU."""
    network = resnet((8, 8, 1), 10, width=1)
    assert network.legal_splits == (0, 1, 3, 5, 6)
    for relus in (2, 4):
        with pytest.raises(ValueError, match=r"one of \(0, 1, 3, 5, 6\).*classifier_relus="):
            network.split(relus)


@pytest.mark.parametrize("relus", [3, -1, 1.0, "1", None, True])
def test_illegal_splits(relus):
    with pytest.raises(ValueError, match=r"`classifier_relus` must be .*Received: "):
        dense_network().split(relus)


def test_network_without_relu_has_one_split():
    network = IntervalSequential([IntervalDense(3)], input_shape=(4,))
    assert network.legal_splits == (0,)
    extractor, classifier = network.split(0)
    assert (len(extractor.layers), len(classifier.layers)) == (0, 1)


def test_first_input_layer_gives_the_shape():
    for first in (keras.Input((5,)), keras.layers.InputLayer((5,))):
        network = IntervalSequential([first, IntervalDense(3)])
        assert network.input_shape == (None, 5)
        assert len(network.layers) == 1


def test_symbolic_shapes():
    network = conv_network()
    out = network(Interval(keras.Input((6, 6, 1)), keras.Input((6, 6, 1))))
    assert [tuple(t.shape) for t in out] == [(None, 3)] * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntervalSequential([], input_shape=(3,)), "at least one layer.*Received: 0"),
        (lambda: IntervalSequential([IntervalDense(3)]), "an `input_shape`.*Received"),
        (
            lambda: IntervalSequential([keras.layers.Dense(3)], input_shape=(3,)),
            "of type Dense takes no boxes",
        ),
    ],
)
def test_bad_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([IntervalDense(3), IntervalReLU()], "last layer must be a Dense.*IntervalReLU"),
        ([IntervalDense(3, activation="relu")], "last layer must be a Dense"),
        ([IntervalDropout(0.3), IntervalDense(3)], "has rate 0.3"),
        ([IntervalResidual([[IntervalDropout(0.3)], []]), IntervalDense(3)], "has rate 0.3"),
        (
            [IntervalTrainingOnly(keras.layers.GaussianNoise(0.1)), IntervalDense(3)],
            "of type GaussianNoise acts in training alone.*Accepted",
        ),
        ([IntervalDense(1)], "needs two logits or more. Received: 1"),
    ],
)
def test_not_certifiable(layers, message):
    network = IntervalSequential(layers, input_shape=(4,))
    with pytest.raises(ValueError, match=message):
        network.check_certifiable()


def test_certifiable():
    dense_network().check_certifiable()
    IntervalSequential([IntervalDropout(0.0), IntervalDense(2)], (4,)).check_certifiable()


def test_round_trip(tmp_path):
    network, box = conv_network(), input_box(images()[0], 0.1)
    again = IntervalSequential.from_config(network.get_config())
    assert again.get_config() == network.get_config()
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    close(loaded(box), network(box), 0)
    network.save_weights(tmp_path / "network.weights.h5")
    again.load_weights(tmp_path / "network.weights.h5")
    close(again(box), network(box), 0)


def test_weights_are_listed_once():
    network = conv_network()
    assert len(network.trainable_variables) == 4 * 2 + 2 * 2
    assert len({id(v) for v in network.variables}) == len(network.variables)
    assert np.sum([np.prod(v.shape) for v in network.variables]) == network.count_params()

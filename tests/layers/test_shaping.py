import keras
import numpy as np

from keras_taps.layers import IntervalDropout, IntervalTrainingOnly
from keras_taps.networks import IntervalSequential
from tests.helpers import close, numpy, random_box


def test_dropout_is_the_identity_on_boxes_only():
    layer, box = IntervalDropout(0.5, seed=0), random_box(4, 50)
    close(layer(box, training=True), box, 0)
    assert np.mean(numpy(layer(box.lower, training=True)) == 0) > 0.2


def test_what_acts_in_training_alone(tmp_path):
    """After a file too."""
    box = random_box(4, 50)
    layer = IntervalTrainingOnly(keras.layers.GaussianNoise(1.0))
    IntervalSequential([layer], input_shape=(50,)).save(tmp_path / "network.keras")
    for network in (layer, keras.saving.load_model(tmp_path / "network.keras")):
        close(network(box), box, 0)
        close(network(box.lower), box.lower, 0)
        moved = numpy(network(box.lower, training=True)) - numpy(box.lower)
        assert np.std(moved) > 0.5

"""Teachers: what they add to the expressive losses, and that they stay as they are."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.bounds.margins import cross_entropy
from keras_taps.training import CCIBPModel, ExpIBPModel, MTLIBPModel
from keras_taps.training.mtl_ibp import divergence
from tests.helpers import close, dense_network, images, numbers, numpy
from tests.training.steps import loss_of

EPS = 0.05
OPTIONS = {"alpha": 0.3, "pgd_steps": 1, "seed": 1}


def test_divergence():
    """Against its definition; of a teacher that is sure of the label it is the cross-entropy."""
    margins, others = numbers(2, 5, 3, high=2.0)
    p, q = (np.exp(np.pad(m, ((0, 0), (1, 0)))) for m in (margins, others))
    p, q = (each / each.sum(1, keepdims=True) for each in (p, q))
    tensors = [ops.convert_to_tensor(m) for m in (margins, others)]
    close(divergence(*tensors), (p * np.log(p / q)).sum(1), 1e-5)
    close(divergence(tensors[0], tensors[0]), np.zeros(5), 1e-6)
    close(divergence(ops.full((5, 3), -50.0), tensors[1]), cross_entropy(tensors[1]), 1e-5)


@pytest.mark.once
def test_features_that_have_nowhere_to_go():
    """At radius 0 features are points: their mean squared distance to those of the teacher."""
    (x, y), network, teacher = images(8, (6,)), dense_network(), dense_network(seed=5)
    losses = [
        loss_of(CCIBPModel(network, 0.0, distillation=w, teacher=t, **OPTIONS), x, y)
        for w, t in ((3.0, teacher), (3.0, None), (0.0, teacher), (3.0, network))
    ]
    apart = numpy(network.segment.body(x)) - numpy(teacher.segment.body(x))
    assert losses[0] - losses[1] == pytest.approx(3 * np.mean(apart**2), rel=1e-3)
    assert losses[2:] == pytest.approx([losses[1]] * 2, rel=1e-5)


@pytest.mark.once
@pytest.mark.parametrize("kind", [CCIBPModel, MTLIBPModel])
def test_a_teacher_is_saved_and_never_trained(kind, tmp_path):
    (x, y), teacher = images(8, (6,)), dense_network(batch_norm=True, seed=5)
    before = [numpy(weight).copy() for weight in teacher.weights]
    model = kind(dense_network(), EPS, teacher=teacher, **OPTIONS)
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1))
    assert len(model.trainable_variables) == len(model.network.trainable_variables)
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for weights in (teacher.weights, model.teacher.weights, loaded.teacher.weights):
        for weight, expected in zip(weights, before, strict=True):
            close(weight, expected)
    assert teacher.trainable
    shares = model.evaluate(x, y, verbose=0)
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(shares, rel=1e-5)
    assert model.at_eps(EPS).evaluate(x, y, verbose=0) == pytest.approx(shares, rel=1e-5)
    # Another model's file is a teacher too.
    taught = kind(dense_network(), EPS, teacher=tmp_path / "model.keras", **OPTIONS)
    close(taught.teacher(x), model.network(x))


@pytest.mark.once
def test_teachers_that_do_not_fit():
    network = dense_network()
    for kind, teacher, message in (
        (MTLIBPModel, dense_network(inputs=5), r"`teacher` must take .*a teacher of \(5,\) and 3"),
        (CCIBPModel, dense_network(classes=4), r"3 classes apart.*and 4 classes"),
        (CCIBPModel, dense_network(hidden=(5, 7)), r"`teacher` must have 4 inputs .*with 7"),
        (CCIBPModel, 3, "Received: "),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            kind(network, EPS, teacher=teacher)
    with pytest.raises(TypeError, match="has no argument `teacher`"):
        ExpIBPModel(network, EPS, teacher=network)
    with pytest.raises(ValueError, match="`distillation` must be"):
        CCIBPModel(network, EPS, distillation=-1)

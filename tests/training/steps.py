"""One training step without an optimizer, and TAPS with latent points that are given."""

import keras
from keras import ops

from keras_taps.training import Batch, TAPSModel
from tests.helpers import jitted, numbers, numpy, seed_tensor, weight_gradients


def batch_of(x, y, eps, **options):
    """`Batch` of NumPy images and labels, for a call of `certified_loss` outside of a step."""
    tensors = (ops.convert_to_tensor(x), ops.convert_to_tensor(y), None)
    return Batch(*tensors, ops.convert_to_tensor(eps, "float32"), seed_tensor(), **options)


def outcome_of(model, batch):
    """`Outcome` of a method for a `Batch`."""
    return model.certified_loss(batch, model.region(batch))


def loss_and_gradients(model, x, y, training=True):
    """Loss of a batch and its gradients, by the `compute_loss` that the trainers call."""
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    return weight_gradients(
        lambda: model.compute_loss(x=x, y=y, training=training), model.trainable_variables
    )


def loss_function(model, training=True):
    """`loss(x, y)` of a batch alone, for tests of no gradient; on JAX compiled once."""

    def pure(x, y):
        # What it writes is undone; regularisers read trainable variables from the scope alone.
        values = [(v, v.value) for v in model.trainable_variables]
        with keras.StatelessScope(state_mapping=values):
            return model.compute_loss(x=x, y=y, training=training)

    compiled = jitted(pure)
    return lambda x, y: float(numpy(compiled(ops.convert_to_tensor(x), ops.convert_to_tensor(y))))


def loss_of(model, x, y, training=True):
    """Loss of a batch, as `loss_and_gradients` has it."""
    return loss_function(model, training)(x, y)


def fixed_shares(count, shape):
    """Where in their boxes `count` points a sample lie, `(batch, count, ...)`, ends included."""
    share = numbers(shape[0], count, *shape[1:], low=0)
    share[..., 0], share[..., 1] = 0, 1
    return share


def fixed_points(features, count):
    """Points at those shares of a latent box, without gradient."""
    shares = ops.convert_to_tensor(fixed_shares(count, tuple(features.lower.shape)))
    lower, width = (ops.expand_dims(t, 1) for t in (features.lower, features.width))
    return ops.stop_gradient(lower + shares * width)


class FixedPoints(TAPSModel):
    """TAPS whose latent points lie at fixed shares of the box, so every backend has the same."""

    scale = 1.0

    def latent_attack(self, classifier, features, batch, classes=None, stream=0):
        points = self.scale * fixed_points(features, classifier.layers[-1].units - 1)
        if classes is None:
            return points
        labels = ops.expand_dims(ops.cast(batch.labels, "int32"), 1)
        places = classes - ops.cast(classes > labels, "int32")
        places = ops.reshape(places, (*places.shape, *[1] * (len(points.shape) - 2)))
        return ops.take_along_axis(points, places, axis=1)

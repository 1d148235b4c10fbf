"""A step of sign-gradient ascent in the operations of Keras."""

from keras import ops


def clipped_step(points, gradient, step, lower, upper):
    """`clip(points + step * sign(gradient), lower, upper)`; NaN in the gradient moves nothing."""
    moved = points + step * ops.where(ops.isnan(gradient), 0.0, ops.sign(gradient))
    return ops.minimum(ops.maximum(moved, lower), upper)

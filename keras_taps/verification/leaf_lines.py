"""What the leaves of a chunk do to forms at a ReLU on the way back: splits, multipliers, cuts."""

from dataclasses import dataclass

import numpy as np

from keras_taps.verification.relu_lines import ReluLines
from keras_taps.verification.rounding import ROUND, Form, dot, gamma, lost


@dataclass(frozen=True)
class LayerCuts:
    """The cuts of one ReLU that are used; `rows` are their numbers, `size` bounds its inputs.

    The outputs of a ReLU are no larger than its inputs, so `size` serves for both.
    """

    rows: np.ndarray
    places: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    limits: np.ndarray
    size: np.ndarray

    def taken(self, rows, gammas, coefficients):
        """Rows less `gammas @ coefficients`, and the rounding of it in a form."""
        members, at = np.unique(self.places, return_inverse=True)
        matrix = np.zeros((len(self.places), len(members)))
        at = at.reshape(self.places.shape)
        np.add.at(matrix, (np.arange(len(matrix))[:, None], at), coefficients)
        size = self.size.reshape(-1)
        scale = (np.abs(coefficients) * size[self.places]).sum(1)
        flat = rows.reshape(len(rows), -1).copy()
        flat[:, members] -= gammas @ matrix
        error = gamma(self.places.size) * (gammas @ scale) + lost(size)
        error = error + 4 * ROUND * np.abs(flat[:, members]) @ size[members]
        return flat.reshape(rows.shape), error

    def before(self, form, gammas):
        """The form on the outputs of the ReLU, with the cuts' own part of it and their limits."""
        rows, error = self.taken(form.rows, gammas, self.outer)
        error = error + gamma(len(self.limits)) * (gammas @ np.abs(self.limits)) + lost(self.size)
        return Form(rows, *_plus(form, gammas @ self.limits, error))

    def behind(self, form, gammas):
        """The form on the inputs of the ReLU, with the cuts' part."""
        rows, error = self.taken(form.rows, gammas, self.inner)
        return Form(rows, *_plus(form, 0.0, error))


@dataclass(frozen=True)
class LeafLines(ReluLines):
    """Lines of each leaf of a chunk, arrays `(L, ...)`; `pushes` are `sign * beta`."""

    signs: np.ndarray
    pushes: np.ndarray
    cuts: LayerCuts
    gammas: np.ndarray

    def back(self, form):
        if self.cuts is not None:
            form = self.cuts.before(form, self.gammas)
        # What is split is linear: there is no line to lift, and one product to round.
        split = self.signs != 0
        rising, falling = np.maximum(form.rows, 0), np.minimum(form.rows, 0)
        rising = np.where(split, 0.0, rising)
        rows = np.where(
            split,
            form.rows * np.where(self.signs > 0, 1.0, self.slope),
            rising * self.steep + falling * self.below,
        )
        form = self.through(form, rows, rising)
        if self.pushes is not None:
            rows = form.rows + self.pushes
            error = 4 * ROUND * dot(np.abs(rows), self.size)
            form = Form(rows, *_plus(form, 0.0, error))
        if self.cuts is not None:
            form = self.cuts.behind(form, self.gammas)
        return form


def _plus(form, constant, error):
    form = form.plus(constant, error)
    return form.constant, form.error


def multipliers(values):
    """Numbers as multipliers: float64, and 0 where they are negative or not finite."""
    values = np.asarray(values, "float64")
    return np.where(np.isfinite(values) & (values > 0), values, 0.0)

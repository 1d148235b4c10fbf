"""Figures draw what they are given and leave pyplot alone."""

import numpy as np

from keras_taps import plots


def test_training_curves_take_rows_and_histories():
    rows = [{"epoch": 1, "eps": 0.0, "loss": 2.0}, {"epoch": 2, "eps": 0.1, "loss": 1.0}]
    figure = plots.training_curves({"rows": rows, "history": {"eps": [0.1], "loss": [1.0]}})
    radius = figure.axes[0]
    assert [list(line.get_ydata()) for line in radius.lines] == [[0.0, 0.1], [0.1]]


def test_margin_bounds_tell_certified_from_open_and_attacked():
    images = np.zeros((3, 4, 4, 1))
    bounds = np.array([[-1.0, -2.0], [1.0, -1.0], [2.0, 2.0]])
    attacked = np.array([[-2.0, -3.0], [-1.0, -2.0], [1.0, -1.0]])
    figure = plots.margin_bounds(images, [0, 1, 2], {"net": bounds}, {"net": attacked}, 0.1)
    assert [axis.get_title() for axis in figure.axes[3:]] == ["certified", "open", "attacked"]

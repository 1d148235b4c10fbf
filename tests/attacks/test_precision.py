"""Attacks whose products are coarse: same points but for a little, never outside of the box."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_taps.attacks import precision
from keras_taps.attacks.box_attack import box_attack, margins_at
from keras_taps.bounds import margin_rows
from keras_taps.experiments.recipes import recipe
from keras_taps.experiments.run import Run
from keras_taps.interval import input_box
from keras_taps.layers.folding import around, fold
from keras_taps.layers.residual import walk
from keras_taps.networks import resnet
from keras_taps.training import AdversarialModel, IBPModel, STAPSModel, TAPSModel
from tests.helpers import (
    BACKEND,
    close,
    conv_network,
    dense_network,
    images,
    numpy,
    random_box,
    seed_tensor,
)

LABELS = np.array([0, 1, 2, 1], "int32")


def compared(network, box, labels=LABELS, **options):
    """Margins of the points found in float32 and in bfloat16, and the latter points."""
    rows = margin_rows(network.segment.last, labels)
    found = [
        box_attack(network.segment, box, labels, seed_tensor(0), steps=8, dtype=dtype, **options)
        for dtype in (None, "bfloat16")
    ]
    return [numpy(margins_at(network.segment, points, rows)) for points in found], found[1]


@pytest.mark.parametrize("estimator", ["multi", "single"])
@pytest.mark.parametrize("eps", [0.1, 1e-3])
def test_it_finds_nearly_the_margins_of_float32_in_the_box(estimator, eps):
    """A short box about a pixel is shorter than the distance of two numbers of 8 bits there."""
    network, (x, y) = conv_network(), images(4)
    box = input_box(x, eps)
    (full, coarse), points = compared(network, box, y, estimator=estimator)
    bounds = numpy(box)
    points = numpy(points)
    assert points.dtype == np.float32
    assert np.all(points >= bounds.lower[:, None])
    assert np.all(points <= bounds.upper[:, None])
    centre = numpy(margins_at(network.segment, x[:, None], margin_rows(network.segment.last, y)))
    gain = np.max(full - centre)
    assert gain > 0
    np.testing.assert_allclose(coarse, full, atol=0.05 * gain)


def test_points_of_no_width_stay():
    network, x = dense_network(), np.full((4, 6), 0.7081, "float32")
    _, points = compared(network, input_box(x, 0.0))
    np.testing.assert_array_equal(numpy(points), np.repeat(x[:, None], 2, axis=1))


@pytest.mark.parametrize("first", ["affine", "padding", "residual"])
def test_the_centre_keeps_its_precision(first):
    """An offset of a thousandth from 0.9 is not lost, and in full precision nothing changes."""
    if first == "residual":
        network = resnet((4, 4, 1), 3, width=1)
        shape = (4, 4, 1)
    elif first == "padding":
        network = conv_network()
        shape = network.input_shape[1:]
    else:
        network, shape = dense_network(), (6,)
    layers = fold(network.segment.body.layers, shape)
    rng = np.random.default_rng(0)
    centre = ops.convert_to_tensor(rng.uniform(0.8, 0.9, (2, *shape)).astype("float32"))
    offsets = rng.uniform(-1e-3, 1e-3, (2, 3, *shape)).astype("float32")
    points = numpy(centre)[:, None] + offsets
    right = numpy(walk(layers, ops.convert_to_tensor(points.reshape(6, *shape))))
    flat = ops.convert_to_tensor(offsets.reshape(6, *shape))
    close(around(layers, centre, 3, "float32")(flat), right, 1e-5)
    rough = around(layers, centre, 3, "bfloat16")(ops.cast(flat, "bfloat16"))
    assert numpy(ops.cast(rough, "float32")) == pytest.approx(right, rel=0.03, abs=0.03)


def one_step(model):
    """Loss of the first step, and of an evaluation after it."""
    # In float32 every other test compiles it.
    eager = BACKEND == "tensorflow" and model.search_dtype == "float32"
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=eager)
    x, y = images(8)
    x, y = numpy(x), numpy(y)
    loss = model.train_on_batch(x, y)
    return float(np.ravel(loss)[0]), model.evaluate(x, y, verbose=0, return_dict=True)


# STAPS attacks as both others do; elsewhere it takes longest to compile.
@pytest.mark.parametrize(
    "method", [TAPSModel, AdversarialModel, *([STAPSModel] if BACKEND == "torch" else [])]
)
def test_training_takes_it_and_evaluation_does_not(method):
    losses = []
    for dtype in ("float32", "bfloat16"):
        keras.utils.set_random_seed(0)
        model = method(conv_network(), eps=0.1, seed=0, search_dtype=dtype)
        losses.append(one_step(model))
        assert model.get_config()["search_dtype"] == dtype
    (first, after), (coarse, after_coarse) = losses
    assert coarse == pytest.approx(first, rel=1e-2)
    assert after_coarse["loss"] == pytest.approx(after["loss"], rel=1e-2)


def test_methods_without_an_attack_do_not_take_it():
    with pytest.raises(TypeError, match="search_dtype"):
        IBPModel(conv_network(), eps=0.1, search_dtype="bfloat16")


def test_unknown_precisions_are_refused():
    with pytest.raises(ValueError, match=r"`search_dtype` must be one of.*float16"):
        TAPSModel(conv_network(), eps=0.1, search_dtype="float16")


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [((1.0, 0.5), "bfloat16"), ((1.0, 0.9), "float32"), ((1.0, 200.0), "float32")],
)
def test_the_device_decides_and_the_run_keeps_it(seconds, chosen, monkeypatch, tmp_path):
    times = dict(zip(("float32", "bfloat16"), seconds, strict=True))
    monkeypatch.setattr(precision, "product_seconds", lambda: times)
    asked = recipe("digits-0.1-taps").changed(search_dtype="auto", width=1)
    run = Run.create(tmp_path / "run", asked, 0, 20)
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["recipe"]["options"]["search_dtype"] == chosen
    assert Run.open(run.folder).recipe.options["search_dtype"] == chosen


def test_products_are_timed_once():
    precision.product_seconds.cache_clear()
    first = precision.product_seconds()
    assert set(first) == {"float32", "bfloat16"}
    assert min(first.values()) > 0
    assert precision.product_seconds() is first
    assert precision.chosen_dtype("auto") in ("float32", "bfloat16")


def test_boxes_of_random_widths_are_never_left():
    network, box = dense_network(), random_box(4, 6, width=10.0)
    (full, coarse), points = compared(network, box)
    lower, upper = numpy(box)
    assert np.all(numpy(points) >= lower[:, None])
    assert np.all(numpy(points) <= upper[:, None])
    assert np.mean(coarse) == pytest.approx(np.mean(full), rel=0.15)

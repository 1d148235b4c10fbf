"""Distance neurons: their norms, their masks, and that nothing moves by more than its input."""

import numpy as np
import pytest
from keras import ops

from keras_taps import backend
from keras_taps.interval import Interval
from keras_taps.layers import IntervalDense, IntervalDistance, Pass, Relaxation
from keras_taps.layers import distance as module
from keras_taps.networks import IntervalSequential
from tests.helpers import (
    assert_contains,
    close,
    gradients,
    numbers,
    numpy,
    random_box,
    randomise,
    sample_points,
    seed_tensor,
)


def built(inputs=7, units=5, **options):
    layer = IntervalDistance(units, **{"mean_shift": False, **options})
    layer.build((None, inputs))
    return randomise(layer)


def norm(layer, x, power, axis=1):
    """p-norms in float64."""
    away = np.abs(numpy(x).astype("float64")[:, :, None] - numpy(layer.kernel))
    return (away**power).sum(axis) ** (1 / power)


@pytest.mark.parametrize("power", [1.0, 8.0, 100.0])
def test_norm_and_its_gradient(power):
    """The gradient is `sign(d) (|d| / ||d||)^(p - 1)`, of length 1 in the dual norm."""
    layer, x = built(units=1), numbers(1, 7, seed=1)
    x[0, 0] = numpy(layer.kernel)[0, 0]  # a difference of 0 has a gradient too

    def total(x):
        return ops.sum(layer(x, given=Pass(relaxation=Relaxation(power))))

    value, (found,) = gradients(total, x)
    expected = norm(layer, x, power)[0, 0]
    assert value == pytest.approx(expected, rel=1e-5)
    away = (x - numpy(layer.kernel).T)[0]
    wanted = np.sign(away) * (np.abs(away) / expected) ** (power - 1)
    close(found[0, 1:], wanted[1:], 1e-4)
    assert np.isfinite(found[0, 0])
    if power > 1:
        close(found[0], wanted, 1e-4)
        assert (np.abs(found) ** (power / (power - 1))).sum() == pytest.approx(1, rel=1e-3)


def test_a_large_power_is_the_maximum_and_equal_inputs_have_finite_gradients():
    layer, x = built(), numbers(4, 7)
    found = layer(x, given=Pass(relaxation=Relaxation(1e6)))
    close(found, layer(x), 1e-4)
    centre = ops.transpose(layer.kernel.value)[:1]

    def total(x):
        return ops.sum(layer(x, given=Pass(relaxation=Relaxation(8.0))))

    assert np.all(np.isfinite(gradients(total, centre)[1][0]))


@pytest.mark.parametrize("keep", [1.0, 0.7])
def test_no_output_moves_more_than_the_input(keep):
    layers = [built(7, 9, keep=keep), built(9, 6, keep=keep), built(6, 3, keep=keep)]
    stack = IntervalSequential([*layers, IntervalDense(3)], input_shape=(7,)).segment.body
    a, b = numbers(1000, 7, seed=1), numbers(1000, 7, seed=2)
    b[500:] = a[500:] + 1e-3 * b[500:]
    moved = np.abs(numpy(stack(a)) - numpy(stack(b))).max(-1)
    assert np.all(moved <= np.abs(a - b).max(-1) * (1 + 1e-6) + 1e-6)
    if keep < 1:
        return
    given = Pass(relaxation=Relaxation(8.0))
    moved = np.abs(numpy(layers[0](a, given=given)) - numpy(layers[0](b, given=given))).max(-1)
    assert np.all(moved <= 7 ** (1 / 8) * np.abs(a - b).max(-1) * (1 + 1e-4) + 1e-6)
    out = layers[0](Interval(a, a + np.float32(0.2)))
    assert np.all(numpy(out.width) <= 0.2 + 1e-5)


@pytest.mark.parametrize("power", [8.0, 100.0])
def test_boxes_of_norms(power):
    layer, box = built(), random_box(1, 7, width=1.0)
    given = Pass(relaxation=Relaxation(power))
    points = ops.convert_to_tensor(sample_points(box))
    assert_contains(layer(box, given=given), numpy(layer(points, given=given)))


def test_the_mean_over_masks_is_the_sorted_sum():
    """The maximum over a random subset has the sorted sum as its expectation."""
    layer = built(12, 2, keep=0.6)
    x = np.repeat(numbers(1, 12), 32 * 5000, axis=0)
    given = Pass(relaxation=Relaxation(1e6, seed_tensor(3)))
    found = numpy(layer(x, given=given))
    close(found[:32], np.repeat(found[:1], 32, axis=0), 0)  # samples share a mask
    assert len(np.unique(found[:, 0])) > 5
    close(found.mean(0), numpy(layer(x[:1]))[0], 0.01)


def test_two_layers_and_two_steps_draw_other_masks():
    relaxation = Relaxation(8.0, seed_tensor(3))
    seeds = [relaxation.next_seed() for _ in range(2)]
    drawn = [numpy(backend.uniform((4,), seed)) for seed in (*seeds, seeds[0] + 1)]
    assert not np.allclose(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])


@pytest.mark.parametrize("power", [None, 8.0])
def test_outputs_some_at_a_time(power, monkeypatch):
    """Values, boxes and gradients are those of all outputs at once."""
    layer, x, box = built(6, 5), numbers(3, 6), random_box(3, 6)
    given = Pass(relaxation=None if power is None else Relaxation(power))
    weights = ops.convert_to_tensor(numbers(3, 5, seed=4))

    def total(x, lower, upper):
        out = layer(Interval(lower, upper), given=given)
        return ops.sum(weights * (layer(x, given=given) + out.lower - 2 * out.upper))

    expected, whole = gradients(total, x, *box)
    monkeypatch.setattr(module, "_FLOATS", 3 * 6 * 2)  # two outputs at a time
    found, parts = gradients(total, x, *box)
    assert found == pytest.approx(expected, rel=1e-5)
    for a, b in zip(parts, whole, strict=True):
        close(a, b)


def test_mean_shift():
    """Of the batch where moments are taken, else of the average, which moves on once."""
    layer, x = IntervalDistance(5), numbers(8, 7)
    layer.build((None, 7))
    taken = {}
    found = numpy(layer(x, given=Pass(taken=taken)))
    assert np.abs(found.mean(0)).max() < 1e-5
    mean = numpy(taken[layer][0])
    close(layer.moving_mean, 0.1 * mean)
    close(layer(x), found + 0.9 * mean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "`units` must be"),
        ({"units": 2, "keep": 0}, "Received: keep=0"),
        ({"units": 2, "use_bias": True}, "`use_bias` must be False where `mean_shift` is True"),
        ({"units": 2, "mean_shift": 1.5}, "`mean_shift` must be"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        IntervalDistance(**options)


def test_images_are_refused():
    with pytest.raises(ValueError, match=r"put a Flatten first. Received: .*\(None, 4, 4, 1\)"):
        IntervalDistance(2).build((None, 4, 4, 1))

import numpy as np
import pytest

from keras_taps.attacks import PAPER_ATTACK, adversarial_accuracy, pgd_attack
from keras_taps.bounds import certified, ibp_margins
from keras_taps.interval import input_box
from tests.helpers import close, conv_network, dense_network, images, numpy

pytestmark = pytest.mark.usefixtures("eager")

EPS = 0.1


@pytest.fixture(scope="module")
def attacked():
    network, (x, y) = conv_network(), images(7)
    return network, x, y, *pgd_attack(network, x, y, EPS, steps=3, seed=1, batch_size=4)


def test_points_lie_in_the_box(attacked):
    _, x, _, found, robust = attacked
    assert found.shape == x.shape
    assert robust.shape == (7,)
    assert robust.dtype == bool
    assert np.all(np.abs(found - x) <= EPS + 1e-6)
    assert found.min() >= 0
    assert found.max() <= 1


def test_robust_means_still_classified_correctly(attacked):
    network, _, y, found, robust = attacked
    assert np.array_equal(numpy(network(found)).argmax(1) == y, robust)


def test_deterministic(attacked):
    network, x, y, found, _ = attacked
    close(pgd_attack(network, x, y, EPS, steps=3, seed=1, batch_size=4)[0], found, 0)


def test_padding_of_the_last_batch_changes_nothing(attacked):
    """The first batch is the same whether or not a second, padded one follows."""
    network, x, y, found, _ = attacked
    close(pgd_attack(network, x[:4], y[:4], EPS, steps=3, seed=1, batch_size=4)[0], found[:4])


def test_column_of_labels(attacked):
    network, x, y, found, _ = attacked
    again, _ = pgd_attack(network, x, y[:, None], EPS, steps=3, seed=1, batch_size=4)
    close(again, found, 0)


def test_linear_classifier_of_two_classes_is_solved_exactly():
    """There PGD reaches what IBP certifies: robust and certified are the same."""
    network = dense_network(hidden=(), classes=2)
    x, y = images(40, (6,), classes=2)
    _, robust = pgd_attack(network, x, y, EPS, steps=20)
    exact = numpy(certified(ibp_margins(network, input_box(x, EPS), y)))
    assert np.array_equal(robust, exact)
    assert 0 < robust.mean() < 1
    assert adversarial_accuracy(network, x, y, EPS, steps=20) == pytest.approx(robust.mean())


@pytest.mark.parametrize("objective", ["cross-entropy", "margin", "dlr"])
def test_corner_of_a_linear_classifier(objective):
    """Two wrong classes of which one always leads: its corner is the worst image."""
    network = dense_network(inputs=4, hidden=(), classes=3)
    kernel = np.array([[0, 1, 1], [0, -1, -1], [0, 2, 2], [0, -3, -3]], "float32")
    network.layers[0].kernel.assign(kernel)
    network.layers[0].bias.assign([9.0, -1.0, -2.0])
    x, y = np.full((5, 4), 0.5, "float32"), np.zeros(5, "int32")
    found, robust = pgd_attack(network, x, y, EPS, steps=10, objective=objective)
    assert robust.all()
    close(found, np.tile([0.6, 0.4, 0.6, 0.4], (5, 1)))


def test_targeted_breaks_what_the_margin_breaks():
    network, (x, y) = conv_network(classes=4, seed=1), images(60, classes=4)
    options = {"steps": 20, "restarts": 3}
    untargeted = pgd_attack(network, x, y, EPS, objective="margin", **options)[1]
    found, targeted = pgd_attack(network, x, y, EPS, targeted=True, **options)
    assert np.all(targeted <= untargeted)
    assert 0 < targeted.mean() < 1
    assert np.array_equal(numpy(network(found)).argmax(1) == y, targeted)


@pytest.mark.parametrize("objective", ["margin", "dlr"])
def test_fewer_targets_break_less(objective):
    network, (x, y) = conv_network(classes=4, seed=1), images(60, classes=4)
    totals, robust = [], []
    for targets in (1, 3, None):
        robust.append(
            pgd_attack(
                network,
                x,
                y,
                EPS,
                steps=5,
                targeted=True,
                targets=targets,
                objective=objective,
                progress=lambda done, total: totals.append(total),
            )[1]
        )
    assert np.all(robust[1] <= robust[0])
    assert np.array_equal(robust[1], robust[2])
    assert set(totals) == {60, 180}


def test_setting_of_the_paper():
    network = dense_network(hidden=(), classes=2)
    x, y = images(4, (6,), classes=2)
    assert pgd_attack(network, x, y, EPS, **PAPER_ATTACK)[1].shape == (4,)
    assert PAPER_ATTACK == {"steps": 200, "restarts": 5}


def test_weights_are_read_anew_at_each_call():
    network = dense_network(hidden=(), classes=2)
    x, y = images(10, (6,), classes=2)
    before = pgd_attack(network, x, y, EPS, steps=1)[1]
    for weight in network.weights:
        weight.assign(-weight)
    assert not np.array_equal(pgd_attack(network, x, y, EPS, steps=1)[1], before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 2}, "`eps` must be"),
        ({"restarts": 0}, "`restarts` must be"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"steps": -1}, "`steps` must be"),
        ({"x": np.zeros((7, 5))}, "`x` must have shape"),
        ({"x": np.full((7, 6, 6, 1), 255)}, "`x` must hold values"),
        ({"y": np.full(7, 3)}, "`y` must hold whole labels"),
        ({"step_size": 0}, "`step_size` must be"),
        ({"objective": "loss"}, "`objective` must be"),
        ({"targeted": True, "targets": 0}, "`targets` must be"),
        ({"targeted": True, "targets": 3}, "`targets` must be at most 2"),
        ({"targets": 1}, "`targets` must be given with `targeted=True`"),
    ],
)
def test_bad_arguments(change, message):
    x, y = images(7)
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        pgd_attack(conv_network(), **{"x": x, "y": y, "eps": EPS, "steps": 1, **change})


def test_radius_zero_keeps_the_images():
    x, y = images(4)
    found, _ = pgd_attack(conv_network(), x, y, 0.0, steps=1)
    close(found, x, 0)

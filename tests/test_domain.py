"""Input domains and radii of each feature: the box, what is refused, and models that keep them."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_taps as kt
from keras_taps.domain import UNIT, Domain, check_images, check_radius, radius_text, same
from keras_taps.interval import all_inside, input_box
from tests.helpers import dense_network, numbers, numpy

X = numbers(5, 2, 3, seed=1, low=-2, high=2)
LOW = np.array([-2.0, -3.0, -np.inf])
DOMAINS = {
    "numbers": ((-2, 2.5), (-2, 2.5)),
    "none": (None, (-np.inf, np.inf)),
    "one side": ((-2, None), (-2, np.inf)),
    "arrays": (([-2, -3, None], [[2.0], [3.0]]), (LOW, np.array([[2.0], [3.0]]))),
    "text": ("-5/2, 2", (-2.5, 2)),
}
RADII = [0.5, [0.0, 0.1, 3.0], [[0.2], [0.0]], numbers(2, 3, low=0)]


@pytest.mark.parametrize("name", DOMAINS)
def test_the_box_is_that_of_numpy(name):
    given, (low, high) = DOMAINS[name]
    for eps in RADII:
        box = numpy(input_box(X, eps, given))
        radius = np.asarray(eps, "float32")
        lower, upper = np.maximum(X - radius, low), np.minimum(X + radius, high)
        np.testing.assert_allclose(box.lower, lower.astype("float32"), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(box.upper, upper.astype("float32"), rtol=1e-6, atol=1e-7)
        as_tensors = input_box(ops.convert_to_tensor(X), ops.convert_to_tensor(radius), given)
        np.testing.assert_array_equal(numpy(as_tensors.lower), box.lower)
        np.testing.assert_array_equal(numpy(as_tensors.upper), box.upper)


def test_the_step_sees_what_is_outside():
    domain = Domain.of(([-2, -3, None], 2))
    for value, inside in ((2.0, True), (2.1, False), (np.nan, False), (np.inf, False)):
        x = np.zeros((2, 3), "float32")
        x[1, 2] = value
        assert bool(numpy(all_inside(ops.convert_to_tensor(x), domain))) == inside
        assert domain.holds(x) == inside
    x = ops.convert_to_tensor([[0.0, 0.0, -1e30]])
    assert bool(numpy(all_inside(x, domain)))
    assert not bool(numpy(all_inside(x, Domain.of((-3, 3)))))


@pytest.mark.once
def test_a_domain_is_canonical_and_holds_its_values_in_float32():
    for low, high in [(-0.3, 0.7), (0.7, 1e300), (0, 1e-320), ([0.3, -0.7], [0.7, None])]:
        domain = Domain.of((low, high))
        assert Domain.of(domain.to_config()).to_config() == domain.to_config()
        for side, own in ((low, domain.low), (high, domain.high)):
            own = np.asarray(own)
            assert np.array_equal(own, own.astype("float32").astype("float64"))
            given = np.array(side, "float64")
            assert np.all((own <= given) if side is low else (own >= given) | np.isnan(given))
    assert Domain.of((0, 1)) is UNIT is Domain.of([0.0, 1.0])
    assert Domain.of("none").to_config() == [None, None]
    assert Domain.of(([0, 0], 1)).agrees(UNIT, (2,))
    assert not Domain.of(([0, 0.5], 1)).agrees(UNIT, (2,))
    assert same(0.1, np.full((1, 2), 0.1), (3, 2))
    assert str(Domain.of(None)) == "all numbers"
    assert str(Domain.of((-3, [3, 4]))) == "[-3, 3 to 4]"
    assert radius_text(0.1) == "0.1"


@pytest.mark.once
@pytest.mark.parametrize(
    "domain",
    [(1, 0), (0.1, 0.1), (np.nan, 1), "a,b", (0, 1, 2), 5, ([0, 1], [1, 0]), (True, 2), ([], 1)],
)
def test_what_is_no_domain_is_refused(domain):
    with pytest.raises(ValueError, match=r"^`domain` must be \(low, high\), .* Received: domain="):
        Domain.of(domain)


@pytest.mark.once
def test_radii_and_data_are_refused_by_one_sentence():
    domain = Domain.of((-3, 3))
    assert check_radius("eps", 6, domain) == 6
    for eps in (6.1, -0.1, [0.1, -1], np.nan, [np.inf], "7", None, [[1, 2], [3]], {}):
        with pytest.raises(ValueError, match=r"`eps` must be a number in \[0, 6\], or an array.*"):
            check_radius("eps", eps, domain)
    for shape in ((2,), (4, 3), (1, 1, 3)):
        with pytest.raises(ValueError, match=r"broadcast to one input, of shape \(2, 3\). Rec.*"):
            check_radius("eps", np.ones(shape), domain, (2, 3))
        with pytest.raises(ValueError, match=r"`domain` must .* of shape \(2, 3\). Received: an"):
            Domain.of((np.zeros(shape), 3)).fitted((2, 3))
    x = np.zeros((4, 2, 3))
    x[2, 1], x[3, 0, 0] = 5, -4
    message = r"in \[-3, 3\]. Received: 4 values outside, of values from -4 to 5, in 2 of 4 inputs"
    with pytest.raises(ValueError, match=f"`x` must hold values {message}, the first at index 2$"):
        check_images(x, (2, 3), domain)
    check_images(x, (2, 3), Domain.of(None))
    with pytest.raises(ValueError, match=r"in all numbers. Received: 1 values outside.*at index 1"):
        check_images(np.array([[0.0], [1e39]]), (1,), Domain.of(None))  # beyond float32
    for eps in ([0.1, 0.2], [0.1] * 4):
        with pytest.raises(ValueError, match=r"`eps` must be a number or broadcast"):
            kt.IBPModel(dense_network(3), eps=eps, domain=None)
    with pytest.raises(ValueError, match="`train_eps` must be at least `eps`"):
        kt.IBPModel(dense_network(3), eps=[0.1, 0.2, 0.3], train_eps=0.2)


FEATURES = np.array([0.3, 0.0, 1.5])
DOMAIN = ([-4, -4, None], 4)


def data(count=12):
    x = numbers(count, 3, low=-4, high=4)
    return x, np.random.default_rng(0).integers(0, 3, count)


@pytest.mark.parametrize("method", ["staps", "crown-ibp", "ibp-r"])
def test_every_kind_of_method_trains_and_keeps_its_domain(method, tmp_path):
    """The radius grows as a whole, and the loaded model is the same function of the same box."""
    x, y = data()
    options = {"staps": {"attack_steps": 2, "pgd_steps": 2}, "ibp-r": {"pgd_steps": 2}}
    model = kt.training.METHODS[method](
        dense_network(3), eps=FEATURES / 2, train_eps=FEATURES, domain=DOMAIN, seed=0,
        **options.get(method, {}),
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
    model.set_annealing(0, 4, "linear")
    model.step.assign(2)
    eps = model.scheduled_eps()[1]
    np.testing.assert_allclose(numpy(eps), FEATURES / 2, rtol=1e-6)
    assert float(numpy(model.share_of(eps))) == pytest.approx(0.5)
    history = model.fit(x, y, batch_size=6, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    assert history["eps"][-1] == pytest.approx(np.mean(FEATURES))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.domain.to_config() == Domain.of(DOMAIN).to_config()
    np.testing.assert_array_equal(loaded.eps, FEATURES / 2)
    np.testing.assert_array_equal(loaded.train_eps, FEATURES)
    found, again = (m.evaluate(x, y, verbose=0, return_dict=True) for m in (model, loaded))
    assert found == pytest.approx(again)
    wider = loaded.at_eps(FEATURES * 2)
    np.testing.assert_array_equal(wider.train_eps, FEATURES * 2)
    with pytest.raises(ValueError, match=r"`x` must hold values in .*outside"):
        model.fit(x * 2, y, verbose=0)

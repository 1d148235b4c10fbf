"""Recipes are complete, consistent with the paper's tables, and refuse what does not exist."""

import json

import pytest

from keras_taps.experiments.build import build_model, build_network, build_optimizer
from keras_taps.experiments.recipe import Recipe
from keras_taps.experiments.recipes import RECIPES, find_recipe, recipe
from keras_taps.networks import IntervalSequential
from keras_taps.training import METHODS


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_its_source_and_survives_its_config(name):
    entry = recipe(name)
    assert entry.name == name
    assert entry.source
    assert Recipe.from_config(entry.to_config()) == entry
    times = [entry.annealed_epoch, *entry.decays, entry.epochs]
    assert times == sorted(times)
    assert len(set(times[1:])) >= (1 if entry.cosine else 3)


@pytest.mark.once
@pytest.mark.parametrize("name", RECIPES)
def test_the_network_of_a_recipe_has_its_split_and_its_method_takes_the_options(name):
    chosen = recipe(name, width=1)
    network = build_network(chosen)
    assert isinstance(network, IntervalSequential)
    split = chosen.classifier_relus
    assert split is None or split in network.legal_splits
    model = METHODS[chosen.method](network, chosen.eps, chosen.train_eps, **chosen.options)
    for option, value in chosen.options.items():
        assert getattr(model, option) == value


SETTINGS = ("mnist-0.1", "mnist-0.3", "cifar10-2/255", "cifar10-8/255", "tiny_imagenet-1/255")


@pytest.mark.parametrize(
    ("setting", "batch", "epochs", "start", "annealing", "decays", "expressive"),
    [
        ("mnist-0.1", 256, 70, 0, 20, (50, 60), None),
        ("mnist-0.3", 256, 70, 0, 20, (50, 60), None),
        ("cifar10-2/255", 128, 161, 1, 80, (121, 141), None),
        ("cifar10-8/255", 128, 161, 1, 80, (121, 141), (260, 80, (180, 220))),
        ("tiny_imagenet-1/255", 128, 80, 1, 20, (60, 70), (160, 80, (120, 140))),
    ],
)
def test_schedules(setting, batch, epochs, start, annealing, decays, expressive):
    """Table 5 of the paper as its code reads it; two of the expressive losses train longer."""
    found = [entry for name, entry in RECIPES.items() if name.rsplit("-", 1)[0] == setting]
    assert {entry.method for entry in found} >= {"ibp", "sabr", "taps", "staps"}
    for entry in found:
        if entry.method in ("ibp-r", "colt", "convex", "sortnet"):  # of other families
            continue
        own = expressive if "alpha" in entry.options and expressive else (epochs, annealing, decays)
        assert entry.batch_size == batch
        assert (entry.epochs, entry.anneal_epochs, entry.decay_epochs) == own
        assert entry.anneal_start_epoch == start
        assert (entry.learning_rate, entry.decay, entry.clipnorm) == (5e-4, 0.2, 10.0)
        assert entry.eps == pytest.approx(eval(setting.split("-")[1]))


def test_taps():
    """Table 6 of the paper."""
    entries = [recipe(f"{setting}-taps") for setting in SETTINGS]
    assert [entry.classifier_relus for entry in entries] == [3, 1, 5, 1, 1]
    assert [entry.l1 for entry in entries] == [1e-6, 0, 2e-6, 2e-6, 0]
    assert [entry.options["w_taps"] for entry in entries] == [5] * 5
    assert [entry.train_eps for entry in entries] == [0.2, 0.4, 2 / 255, 8 / 255, 1 / 255]


def test_staps():
    """Table 8 of the paper; the authors' length of the gradient is (w + 1) / 2."""
    entries = [recipe(f"{setting}-staps") for setting in SETTINGS]
    assert [entry.classifier_relus for entry in entries] == [1, 1, 1, 1, 2]
    assert [entry.l1 for entry in entries] == [2e-5, 2e-6, 2e-6, 2e-6, 1e-6]
    assert [entry.options["tau_ratio"] for entry in entries] == [0.4, 0.6, 0.1, 0.7, 0.6]
    weights = [entry.options["w_taps"] for entry in entries]
    assert weights == [5, 5, 2, 5, 5]
    assert [e.options["gradient_scale"] for e in entries] == [(w + 1) / 2 for w in weights]
    assert [e.options["relu_shrinkage"] for e in entries] == [1, 1, 0.8, 1, 1]


def test_successors():
    wide = recipe("cifar10-2/255-mtl-ibp").options
    assert wide == {"alpha": 0.004, "pgd_steps": 8, "pgd_step_size": 0.25, "pgd_radius": 2.1}
    assert recipe("tiny_imagenet-1/255-exp-ibp").l1 == 5e-5
    assert recipe("tiny_imagenet-1/255-cc-ibp").warmup_weight == 0.2
    assert "mnist-0.1-exp-ibp" not in RECIPES  # nothing is published


def test_l1_of_the_expressive_losses_is_not_divided():
    """The coefficients of their code, which multiply the sum over all layers."""
    expected = {
        "cc-ibp": [2e-6, 3e-6, 3e-6, 0, 5e-5],
        "mtl-ibp": [1e-5, 1e-6, 3e-6, 1e-7, 5e-5],
        "exp-ibp": [4e-6, 0, 5e-5],
    }
    for method, values in expected.items():
        entries = [RECIPES[f"{s}-{method}"] for s in SETTINGS if f"{s}-{method}" in RECIPES]
        assert [entry.l1 for entry in entries] == values
        assert build_model(entries[0].changed(width=1), 1, 0).l1 == values[0]
    divided = recipe("mnist-0.1-taps", width=1)
    assert build_model(divided, 1, 0).l1 == pytest.approx(divided.l1 / 7)


def test_ibp_r():
    """As the authors' code has it."""
    small, large = recipe("cifar10-2/255-ibp-r"), recipe("cifar10-8/255-ibp-r")
    assert (small.train_eps, large.train_eps) == pytest.approx((4.2 / 255, 13.6 / 255))
    assert (small.options, large.options) == (
        {"stability": 1e-4},
        {"stability": 5e-3, "mask": "clean"},
    )
    assert (small.batch_size, large.batch_size) == (100, 150)
    assert small.decays == tuple(range(600, 800))
    optimizer = build_optimizer(small, 10)
    assert type(optimizer).__name__ == "SGD"
    assert (optimizer.momentum, optimizer.global_clipnorm) == (0.9, None)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5999, 6001, 6011, 7999)]
    assert rates == pytest.approx([1e-2, 1e-2, 0.95e-2, 0.95**2 * 1e-2, 0.95**200 * 1e-2])


def test_colt():
    """As the authors' code has it: radius, learning rate and regulariser of each stage."""
    small, large = recipe("cifar10-2/255-colt"), recipe("cifar10-8/255-colt")
    assert [s["train_eps"] * 255 / 2 for s in small.stages] == pytest.approx(
        [1.398, 1.271, 1.155, 1.05], abs=1e-3
    )
    assert [s["train_eps"] * 255 / 8 for s in large.stages] == pytest.approx([1.512, 1.26, 1.05])
    assert [s["stability"] for s in small.stages] == pytest.approx([0.005, 0.0075, 0.01125, 0])
    assert [s["learning_rate"] for s in large.stages] == pytest.approx([0.03, 0.015, 0.0075])
    stages = small.in_stages()
    assert [(s.begin, s.end) for s in stages] == [(0, 200), (200, 400), (400, 600), (600, 800)]
    assert [s.recipe.options["stage"] for s in stages] == [0, 1, 2, 3]
    rate = build_optimizer(stages[1].recipe, 10)._learning_rate
    found = [float(rate(step)) for step in (0, 699, 701, 801)]
    assert found == pytest.approx([0.0225, 0.0225, 0.01125, 0.005625])


def test_stages_are_checked_scaled_and_kept_by_a_config():
    base = recipe("digits-0.1-ibp", stages=[{"epochs": 3, "decay_epochs": [1, 2]}, {"l1": 1e-3}])
    assert Recipe.from_config(json.loads(json.dumps(base.to_config()))) == base
    ends = [(s.end, s.recipe.l1, s.recipe.decay_epochs) for s in base.in_stages()]
    assert ends == [(3, 0.0, (1, 2)), (63, 1e-3, (45, 55))]
    assert base.scaled(120).stages[0] == {"epochs": 6, "decay_epochs": (2, 4)}
    assert base.changed(method="taps").stages == ()
    assert [s.recipe for s in recipe("digits-0.1-ibp").in_stages()] == [recipe("digits-0.1-ibp")]
    for stages, message in (
        ({"epochs": 3}, "`stages` must be a list"),
        ([{"eps": 0.2}], r"`stages` must change nothing but train_eps, .*Received: 'eps'"),
        ([{"stage": 1}], "Received: 'stage'"),
        ([{"epochs": 0}], "`epochs` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe("digits-0.1-ibp", stages=stages)
    with pytest.raises(ValueError, match="`early_stopping` must be 0 where there are `stages`"):
        base.changed(early_stopping=2)


def test_sortnet():
    """As the authors' code has it: `--epochs 0,0,100,1450,1500`, lam from lam0 to lam0 / 100."""
    plain, mlp = recipe("mnist-0.1-sortnet"), recipe("cifar10-2/255-sortnet-mlp")
    assert (plain.annealed_epoch, plain.epochs, plain.train_eps) == (1450, 1500, 0.3)
    assert plain.network_options == {"depth": 5, "keep": 0.7, "pass_on": 10.0}
    assert (mlp.annealed_epoch, mlp.epochs, mlp.train_eps) == (2950, 3000, 2.2 / 255)
    assert (mlp.network, mlp.network_options["depth"]) == ("sortnet_mlp", 7)
    assert mlp.options["eps_share"] * 2950 == pytest.approx(500)
    for entry in (plain, mlp):
        assert (entry.width, entry.batch_size, entry.learning_rate) == (5120, 512, 0.02)
        options = entry.options
        assert options["final_clean_weight"] == pytest.approx(options["clean_weight"] / 100)
        optimizer = build_model(entry.changed(width=4), 10, 0).optimizer
        assert (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.99)
        assert (optimizer.epsilon, optimizer.weight_decay) == (1e-10, 0.02)
        assert float(optimizer._learning_rate(entry.epochs * 10)) == pytest.approx(0, abs=1e-9)


def test_a_cosine_and_adamw():
    options = {"weight_decay": 0.02, "epsilon": 1e-10}
    chosen = recipe("digits-0.1-ibp", optimizer="adamw", optimizer_options=options, cosine=True)
    optimizer = build_optimizer(chosen, 10)
    assert (optimizer.weight_decay, optimizer.epsilon) == (0.02, 1e-10)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 300, 600)]
    assert rates == pytest.approx([2e-3, 1e-3, 0], abs=1e-9)


def test_scaling_shrinks_every_time():
    scaled = recipe("mnist-0.1-ibp").scaled(7)
    assert (scaled.epochs, scaled.anneal_epochs, scaled.decay_epochs) == (7, 2.0, (5.0, 6.0))


def test_changes():
    assert recipe("digits-0.1-ibp", epochs=3).epochs == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recipe("mnist-0.1-tap"), "Did you mean 'mnist-0.1-taps'"),
        (lambda: recipe("digits-0.1-ibp", epoch=3), "Did you mean 'epochs'"),
        (lambda: recipe("digits-0.1-ibp", epochs=0), "`epochs` must be a whole number >= 1"),
        (lambda: recipe("digits-0.1-ibp", eps=8), "Received: eps=8"),
        (lambda: recipe("digits-0.1-ibp", method="trades"), "Received: method='trades'"),
        (lambda: recipe("digits-0.1-ibp", dataset="mnits"), "Did you mean 'mnist'"),
        (lambda: recipe("digits-0.1-ibp").scaled(0), "`epochs`"),
        (lambda: recipe("digits-0.1-sabr", tau_rate=0.1), "Did you mean 'tau_ratio'"),
        (lambda: recipe("digits-0.1-ibp", tau_ratio=0.1), "Received: 'tau_ratio'"),
        (lambda: recipe("digits-0.1-ibp", options={"c": 1}), "Received: 'options'"),
        (lambda: recipe("digits-0.1-ibp", decay_epochs=5), "`decay_epochs` must be a list"),
        (lambda: recipe("digits-0.1-ibp", decay_epochs=["a", 1]), "Received: decay_epochs='a'"),
        (lambda: recipe("digits-0.1-ibp", decay_epochs=[3, 2]), "ascending order"),
        (lambda: recipe("digits-0.1-ibp", decay_epochs=[-3, 2]), "Received: decay_epochs=-3"),
        (lambda: recipe("digits-0.1-ibp", method=[1]), "Received: method="),
        (lambda: recipe("digits-0.1-ibp", dataset=[1]), "Received: dataset="),
        (lambda: recipe("digits-0.1-ibp").changed(source=5), "Received: source=5"),
        (lambda: recipe("digits-0.1-ibp", learning_rate=float("inf")), "learning_rate=inf"),
        (lambda: recipe("digits-0.1-ibp", eps="1e400"), "Received: eps='1e400'"),
        (lambda: recipe("digits-0.1-ibp", validation=1), "Received: validation=1"),
        (lambda: recipe("digits-0.1-ibp", validation=0, ema_momentum=0.9), "needs validation"),
        (lambda: recipe("digits-0.1-ibp", swa_start=60), "`swa_start` must be below"),
        (lambda: recipe("digits-0.1-ibp", swa_start=9, ema_momentum=0.9), "one average"),
        (lambda: recipe("digits-0.1-ibp", validation=0, early_stopping=3), "needs validation"),
        (lambda: recipe("digits-0.1-ibp", augment="no"), "Received: augment='no'"),
        (lambda: recipe("digits-0.1-ibp", eps="2/0"), "Received: eps='2/0'"),
        (lambda: recipe("digits-0.1-ibp", optimizer="lion"), "Received: optimizer='lion'"),
        (lambda: recipe("digits-0.1-ibp", anneal_shape="cubic"), "anneal_shape='cubic'"),
        (lambda: recipe("digits-0.1-ibp", clipnorm=0), "Received: clipnorm=0"),
        (lambda: recipe("digits-0.1-ibp", l1_per_layer="no"), "l1_per_layer='no'"),
        (lambda: recipe("digits-0.1-ibp", decay_epochs=(), decay_every=2), "needs `decay_epochs`"),
        (
            lambda: build_optimizer(recipe("digits-0.1-ibp", optimizer_options={"beta": 1}), 1),
            "`optimizer_options` does not fit adam",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match="(?s).*" + message.replace("(", r"\(").replace("`", "`")):
        call()


def test_another_method_keeps_what_it_takes():
    changed = recipe("digits-0.1-staps", method="sabr")
    assert changed.options == {"tau_ratio": 0.4}
    assert recipe("digits-0.1-ibp", method="sabr", tau_ratio=0.2).options == {"tau_ratio": 0.2}


def test_what_is_set_is_final():
    """Scaling comes first: 5 epochs with a ramp of 4 is a ramp of 4."""
    found = find_recipe("mnist-0.1-taps", epochs=5, changes={"anneal_epochs": 4})
    assert (found.epochs, found.anneal_epochs) == (5, 4)
    assert found.decay_epochs == tuple(5 / 70 * e for e in recipe("mnist-0.1-taps").decay_epochs)


def test_doubts_before_training():
    usual = recipe("mnist-0.1-taps")
    assert not usual.doubts(188)
    assert "grows within 20 steps" in usual.doubts(1)[0]
    assert "never stays at train_eps" in usual.changed(anneal_epochs=70).doubts(188)[0]
    short = usual.changed(epochs=30).doubts(188)
    assert "does not fall at epoch 50 and 60" in short[0]

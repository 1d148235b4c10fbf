"""The named recipes: the settings of the paper and of its successors, and small ones for a CPU.

It is one table, and so one long file.
"""

from collections.abc import Mapping
from typing import Any

from keras_taps.experiments.recipe import Recipe, unknown
from keras_taps.experiments.recipe_file import is_recipe_file, read_recipe

# The five settings of the paper, in the order of every tuple below.
_SETTINGS = (
    ("mnist-0.1", "mnist", 0.1, 0.2),
    ("mnist-0.3", "mnist", 0.3, 0.4),
    ("cifar10-2/255", "cifar10", 2 / 255, 2 / 255),
    ("cifar10-8/255", "cifar10", 8 / 255, 8 / 255),
    ("tiny_imagenet-1/255", "tiny_imagenet", 1 / 255, 1 / 255),
)
# Table 5 as the authors' scripts run it: on CIFAR-10 and TinyImageNet one epoch at radius 0 comes
# first, which on CIFAR-10 is added to all times. Their warm-up weight and stride for TinyImageNet.
_SCHEDULES = {
    "mnist": {"batch_size": 256, "epochs": 70, "anneal_epochs": 20, "decay_epochs": (50, 60)},
    "cifar10": {
        "batch_size": 128,
        "epochs": 161,
        "anneal_start_epoch": 1,
        "anneal_epochs": 80,
        "decay_epochs": (121, 141),
    },
    "tiny_imagenet": {
        "batch_size": 128,
        "epochs": 80,
        "anneal_start_epoch": 1,
        "anneal_epochs": 20,
        "decay_epochs": (60, 70),
        "warmup_weight": 0.2,
        "network_options": {"last_stride": 2},
    },
}
_SCHEDULE = "schedule of Mao et al. 2023, Table 5, times and train eps of the authors' scripts"
_EXPRESSIVE = (
    "De Palma et al. 2024, L1 and the times at CIFAR-10 8/255 and TinyImageNet of their code; else "
    f"{_SCHEDULE}"
)
_LONG_STEP = {"pgd_steps": 1, "pgd_step_size": 10.0}
_WIDE_ATTACK = {"pgd_steps": 8, "pgd_step_size": 0.25, "pgd_radius": 2.1}
_LONGER = {
    "cifar10-8/255": {"epochs": 260, "decay_epochs": (180, 220)},
    "tiny_imagenet-1/255": {"epochs": 160, "anneal_epochs": 80, "decay_epochs": (120, 140)},
}


def _columns(**fields):
    """Five dictionaries from fields with five values, or one value for all."""
    wide = {k: v if isinstance(v, tuple) else (v,) * 5 for k, v in fields.items()}
    return tuple({k: v[i] for k, v in wide.items()} for i in range(5))


# Method: (source, what it sets in each of the five settings; None where nothing is published).
# gradient_scale is (w + 1) / 2, the length of the gradient in the authors' code.
_PUBLISHED = {
    "ibp": (f"IBP; {_SCHEDULE}", _columns()),
    "crown-ibp": (f"Zhang et al. 2020; {_SCHEDULE}", _columns()),
    "sabr": (
        f"Müller et al. 2023; {_SCHEDULE}",
        _columns(
            tau_ratio=(0.4, 0.6, 0.1, 0.7, 0.4),
            l1=(1e-5, 1e-6, 1e-6, 0.0, 1e-6),
            relu_shrinkage=(1.0, 1.0, 0.8, 1.0, 1.0),
        ),
    ),
    "taps": (
        "Mao et al. 2023, Tables 5 and 6; times and train eps of the authors' scripts",
        _columns(
            classifier_relus=(3, 1, 5, 1, 1),
            l1=(1e-6, 0.0, 2e-6, 2e-6, 0.0),
            w_taps=5.0,
            gradient_scale=3.0,
        ),
    ),
    "staps": (
        "Mao et al. 2023, Tables 5 and 8; times and train eps of the authors' scripts",
        _columns(
            classifier_relus=(1, 1, 1, 1, 2),
            l1=(2e-5, 2e-6, 2e-6, 2e-6, 1e-6),
            w_taps=(5.0, 5.0, 2.0, 5.0, 5.0),
            gradient_scale=(3.0, 3.0, 1.5, 3.0, 3.0),
            tau_ratio=(0.4, 0.6, 0.1, 0.7, 0.6),
            relu_shrinkage=(1.0, 1.0, 0.8, 1.0, 1.0),
        ),
    ),
    "cc-ibp": (
        _EXPRESSIVE,
        _columns(alpha=(0.1, 0.3, 0.01, 0.5, 0.01), l1=(2e-6, 3e-6, 3e-6, 0.0, 5e-5)),
    ),
    "mtl-ibp": (
        _EXPRESSIVE,
        _columns(alpha=(0.01, 0.08, 0.004, 0.5, 0.01), l1=(1e-5, 1e-6, 3e-6, 1e-7, 5e-5)),
    ),
    "exp-ibp": (
        _EXPRESSIVE,
        (None, None, *_columns(alpha=(0, 0, 0.095, 0.5, 0.04), l1=(0, 0, 4e-6, 0.0, 5e-5))[2:]),
    ),
}


def _published():
    for method, (source, columns) in _PUBLISHED.items():
        for (name, dataset, eps, train_eps), own in zip(_SETTINGS, columns, strict=True):
            if own is None:
                continue
            if "alpha" in own:
                attack = _WIDE_ATTACK if name == "cifar10-2/255" else _LONG_STEP
                own = {**attack, **_LONGER.get(name, {}), "l1_per_layer": False, **own}
            recipe = Recipe(f"{name}-{method}", source, dataset, method, eps, train_eps)
            yield recipe.changed(**{**_SCHEDULES[dataset], **own})


# Trained by momentum on networks without batch normalisation, the last weights kept.
_MOMENTUM = {
    "optimizer": "sgd",
    "optimizer_options": {"momentum": 0.9},
    "clipnorm": None,
    "warmup_weight": 0.0,
    "anneal_shape": "linear",
    "l1_per_layer": False,
    "validation": 0,
}
_BIG = {"network": "conv_med_big", "network_options": {"w1": 2, "w2": 2, "w3": 4, "units": 250}}
_MED = {"network": "conv_med", "network_options": {"w1": 2, "w2": 4, "units": 250}}


def _ibp_r():
    source = "De Palma et al. 2022, their code; the augmentation is this package's for CIFAR-10"
    schedule = {
        "epochs": 800,
        "anneal_epochs": 600,
        "decay_epochs": (600,),
        "decay_every": 1,
        "decay": 0.95,
        "learning_rate": 1e-2,
    }
    settings = (
        (2, 2.1, {**_BIG, "batch_size": 100, "l1": 2e-5, "stability": 1e-4}),
        (8, 1.7, {**_MED, "batch_size": 150, "l1": 1e-5, "stability": 5e-3, "mask": "clean"}),
    )
    for pixels, alpha, own in settings:
        eps = pixels / 255
        recipe = Recipe(f"cifar10-{pixels}/255-ibp-r", source, "cifar10", "ibp-r", eps, alpha * eps)
        yield recipe.changed(width=16, **_MOMENTUM, **schedule, **own)


def _colt_stages(eps, count, factor, rate, rate_factor, stability):
    """Stages of COLT: the radius shrinks to 1.05 eps; in the last no ReLU is left to press."""
    return [
        {
            "stage": stage,
            "train_eps": 1.05 * eps * factor ** (count - 1 - stage),
            "learning_rate": rate * rate_factor**stage,
            "stability": stability * 1.5**stage if stage < count - 1 else 0.0,
        }
        for stage in range(count)
    ]


def _colt():
    source = "Balunovic and Vechev 2020, their code; the augmentation is this package's"
    unknown = "Balunovic and Vechev 2020; on MNIST only networks are published, the rest is theirs "
    unknown += "for CIFAR-10 8/255"
    schedule = {"epochs": 200, "anneal_epochs": 60, "decay_epochs": (70,), "decay_every": 10}
    large = {**_MED, "batch_size": 150, "l1": 5e-6}
    slender = {**large, "network_options": {"w1": 2, "w2": 2, "units": 100}}
    settings = (
        ("mnist-0.1", 0.1, slender, (3, 1.2, 0.03, 0.5, 3e-3), unknown),
        ("mnist-0.3", 0.3, large, (3, 1.2, 0.03, 0.5, 3e-3), unknown),
        (
            *("cifar10-2/255", 2 / 255, {**_BIG, "batch_size": 100, "l1": 1e-5}),
            *((4, 1.1, 0.03, 0.75, 5e-3), source),
        ),
        ("cifar10-8/255", 8 / 255, large, (3, 1.2, 0.03, 0.5, 3e-3), source),
    )
    for name, eps, own, stages, origin in settings:
        dataset = name.partition("-")[0]
        yield Recipe(f"{name}-colt", origin, dataset, "colt", eps, 1.05 * eps).changed(
            width=16,
            **_MOMENTUM,
            **schedule,
            decay=0.5,
            **own,
            projections=50,
            stages=_colt_stages(eps, *stages),
        )


def _small_colt():
    source = "this package: two stages on CNN3, together as long as other small recipes"
    digits = {"epochs": 30, "anneal_epochs": 10, "decay_epochs": (20, 25), "batch_size": 64}
    images = {"epochs": 5, "anneal_epochs": 2, "decay_epochs": (3.5, 4.5), "l1": 1e-6}
    settings = (
        ("digits-0.1-colt", "digits", digits),
        ("mnist-0.1-cnn3-colt", "mnist", images),
        ("fashion_mnist-0.1-cnn3-colt", "fashion_mnist", images),
    )
    for name, dataset, schedule in settings:
        yield Recipe(name, source, dataset, "colt", 0.1, 0.105, **_SMALL).changed(
            **_MOMENTUM, **schedule, stages=_colt_stages(0.1, 2, 1.2, 0.03, 0.5, 3e-3)
        )


# Norms that grow into maxima, by AdamW with a cosine; the published networks have 5120 neurons a
# layer. That of TinyImageNet has distance convolutions, which are not here.
_NORMS = {
    "optimizer": "adamw",
    "optimizer_options": {"beta_2": 0.99, "epsilon": 1e-10, "weight_decay": 0.02},
    "learning_rate": 0.02,
    "cosine": True,
    "decay_epochs": (),
    "clipnorm": None,
    "warmup_weight": 0.0,
    "validation": 0,
    "bn_reestimation": True,
}


def _sortnet():
    source = "Zhang et al. 2022 (SortNet), their code; the augmentation is this package's"
    mnist = {"epochs": 1500, "anneal_start_epoch": 100, "anneal_epochs": 1350}
    cifar = {"epochs": 3000, "anneal_start_epoch": 200, "anneal_epochs": 2750}
    grown = 500 / 2950  # of the epochs up to the end of the ramp
    settings = (  # name, train eps, clean weight, layers, keep, neurons that pass on, MLP
        ("mnist-0.1", 0.3, 0.1, 5, 0.7, 10.0, False),
        ("mnist-0.3", 0.45, 0.02, 5, 0.75, 10.0, False),
        ("cifar10-2/255", 8 / 255, 1.0, 6, 0.75, None, False),
        ("cifar10-8/255", 24 / 255, 0.2, 6, 0.85, None, False),
        ("cifar10-2/255", 2.2 / 255, 1.0, 7, 0.7, None, True),
        ("cifar10-8/255", 8.8 / 255, 1.0, 7, 0.6, None, True),
    )
    for name, train_eps, weight, depth, keep, pass_on, mlp in settings:
        dataset, _, eps = name.partition("-")
        title = f"{name}-sortnet{'-mlp' * mlp}"
        yield Recipe(title, source, dataset, "sortnet", eps, train_eps).changed(
            **_NORMS,
            **(mnist if dataset == "mnist" else cifar),
            network="sortnet_mlp" if mlp else "distance_net",
            network_options={"depth": depth, "keep": keep, "pass_on": pass_on},
            width=5120,
            batch_size=512,
            clean_weight=weight,
            final_clean_weight=weight / 100,
            eps_share=grown if mlp else 0.0,
        )


def _small_sortnet():
    source = "this package: more epochs than for other methods, which it needs"
    images = {"width": 64, "batch_size": 128, "epochs": 24, "anneal_epochs": 20}
    digits = {"width": 128, "batch_size": 64, "epochs": 60, "anneal_epochs": 50}
    settings = (
        ("digits-0.1-sortnet", "digits", 0.15, digits),
        ("mnist-0.1-dist64-sortnet", "mnist", 0.2, images),
        ("fashion_mnist-0.1-dist64-sortnet", "fashion_mnist", 0.2, images),
    )
    for name, dataset, train_eps, schedule in settings:
        yield Recipe(name, source, dataset, "sortnet", 0.1, train_eps).changed(
            **{**_NORMS, "validation": 0.1},
            **schedule,
            network="distance_net",
            network_options={"depth": 4},
            clean_weight=1.0,
            final_clean_weight=0.01,
        )


_LATENT = {"attack_steps": 8, "gradient_scale": 3.0}
_SMALL_OPTIONS = {
    "standard": {},
    "pgd": {},
    "ibp": {},
    "crown-ibp": {},
    "diffai": {"anneal_shape": "linear", "warmup_weight": 0.0},
    "sabr": {"tau_ratio": 0.4},
    "taps": _LATENT,
    "staps": {**_LATENT, "tau_ratio": 0.4},
    "cc-ibp": {"alpha": 0.1},
    "mtl-ibp": {"alpha": 0.01},
    "exp-ibp": {"alpha": 0.1},
    "ibp-r": {"stability": 1e-3, "train_eps": 0.15, "warmup_weight": 0.0},
}
_SMALL = {"network": "cnn3", "width": 16}
_TEN_EPOCHS = {"epochs": 10, "anneal_epochs": 2, "decay_epochs": (7, 8.5), "l1": 1e-6}
_QUICK = {
    "epochs": 60,
    "anneal_epochs": 20,
    "decay_epochs": (45, 55),
    "batch_size": 64,
    "learning_rate": 2e-3,
}


def _small():
    settings = (
        ("digits-0.1", "digits", "this package: the quick start and its kin", _QUICK),
        ("mnist-0.1-cnn3", "mnist", "this package: ten epochs on two CPU cores", _TEN_EPOCHS),
        (
            "fashion_mnist-0.1-cnn3",
            "fashion_mnist",
            "this package: ten epochs on two CPU cores",
            _TEN_EPOCHS,
        ),
    )
    for name, dataset, source, schedule in settings:
        for method, options in _SMALL_OPTIONS.items():
            recipe = Recipe(f"{name}-{method}", source, dataset, method, 0.1, 0.1)
            yield recipe.changed(**_SMALL, **schedule, **options)


def _zonotope():
    changes = {"name": "digits-0.1-diffai-hbox", "abstraction": "hbox"}
    (box,) = (recipe for recipe in _small() if recipe.name == "digits-0.1-diffai")
    yield box.changed(**changes)


def _convex():
    straight = "radius in a straight line and no regulariser as Wong and Kolter 2018"
    own = {"clipnorm": None, "warmup_weight": 0.0, "anneal_shape": "linear", "learning_rate": 1e-3}
    # Exact bounds of as many images as a validation has would cost more than an epoch.
    images = {**_SMALL, **_TEN_EPOCHS, "projections": 50, "validation": 0}
    settings = (
        ("digits-0.1-convex", "digits", {**_SMALL, **_QUICK}),
        ("mnist-0.1-cnn3-convex", "mnist", images),
        ("fashion_mnist-0.1-cnn3-convex", "fashion_mnist", images),
    )
    for name, dataset, changes in settings:
        recipe = Recipe(name, f"this package; {straight}", dataset, "convex", 0.1, 0.1)
        yield recipe.changed(**{**changes, **own})
    source = "Wong et al. 2018, their code for the small network; first kernel and start of the "
    source += "radius are this package's (5 x 5 for 4 x 4, 0 for 0.01)"
    yield Recipe("mnist-0.1-convex", source, "mnist", "convex", 0.1, 0.1).changed(
        **own,
        network="conv_med",
        network_options={"units": 100},
        width=16,
        batch_size=50,
        epochs=60,
        decay_epochs=(30, 40, 50),
        decay=0.5,
        validation=0,
        projections=50,
    )


_EVERY = (
    *(*_small(), *_zonotope(), *_small_colt(), *_convex(), *_small_sortnet()),
    *(*_published(), *_ibp_r(), *_colt(), *_sortnet()),
)
RECIPES = {recipe.name: recipe for recipe in _EVERY}


def recipe(name: str, **changes: Any) -> Recipe:
    """A recipe by name, with fields changed.

    Args:
        name: One of `RECIPES`.
        **changes: Fields of `Recipe` to replace, or options of its method.

    Returns:
        `Recipe`.

    Raises:
        ValueError: If there is no such recipe or field; the message suggests the nearest name.

    Example:

    >>> recipe("mnist-0.1-taps", epochs=2).epochs
    2
    """
    if name not in RECIPES:
        hint = " `keras-taps recipes` lists them; a file ends in .yaml or .toml."
        raise ValueError(unknown("recipe", name, RECIPES) + hint)
    return RECIPES[name].changed(**changes)


def find_recipe(
    name: str, epochs: int | None = None, changes: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe by name, or from a YAML or TOML file of the user's, scaled and then changed.

    Args:
        name: Name of a recipe or a file.
        epochs: Scale its times to this many epochs, or `None`.
        changes: Dictionary of fields and options, whose values are final: nothing scales them.
    """
    found = read_recipe(name, RECIPES) if is_recipe_file(name) else recipe(name)
    found = found if epochs is None else found.scaled(epochs)
    return found.changed(**(changes or {}))

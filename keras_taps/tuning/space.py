"""What can be searched, as data: each dimension with its range, and the space of a method."""

import contextlib
import math
from dataclasses import dataclass

import numpy as np

from keras_taps.checks import check_choice, check_real
from keras_taps.choices import DIMENSIONS
from keras_taps.domain import Domain, plain
from keras_taps.experiments.recipe import method_options, unknown
from keras_taps.training import METHODS


@dataclass(frozen=True)
class Range:
    """An interval to search.

    Args:
        low: Smallest value, positive if `scale` is 'log'.
        high: Largest value, above `low`.
        scale: 'linear' or 'log'.
        whole: Whether only whole numbers count.

    Raises:
        ValueError: If the interval is empty or has no logarithm.

    Example:

    >>> Range(1, 20, "log")
    Range(low=1, high=20, scale='log', whole=False)
    """

    low: float
    high: float
    scale: str = "linear"
    whole: bool = False

    def __post_init__(self):
        for end in (self.low, self.high):
            check_real("range", end, -math.inf, math.inf)
        check_choice("scale", self.scale, ("linear", "log"))
        positive = self.low > 0 or self.scale == "linear"
        if not (self.low < self.high < math.inf and positive and math.isfinite(self.low)):
            raise ValueError(
                "A range must have finite ends, low < high, and 0 < low on a log scale. "
                f"Received: low={self.low}, high={self.high}, scale={self.scale!r}"
            )
        if self.whole and any(end != round(end) for end in (self.low, self.high)):
            raise ValueError(
                f"A range of whole numbers must have whole ends. Received: {self.low}, {self.high}"
            )


# Ranges where nothing else is said. They hold the published settings of every method.
RANGES = {
    "w_taps": Range(0.5, 20, "log"),
    "c": Range(0, 1),
    "attack_steps": Range(1, 20, "log", whole=True),
    "attack_step_size": Range(0.1, 1),
    "tau_ratio": Range(0.02, 1, "log"),
    "alpha": Range(0.001, 1, "log"),
    "stability": Range(1e-5, 1e-2, "log"),
    "final_crown_weight": Range(0, 1),
    "bound_weight": Range(0, 1),
    "box_share": Range(0, 1),
    "pgd_steps": Range(1, 10, "log", whole=True),
    "pgd_step_size": Range(0.1, 10, "log"),
    "pgd_radius": Range(1, 3),
    "train_eps_factor": Range(1, 2.5),
    "l1": Range(1e-8, 1e-4, "log"),
    "warmup_weight": Range(0, 1),
    "robust_weight": Range(0.5, 1),
    "smoothing_std": Range(0, 0.1),
    "anneal_share": Range(0.1, 0.75),
    "learning_rate": Range(1e-4, 2e-2, "log"),
    "decay": Range(0.1, 0.5),
    "decay_share": Range(0.5, 0.95),
}
# All methods but one whose networks have no split, at which trials are compared, and one in stages.
TUNED = tuple(method for method in METHODS if method not in ("sortnet", "colt"))
SPLIT = "classifier_relus"  # its values are those of the network
# After the split: without a ReLU there, TAPS is IBP and these change nothing.
LATENT = ("w_taps", "c", "attack_steps", "attack_step_size")
# What makes a method what it is, searched where nothing else is said.
_OWN = (
    *(SPLIT, "w_taps", "tau_ratio", "alpha", "stability"),
    *("final_crown_weight", "bound_weight", "box_share"),
)
_RADIUS = "train_eps_factor"  # one of their own for methods that take ReLU boxes of it
_COMMON = ("train_eps_factor", "l1")  # of methods without anything of their own
_IDLE = {  # methods that propagate no box
    "standard": ("train_eps_factor", "anneal_share", "warmup_weight", "robust_weight"),
    "pgd": ("warmup_weight",),
}


def takes(method, name):
    """Whether a dimension changes the training by a method."""
    options = method_options(method)
    if name == SPLIT:
        return "w_taps" in options
    if name in (*LATENT, *_OWN) or name.startswith("pgd_"):
        return name in options
    return name not in _IDLE.get(method, ())


def default_search(methods):
    """Names of the dimensions that are searched for these methods by default.

    Example:

    >>> default_search(["staps"])
    ('classifier_relus', 'w_taps', 'tau_ratio')
    >>> default_search(["ibp-r"])
    ('stability', 'train_eps_factor')
    >>> default_search(["ibp"])
    ('train_eps_factor', 'l1')
    """

    def taken(names):
        return tuple(name for name in names if any(takes(method, name) for method in methods))

    own = taken(_OWN)
    return (*own, *([_RADIUS] if "stability" in own else [])) or taken(_COMMON)


def search_space(search, methods, splits):
    """Checked search space: a `Range` or a list of values for each dimension.

    Args:
        search: Names of `DIMENSIONS`, or a dictionary from names to `None` (its usual range),
            `(low, high)`, a `Range` or a list of values; `None` for the methods' own dimensions.
        methods: Names of methods.
        splits: Legal values of `classifier_relus`.

    Returns:
        Dictionary in the order of `DIMENSIONS`: a condition must come before what it decides.

    Raises:
        ValueError: For an unknown dimension, one that no method takes, or a value it cannot have.

    Example:

    >>> search_space({"w_taps": (1, 10), "classifier_relus": None}, ["taps"], (0, 1, 2))
    {'classifier_relus': [0, 1, 2], 'w_taps': Range(low=1, high=10, scale='log', whole=False)}
    """
    if search is None:
        search = default_search(methods)
    if isinstance(search, str):
        search = [search]
    wanted = dict(search) if isinstance(search, dict) else dict.fromkeys(search)
    for name in wanted:
        if name not in DIMENSIONS:
            raise ValueError(unknown("dimension of the search", name, DIMENSIONS))
        if not any(takes(method, name) for method in methods):
            raise ValueError(
                f"`{name}` changes nothing in the training by {', '.join(methods)}, so there is "
                f"nothing to search. Received: search={list(wanted)}"
            )
    if not wanted:
        raise ValueError(
            f"`search` must name a dimension. Accepted: {', '.join(DIMENSIONS)}. Received: none"
        )
    names = [name for name in DIMENSIONS if name in wanted]
    return {name: dimension_values(name, wanted[name], splits) for name in names}


def dimension_values(name, given, splits=()):
    """The `Range` or list of values that a user's words for one dimension mean.

    Args:
        name: One of `DIMENSIONS`.
        given: As `search_space` takes them.
        splits: Legal values of `classifier_relus`.

    Raises:
        ValueError: If they are neither, or a split is not legal.
    """
    usual = RANGES.get(name)
    if given is None:
        return usual or list(splits)
    if isinstance(given, dict):
        return Range(**given)
    if isinstance(given, Range):
        return given
    if isinstance(given, tuple) and len(given) == 2 and usual:
        return Range(*given, usual.scale if given[0] > 0 else "linear", usual.whole)
    values = list(given) if isinstance(given, (list, tuple)) else []
    if not values or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        raise ValueError(
            f"`search` must give `{name}` as (low, high), a Range or a list of numbers. "
            f"Received: {given!r}"
        )
    if name == SPLIT:
        return [check_choice(name, value, splits) for value in values]
    # KerasTuner takes values of one type.
    whole = all(value == round(value) for value in values if math.isfinite(value))
    return [int(v) if usual.whole and whole else float(v) for v in values]


def declare(hp, space, methods):
    """Declare a search space to KerasTuner and read its present values.

    A dimension exists only under the methods that take it, and those of the latent attack only
    with a ReLU after the split.

    Args:
        hp: `keras_tuner.HyperParameters`.
        space: What `search_space` returns.
        methods: Names of methods; several make the method a choice.

    Returns:
        Dictionary of the active values, with `method`.
    """
    method = hp.Choice("method", list(methods)) if len(methods) > 1 else None
    values = {"method": method or hp.Fixed("method", methods[0])}
    for name, found in space.items():
        with contextlib.ExitStack() as scopes:
            takers = [method for method in methods if takes(method, name)]
            if len(takers) < len(methods):
                scopes.enter_context(hp.conditional_scope("method", takers))
            if name in LATENT and 0 in space.get(SPLIT, ()):
                after = [split for split in space[SPLIT] if split]
                scopes.enter_context(hp.conditional_scope(SPLIT, after))
            value = _declare(hp, name, found)
        if value is not None:  # None: not active
            values[name] = value
    return values


def _declare(hp, name, values):
    if not isinstance(values, Range):
        return hp.Choice(name, values)
    kind = hp.Int if values.whole else hp.Float
    return kind(name, values.low, values.high, sampling=values.scale)


def recipe_changes(recipe, values):
    """What `Recipe.changed` makes of the values of a trial.

    Factors and shares become radii and epochs, so that they hold for every recipe and, under
    Hyperband, for every number of epochs.

    Args:
        recipe: `Recipe`, scaled to the epochs of the trial.
        values: Dictionary, as `declare` returns.

    Example:

    >>> recipe_changes(recipe("mnist-0.1-taps"), {"train_eps_factor": 2, "anneal_share": 0.5})
    {'train_eps': 0.2, 'anneal_epochs': 35.0}
    """
    changes = dict(values)
    factor = changes.pop("train_eps_factor", None)
    if factor is not None:
        most = Domain.of(recipe.domain).width
        changes["train_eps"] = plain(np.minimum(factor * np.asarray(recipe.eps), most))
    share = changes.pop("anneal_share", None)
    if share is not None:
        changes["anneal_epochs"] = share * recipe.epochs
    share = changes.pop("decay_share", None)
    if share is not None:
        changes["decay_epochs"] = _decays(recipe, share * recipe.epochs)
    return changes


def _decays(recipe, first):
    """The decays of a recipe with the first at `first`; the others keep their place after it."""
    old = recipe.decay_epochs[:1] or (first,)
    left = recipe.epochs - old[0]
    shares = [(epoch - old[0]) / left if left > 0 else 0 for epoch in recipe.decay_epochs or old]
    return tuple(first + share * (recipe.epochs - first) for share in shares)

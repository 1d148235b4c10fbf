"""Recipes in stages: what a stage may change, and times that are stretched."""

from typing import Any, NamedTuple

TIMES = (
    *("epochs", "anneal_epochs", "anneal_start_epoch"),
    *("decay_epochs", "decay_every", "swa_start"),
)
CHANGED = ("train_eps", "learning_rate", "decay", "cosine", "l1", "warmup_weight", *TIMES)


class Stage(NamedTuple):
    """A part of a run.

    Args:
        begin: Epochs of the run before it.
        end: Epochs of the run after it.
        recipe: `Recipe` of the stage, which has no stages.
    """

    begin: int
    end: int
    recipe: Any


def in_order(recipes):
    """List of `Stage`s that follow one another."""
    found, begin = [], 0
    for recipe in recipes:
        found.append(Stage(begin, begin + recipe.epochs, recipe))
        begin += recipe.epochs
    return found


def checked_stages(recipe, options):
    """The `stages` of a recipe as a tuple of dictionaries.

    Args:
        recipe: `Recipe`.
        options: Names of the options of its method.

    Raises:
        ValueError: If they are no list of dictionaries, a stage changes what is one for a run, or
            early stopping would end one.
    """
    stages = recipe.stages
    if not isinstance(stages, (list, tuple)) or not all(isinstance(s, dict) for s in stages):
        raise ValueError(
            "`stages` must be a list of what each stage changes, for instance "
            f"[{{epochs: 5}}, {{epochs: 10, train_eps: 0.2}}]. Received: stages={stages!r}"
        )
    accepted = (*CHANGED, *options)
    for name in dict.fromkeys(name for changes in stages for name in changes):
        if name not in accepted:
            raise ValueError(
                f"`stages` must change nothing but {', '.join(accepted)}. Received: {name!r}"
            )
    if stages and recipe.early_stopping:
        raise ValueError(
            "`early_stopping` must be 0 where there are `stages`, whose lengths are given. "
            f"Received: early_stopping={recipe.early_stopping}"
        )
    return tuple(
        {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}
        for changes in stages
    )


def stretched(times, share):
    """A dictionary with those of its values that are `TIMES` multiplied by `share`."""

    def stretch(name, value):
        if name == "epochs":
            return max(1, round(value * share))
        if name == "decay_epochs":
            return tuple(epoch * share for epoch in value)
        return value * share if name in TIMES else value

    return {name: stretch(name, value) for name, value in times.items()}

"""`keras-taps recipes`: the named settings."""

import typer
from rich import box
from rich.table import Table

from keras_taps.cli.backend import import_keras
from keras_taps.cli.output import console, print_json
from keras_taps.domain import radius_text

NAME = "recipes"


def run(
    name: str = typer.Argument(None, help="Show every field of this recipe."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """List the recipes, or show one.

    Example: `keras-taps recipes mnist-0.1-taps`
    """
    import_keras()
    from keras_taps.experiments.recipes import RECIPES, recipe

    if name is not None:
        fields = recipe(name).to_config()
        if as_json:
            print_json(fields)
            return
        for field, value in fields.items():
            console.print(f"{field:18} {value}")
        return
    if as_json:
        print_json({name: recipe.to_config() for name, recipe in RECIPES.items()})
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", no_wrap=True, min_width=max(map(len, RECIPES)))  # to be copied
    for column in ("network", "train eps", "epochs (ramp)", "options"):
        table.add_column(column, overflow="fold")
    for entry in RECIPES.values():
        network = f"{entry.network} w={entry.width}"
        epochs = f"{entry.in_stages()[-1].end} ({entry.anneal_epochs:g})"
        options = {"l1": entry.l1} if entry.l1 else {}
        if entry.stages:
            options["stages"] = len(entry.stages)
        if entry.classifier_relus is not None:
            options["classifier_relus"] = entry.classifier_relus
        options = ", ".join(f"{k} {_shown(v)}" for k, v in {**options, **entry.options}.items())
        table.add_row(entry.name, network, radius_text(entry.train_eps, 4), epochs, options)
    console.print(table)
    console.print("Sources and every field: keras-taps recipes NAME")


def _shown(value):
    """A number without needless digits, anything else as it is."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:g}" if number else str(value)

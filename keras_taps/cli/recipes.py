"""`keras-taps recipes`: the named settings."""

import typer
from rich.table import Table

from keras_taps.cli.output import console, print_json
from keras_taps.experiments.recipes import RECIPES, recipe

NAME = "recipes"


def run(
    name: str = typer.Argument(None, help="Show every field of this recipe."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """List the recipes, or show one.

    Example: `keras-taps recipes mnist-0.1-taps`
    """
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
    table = Table()
    for column in ("recipe", "network", "train eps", "epochs", "split", "source"):
        table.add_column(column, overflow="fold")
    for entry in RECIPES.values():
        network = f"{entry.network} w={entry.width}"
        split = str(entry.classifier_relus) if entry.method == "taps" else "-"
        epochs = f"{entry.epochs} ({entry.anneal_epochs:g} annealing)"
        table.add_row(entry.name, network, f"{entry.train_eps:g}", epochs, split, entry.source)
    console.print(table)

"""`keras-taps datasets`: what can be trained on, and what is on this machine."""

import typer
from rich.table import Table

from keras_taps.cli.backend import import_keras
from keras_taps.cli.output import console, print_json

NAME = "datasets"


def run(
    download: str = typer.Option(None, "--download", help="Download this data set with TFDS."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """List the data sets, or download one.

    Example: `keras-taps datasets --download mnist`
    """
    import_keras()
    from keras_taps.datasets import DATASETS, load

    if download is not None:
        data = load(download, data_dir, download=True)
        console.print(f"{download}: {len(data.train[0])} train, {len(data.test[0])} test images")
        return
    rows = [
        {
            "dataset": info.name,
            "shape": " x ".join(map(str, info.input_shape)),
            "classes": info.num_classes,
            "source": info.source,
        }
        for info in DATASETS.values()
    ]
    if as_json:
        print_json(rows)
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    console.print("Folder of TFDS data sets: --data-dir, else $TFDS_DATA_DIR.")

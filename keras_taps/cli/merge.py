"""`keras-taps merge`: the reports of shards as one."""

import shutil
from pathlib import Path

import typer

from keras_taps.cli.output import console, make_folder_of, print_json

NAME = "merge"


def run(
    out: Path = typer.Argument(..., help="Report to write."),
    reports: list[Path] = typer.Argument(..., help="Reports of `keras-taps certify --shard i/n`."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Join the reports of shards, with their certificates and counterexamples.

    Example: `keras-taps merge all.jsonl certification-0.1-shard-*.jsonl`
    """
    if out.exists():
        raise FileExistsError(f"'{out}' is there already. Choose another name for the whole.")
    from keras_taps.verification.certificate.report import Report, files_of, merge_reports

    shards = [Report.load(path) for path in reports]
    whole = merge_reports(shards)
    make_folder_of(out)
    folder = files_of(out)
    folder.mkdir(parents=True, exist_ok=True)
    for path in reports:
        for file in sorted(files_of(path).glob("*.npz")):
            shutil.copy2(file, folder / file.name)
    whole.save(out)  # last: a report that is there is whole
    if as_json:
        found = {"accuracies": whole.accuracies(), "stages": whole.stages()}
        print_json({"report": str(out), "header": whole.header, **found})
        return
    console.print(f"{out}\n{whole.summary()}", markup=False, soft_wrap=True)
    missing = missing_shards(shards)
    if missing:
        console.print(f"[yellow]Not the whole test set: without shards {', '.join(missing)}.[/]")


def missing_shards(shards):
    """Names "i/n" of the shards that were not given.

    Example:

    >>> missing_shards([Report({"shard": "1/3"}, []), Report({"shard": "3/3"}, [])])
    ['2/3']
    """
    given = {report.header.get("shard") for report in shards}
    counts = {name.partition("/")[2] for name in given if name}
    names = [f"{i}/{n}" for n in sorted(counts) for i in range(1, int(n) + 1)]
    return [name for name in names if name not in given]

"""`keras-taps reproduce`: tables and figures of the paper, ours beside the paper's."""

import importlib.util
import json
from pathlib import Path

import typer
from rich.table import Table

from keras_taps.checks import did_you_mean
from keras_taps.cli.backend import import_keras, switch_backend
from keras_taps.cli.bar import progress_bar
from keras_taps.cli.output import console, duration, print_json, stages

NAME = "reproduce"


def run(
    targets: list[str] = typer.Argument(
        ..., help="Names such as table2 or figure1; `list` shows them, `all` is all of them."
    ),
    scale: str = typer.Option("cpu", "--scale", help="full, cpu, or smoke to see that it runs."),
    seeds: str = typer.Option(
        None, "--seeds", help="Whole numbers with commas. Default: the target's, mostly 0."
    ),
    images: int = typer.Option(
        None, "--images", help="Test images that are certified, the first N. Default: the scale's."
    ),
    out: Path = typer.Option(
        Path("runs/reproduction"), "--out", help="Folder; each scale has its own in it."
    ),
    resume: bool = typer.Option(
        True, "--resume/--no-resume", help="Go on with what is there, or refuse it."
    ),
    backend: str = typer.Option(None, "--backend", help="tensorflow, jax or torch."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print the results as JSON only."),
):
    """Train, certify and draw tables and figures of the paper, beside the paper's numbers.

    Networks that several targets need are trained once; the same command resumes where it stopped.

    Examples: `keras-taps reproduce table2 --scale cpu`, `keras-taps reproduce list`,
    `keras-taps reproduce figure1 figure6 --scale full --images 1000 --seeds 0,1,2`
    """
    if importlib.util.find_spec("keras_taps.reproduction") is None:
        raise ValueError(
            "The paper's tables are no part of the installed package. They come with its sources: "
            "clone the repository, and run this there, after `pip install --editable .`"
        )
    switch_backend(backend)
    import_keras()
    from keras_taps.reproduction import SCALES, TARGETS, Workshop, reproduce
    from keras_taps.reproduction.targets import ALIASES

    if scale not in SCALES:
        raise ValueError(f"--scale must be one of {', '.join(SCALES)}. Received: --scale {scale}")
    folder = out / scale
    if targets == ["list"]:
        show_list(TARGETS, ALIASES, SCALES[scale], folder, as_json)
        return
    names = list(TARGETS) if targets == ["all"] else [ALIASES.get(t, t) for t in targets]
    for name in names:
        if name not in TARGETS:
            known = [*TARGETS, *ALIASES, "all", "list"]
            raise ValueError(
                f"Unknown target. Accepted: {', '.join(known)}. Received: {name!r}."
                f"{did_you_mean(name, known)}"
            )
    if not resume and folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"'{folder}' is not empty. Choose another folder with --out, or leave out --no-resume."
        )
    chosen = parse_seeds(seeds)
    own = SCALES[scale] if images is None else SCALES[scale].with_images(images)
    workshop = Workshop(folder, own, data_dir, None if as_json else progress_shown())
    found, missing = {}, {}
    for name in dict.fromkeys(names):
        announce = None if as_json else lambda text: console.print(f"[bold]{text}[/]")
        try:
            found[name] = reproduce(TARGETS[name], workshop, chosen, announce)
            if found[name]["missing"]:
                missing[name] = next(iter(found[name]["missing"].values()))
        except FileNotFoundError as error:  # data that is not there; the others run
            if len(names) == 1:
                raise
            missing[name] = str(error)
            continue
        except KeyboardInterrupt:
            if not as_json:
                console.print("\nThe same command resumes from here.")
            raise
        if not as_json:
            show(TARGETS[name], found[name], folder / name)
    if as_json:
        print_json(next(iter(found.values())) if len(names) == 1 else found)
    if missing:
        raise FileNotFoundError(
            f"For want of data not or not wholly made: {', '.join(missing)}. "
            f"{next(iter(missing.values()))}"
        )


def parse_seeds(text):
    """List of seeds from text such as "0,1,2"; `None` stays `None`.

    Example:

    >>> parse_seeds("0, 2")
    [0, 2]
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"--seeds takes whole numbers with commas. Received: --seeds {text}")
    return list(dict.fromkeys(int(part) for part in parts))


def progress_shown():
    """What shows the progress of a `Workshop` on this console."""
    from keras_taps.cli.progress import training_progress

    return {
        "training": training_progress,
        "stages": stages,
        "images": lambda: progress_bar("images"),
    }


def show_list(targets, aliases, scale, folder, as_json):
    """Print the targets, what they need and what is there of them."""
    rows = []
    for name, target in targets.items():
        path = folder / name / "results.json"
        done = json.loads(path.read_text()) if path.exists() else {"records": [], "rows": None}
        count = sum(scale.recipe(row.recipe) is not None for row in target.rows)
        others = [other for other, own in aliases.items() if own == name]
        also = f" (also {', '.join(others)})" if others else ""
        rows.append(
            {
                "target": name,
                "title": target.title + also,
                "networks": count * len(target.seeds),
                "datasets": list(target.datasets),
                "done": f"{done.get('done', 0)}/{done['rows']}" if done["rows"] else "",
            }
        )
    if as_json:
        print_json(rows)
        return
    images = f"the first {scale.images}" if scale.images else "all"
    console.print(f"Scale {scale.name}: {scale.text} Of the test images, {images} are certified.")
    table = Table("target", "shows", "networks", "data", "done", pad_edge=False)
    for row in rows:
        row |= {"networks": str(row["networks"]), "datasets": ", ".join(row["datasets"])}
        table.add_row(*row.values())
    console.print(table)


def show(target, content, folder):
    """Print the results of a target beside the paper's."""
    from keras_taps.reproduction.tables import images_text, remarks, table_of, training_seconds
    from keras_taps.reproduction.trends import VERDICTS, trend_table

    title = f"{target.title} ({content['scale']} scale)"
    print_table(title, *narrow(*table_of(target, content)))
    if remark := remarks(content):
        console.print(remark, soft_wrap=True)
    if (found := trend_table(content))[1]:
        print_table("Does it hold here?", *found)
        console.print(VERDICTS, soft_wrap=True)
    console.print(content["scale_text"], soft_wrap=True)
    if content["left_out"]:
        console.print(f"Not at this scale: {'; '.join(content['left_out'])}", soft_wrap=True)
    for name, message in content["failed"].items():
        console.print(f"{name}: {message}", soft_wrap=True)
    seconds = duration(training_seconds(content))
    console.print(f"{images_text(content)}. Training took {seconds} in all.")
    names = "results.json, results.csv" + (", figure.png" if target.figure else "")
    console.print(f"In {folder}: {names}", soft_wrap=True)


def narrow(head, rows):
    """A table without columns that say the same in every row, the paper's numbers after ours.

    Example:

    >>> rows = [["0.1", "IBP", "2", "3"], ["0.1", "TAPS", "4", "-"]]
    >>> narrow(["eps", "method", "natural", "paper"], rows)
    (['method', 'natural (paper)'], [['IBP', '2 (3)'], ['TAPS', '4 (-)']])
    """
    from keras_taps.reproduction.published import KEY

    columns = []
    for name, *cells in zip(head, *rows, strict=True):
        if name == "paper":
            before, *ours = columns.pop()
            cells = [f"{own} ({theirs})" for own, theirs in zip(ours, cells, strict=True)]
            columns.append([f"{before} (paper)", *cells])
        elif name not in KEY or len(set(cells)) > 1:
            columns.append([name.replace("_", " "), *cells])
    head, *rows = map(list, zip(*columns, strict=True))
    return head, rows


def print_table(title, head, rows):
    """Print a table whose columns of numbers, those without a letter, are aligned right."""
    table = Table(title=title, title_justify="left", pad_edge=False)
    for name, *cells in zip(head, *rows, strict=True):
        is_text = any(each.isalpha() for cell in cells for each in cell)
        table.add_column(name, justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)

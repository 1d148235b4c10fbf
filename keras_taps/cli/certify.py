"""`keras-taps certify`: verdicts on a whole test set, proved and resumable."""

from pathlib import Path

import typer
from rich.table import Table

from keras_taps import plots
from keras_taps.checks import check_choice
from keras_taps.cli.backend import switch_backend
from keras_taps.cli.bar import progress_bar
from keras_taps.cli.output import console, make_folder_of, print_json
from keras_taps.cli.radius import certify_radii
from keras_taps.cli.target import Target, check_limit, parse_radii, radius_name
from keras_taps.files import write_atomically
from keras_taps.verification.certify import certify
from keras_taps.verification.report import Report
from keras_taps.verification.stages import DEFAULT_STAGES, STAGES

NAME = "certify"


def run(
    target: Path = typer.Argument(..., help="Run folder, or a .keras file with --dataset."),
    eps: str = typer.Option(
        None, "--eps", help='Radius: 0.1, 2/255, or "0.05,0.1" for a curve. Default: the model\'s.'
    ),
    dataset: str = typer.Option(None, "--dataset", help="Data set of a .keras file."),
    limit: int = typer.Option(None, "--limit", help="Only this many test images."),
    out: Path = typer.Option(
        None, "--out", help="Report, by default certification-EPS.jsonl in the run folder."
    ),
    stages: str = typer.Option(None, "--stages", help=f"Out of {','.join(STAGES)}."),
    exact: bool = typer.Option(False, "--exact", help="End with exact integer programming."),
    timeout: float = typer.Option(60, "--timeout", help="Seconds an input."),
    shard: str = typer.Option(None, "--shard", help="i/n: only every n-th image, from the i-th."),
    check: bool = typer.Option(
        True, "--check/--no-check", help="Confirm every proof in float64 with its rounding errors."
    ),
    certificates: bool = typer.Option(
        False, "--certificates", help="Keep the proofs, for `keras-taps recheck`."
    ),
    iterations: int = typer.Option(20, "--iterations", help="Steps of alpha-CROWN."),
    batch_size: int = typer.Option(32, "--batch-size", help="Images at a time."),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides the attacks."),
    plot: bool = typer.Option(False, "--plot", help="Draw pictures beside the report."),
    radius: bool = typer.Option(
        False, "--radius", help="Bisect the certified radius of each image, up to --eps or 0.5."
    ),
    tolerance: float = typer.Option(0.001, "--tolerance", help="Width that ends the bisection."),
    backend: str = typer.Option(None, "--backend", help="tensorflow, jax or torch."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON only."),
):
    """Prove or refute robustness on test images; the same command goes on where it stopped.

    Examples: `keras-taps certify runs/taps --eps 0.1 --certificates`,
    `keras-taps certify model.keras --dataset mnist --eps 2/255,4/255 --limit 500 --plot`
    """
    switch_backend(backend)
    radii, chosen = parse_radii(eps), _stages(stages, exact)
    check_limit(limit)
    if radius and (shard or certificates or plot):
        raise ValueError(
            "--radius writes no report. Received: --shard, --certificates or --plot beside it"
        )
    subject = Target(target, dataset)
    options = {
        "timeout": timeout,
        "check": check,
        "batch_size": batch_size,
        "iterations": iterations,
        "seed": seed,
    }
    if chosen or not radius:
        options["stages"] = chosen or DEFAULT_STAGES
    images = subject.images(limit, data_dir)
    if radius:
        certify_radii(subject, images, radii, tolerance, out, as_json, options)
        return
    options |= {"shard": shard, "certificates": certificates}
    reports = {}
    for value in subject.radii(radii):
        path = report_path(subject, value, out, shard, several=len(radii or ()) > 1)
        reports[value] = certify_into(path, subject.network, images, value, as_json, options)
    pictures = draw(reports) if plot else []
    show(subject, reports, pictures, as_json)


def _stages(text, exact):
    """Tuple of stages, or `None` for the default."""
    if text is None:
        return STAGES if exact else None
    found = [check_choice("--stages", stage.strip(), STAGES) for stage in text.split(",")]
    return tuple(dict.fromkeys([*found, "milp"] if exact else found))


def report_path(subject, eps, out, shard, several):
    """Path of the report at one radius."""
    ending = radius_name(eps)
    if out is not None:
        return out.with_name(f"{out.stem}-{ending}{out.suffix}") if several else out
    part = f"-shard-{shard.replace('/', '-of-')}" if shard else ""
    return subject.folder() / f"certification-{ending}{part}.jsonl"


def certify_into(path, network, images, eps, quiet, options):
    """Certify at one radius with a bar; say what is there already and how to go on."""
    make_folder_of(path)
    done = len(Report.load(path).records) if path.is_file() and path.stat().st_size else 0
    if not quiet:
        there = f", goes on after {done} images" if done else ""
        console.print(f"Report {path}, eps {eps:g}{there}", soft_wrap=True)

    try:
        with progress_bar("images", quiet, done) as bar:

            def progress(report, total):
                shares = report.accuracies()
                names = ("natural", "certified", "adversarial")
                figures = "  ".join(f"{name} {shares[name]:.1%}" for name in names)
                bar(shares["count"], total, figures)

            return certify(network, *images, eps, out=path, progress=progress, **options)
    except KeyboardInterrupt:
        if not quiet:
            console.print("\nWhat is decided is in the report; the same command goes on.")
        raise


def draw(reports):
    """Write the pictures beside the reports; their paths."""
    paths = [report.path for report in reports.values()]
    names = {f"eps {eps:g}": report for eps, report in reports.items()}
    drawings = {
        path.with_name(f"{path.stem}-bounds.png"): plots.margin_histogram(report)
        for path, report in zip(paths, reports.values(), strict=True)
    }
    first = paths[0]
    drawings[first.with_name(f"{first.stem}-stages.png")] = plots.certification(names)
    if len(reports) > 1:
        points = {eps: report.accuracies() for eps, report in reports.items()}
        drawings[first.with_name(f"{first.stem}-curve.png")] = plots.certified_curve(points)
    for path, drawing in drawings.items():
        write_atomically(path, drawing.savefig)
    return list(drawings)


def show(subject, reports, pictures, as_json):
    """Print what the reports say."""
    if as_json:
        found = [
            {
                "target": str(subject.path),
                "dataset": subject.dataset,
                "report": str(report.path),
                "header": report.header,
                "accuracies": report.accuracies(),
                "stages": report.stages(),
                "unchecked": report.unchecked,
            }
            for report in reports.values()
        ]
        print_json(found[0] if len(found) == 1 else found)
        return
    for report in reports.values():
        console.print(f"\n{report.summary()}", markup=False, soft_wrap=True)
    if len(reports) > 1:
        console.print(curve_table({eps: r.accuracies() for eps, r in reports.items()}))
    for path in pictures:
        console.print(f"Picture: {path}", soft_wrap=True)


def curve_table(points):
    """Table of accuracies in percent, a row a radius."""
    table = Table()
    columns = ("natural", "adversarial", "certified", "unknown")
    for name in ("eps", *(f"{column} %" for column in columns)):
        table.add_column(name, justify="right")
    for eps, shares in points.items():
        table.add_row(f"{eps:g}", *(f"{100 * shares[column]:.2f}" for column in columns))
    return table

"""`keras-taps certify`: verdicts on whole test sets, proved and resumable."""

from pathlib import Path

import typer

from keras_taps import plots
from keras_taps.checks import check_choice
from keras_taps.choices import DEFAULT_STAGES, STAGES
from keras_taps.cli.backend import import_keras, switch_backend
from keras_taps.cli.bar import progress_bar
from keras_taps.cli.output import certification_table, console, make_folder_of, print_json
from keras_taps.cli.radius import certify_radii
from keras_taps.cli.search import BRANCHING, MEMORY_OPTION, search_options
from keras_taps.cli.target import DOMAIN, Target, check_limit, parse_radii, radius_name
from keras_taps.domain import radius_text
from keras_taps.files import write_atomically

NAME = "certify"


def run(
    targets: list[Path] = typer.Argument(
        ..., help="Run folders, or .keras files with --dataset; several make one table."
    ),
    eps: str = typer.Option(
        None,
        "--eps",
        help='Radius: 0.1, 2/255, "0.05,0.1" for a curve, or an .npy file with one for each image. '
        "Default: the model's.",
    ),
    domain: str = DOMAIN,
    dataset: str = typer.Option(
        None, "--dataset", help="Test images of a .keras file: a name, or an .npz with x and y."
    ),
    limit: int = typer.Option(None, "--limit", help="Only this many test images."),
    out: Path = typer.Option(
        None,
        "--out",
        help="Report, by default certification-EPS.jsonl in the run folder, or "
        "MODEL-certification-EPS.jsonl here.",
    ),
    stages: str = typer.Option(
        None,
        "--stages",
        help=f"Names with commas, out of {', '.join(STAGES)}. bab is branch and bound, milp is "
        "integer programming; both are complete: given time, they decide. Default: all but milp.",
    ),
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
    branching: str = BRANCHING,
    memory: float = MEMORY_OPTION,
    batch_size: int = typer.Option(32, "--batch-size", help="Images at a time."),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides the attacks."),
    plot: bool = typer.Option(False, "--plot", help="Draw pictures beside the reports."),
    radius: bool = typer.Option(
        False, "--radius", help="Bisect the certified radius of each image, up to --eps or 0.5."
    ),
    tolerance: float = typer.Option(0.001, "--tolerance", help="Width that ends the bisection."),
    backend: str = typer.Option(None, "--backend", help="tensorflow, jax or torch."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON only."),
):
    """Prove or refute robustness on test images; the same command resumes where it stopped.

    Examples: `keras-taps certify runs/taps --eps 0.1 --certificates`,
    `keras-taps certify runs/ibp runs/sabr runs/taps --limit 1000 --plot`,
    `keras-taps certify model.keras --dataset mnist --eps 2/255,4/255 --limit 500`
    """
    radii, chosen = parse_radii(eps, domain), _stages(stages, exact)
    check_limit(limit)
    options = {
        "timeout": timeout,
        "check": check,
        "batch_size": batch_size,
        "iterations": iterations,
        "seed": seed,
        **search_options(branching, memory),
    }
    if radius and (shard or certificates or plot):
        raise ValueError(
            "--radius writes no report. Received: --shard, --certificates or --plot beside it"
        )
    if len(targets) > 1 and (out or radius):
        name = "--radius" if radius else "--out"
        raise ValueError(f"{name} takes one run or model. Received: {len(targets)} of them")
    if chosen or not radius:
        options["stages"] = chosen or DEFAULT_STAGES
    switch_backend(backend)
    import_keras()
    subjects = [Target(target, dataset, domain) for target in targets]
    for subject in subjects:
        subject.network  # noqa: B018 - refused now, not after hours on another model
    named = {subject.dataset: subject for subject in subjects}
    data = {name: subject.images(limit, data_dir) for name, subject in named.items()}
    if radius:
        (images,) = data.values()
        certify_radii(subjects[0], images, radii, tolerance, out, as_json, options)
        return
    options |= {"shard": shard, "certificates": certificates}
    jobs = [
        (subject, value, report_path(subject, value, out, shard, several=len(radii or ()) > 1))
        for subject in subjects
        for value in subject.radii(radii)
    ]
    _check_paths([path for _, _, path in jobs])
    labels = _labels(jobs)
    found = [
        certify_into(
            path,
            subject.network,
            data[subject.dataset],
            value,
            as_json,
            {**options, "domain": subject.domain},
        )
        for subject, value, path in jobs
    ]
    reports = dict(zip(labels, found, strict=True))
    pictures = draw(reports, len(subjects)) if plot else []
    if as_json:
        entries = [
            _entry(subject, report) for (subject, _, _), report in zip(jobs, found, strict=True)
        ]
        print_json(entries[0] if len(entries) == 1 else entries)
    else:
        show(reports, pictures)


def _stages(text, exact):
    """Tuple of stages, or `None` for the default."""
    if text is None:
        return STAGES if exact else None
    found = [check_choice("--stages", stage.strip(), STAGES) for stage in text.split(",")]
    last = ["milp"] if exact else []
    return tuple(dict.fromkeys([stage for stage in found if stage not in last] + last))


def report_path(subject, eps, out, shard, several):
    """Path of the report at one radius."""
    ending = radius_name(eps)
    if out is not None:
        return out.with_name(f"{out.stem}-{ending}{out.suffix}") if several else out
    part = f"-shard-{shard.replace('/', '-of-')}" if shard else ""
    own = "" if subject.run else f"{subject.name}-"  # a run folder holds one model
    return subject.folder() / f"{own}certification-{ending}{part}.jsonl"


def _check_paths(paths):
    """Raise `ValueError` if two reports would go into one file."""
    paths = [path.resolve() for path in paths]
    twice = [path for number, path in enumerate(paths) if path in paths[:number]]
    if twice:
        raise ValueError(
            f"Two models would share the report '{twice[0]}'. Name each run once, and give .keras "
            "files different names. Received: the same name twice"
        )


def _labels(jobs):
    """What tables and pictures call each report: its model, its radius, or both."""
    models = {subject.path for subject, _, _ in jobs}
    radii = {radius_name(eps) for _, eps, _ in jobs}
    return [
        ", ".join(
            [str(subject.path)] * (len(models) > 1)
            + [f"eps {radius_name(eps).replace('_', '/')}"] * (len(radii) > 1 or len(models) == 1)
        )
        for subject, eps, _ in jobs
    ]


def certify_into(path, network, images, eps, quiet, options):
    """Certify at one radius with a bar; say what is there already and how to resume."""
    from keras_taps.verification import Report, certify

    make_folder_of(path)
    before = path.is_file() and path.stat().st_size and len(Report.load(path).records)
    if not quiet:
        console.print(f"Report {path}, eps {radius_text(eps)}", soft_wrap=True)

    try:
        with progress_bar("images", quiet) as bar:

            def progress(report, total):
                nonlocal before
                shares = report.accuracies()
                if before and not quiet:
                    console.print(f"resumes after {shares['count']} of {total} images")
                before = 0
                names = ("natural", "certified", "adversarial")
                figures = "  ".join(f"{name} {shares[name]:.1%}" for name in names)
                bar(shares["count"], total, figures)

            return certify(network, *images, eps, out=path, progress=progress, **options)
    except KeyboardInterrupt:
        if not quiet:
            console.print("\nWhat is decided is in the report; the same command resumes it.")
        raise


def draw(reports, models=1):
    """Write the pictures beside the reports; their paths.

    Args:
        reports: Dictionary from labels to reports.
        models: Number of models that they are about.
    """
    drawings = {
        _beside(report, "bounds"): plots.margin_histogram(report) for report in reports.values()
    }
    first = next(iter(reports.values()))
    name = "stages" if models == 1 else "models"
    drawings[_beside(first, name)] = plots.certification(reports)
    if models == 1 and len(reports) > 1:
        points = {report.header["eps"]: report.accuracies() for report in reports.values()}
        drawings[_beside(first, "curve")] = plots.certified_curve(points)
    for path, drawing in drawings.items():
        write_atomically(path, drawing.savefig)
    return list(drawings)


def _beside(report, name):
    return report.path.with_name(f"{report.path.stem}-{name}.png")


def show(reports, pictures):
    """Print what the reports say, and one table if there are several."""
    for label, report in reports.items():
        name = f"{label}\n" if len(reports) > 1 else ""
        console.print(f"\n{name}{report.summary()}", markup=False, soft_wrap=True)
    if len(reports) > 1:
        console.print()
        console.print(certification_table(reports))
    for path in pictures:
        console.print(f"Picture: {path}", soft_wrap=True)


def _entry(subject, report):
    """What `--json` says of a report."""
    return {
        "target": str(subject.path),
        "dataset": subject.dataset,
        "report": str(report.path),
        "header": report.header,
        "accuracies": report.accuracies(),
        "certified_by": report.certified_by(),
        "stages": report.stages(),
        "unchecked": report.unchecked,
        "solver_certified": report.solver_certified,
    }

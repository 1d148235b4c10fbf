"""The option `--radius` of `certify`: how far the proof reaches around each image."""

import numpy as np

from keras_taps.checks import check_real
from keras_taps.cli.bar import progress_bar
from keras_taps.cli.output import console, make_folder_of, print_json
from keras_taps.files import write_csv, write_json

HIGHEST = 0.5


def certify_radii(subject, images, radii, tolerance, out, as_json, options):
    """Bisect the certified radius of each image, write a CSV or JSON file, print mean and median.

    Args:
        subject: `Target`.
        images: Images and labels.
        radii: `None`, or a list with the largest radius to try.
        tolerance: Width that ends the bisection.
        out: Path that ends in `.csv` or `.json`, or `None`.
        as_json: Whether to print JSON.
        options: Further arguments of `certified_radius`.
    """
    from keras_taps.verification import certified_radius

    out = subject.folder() / "certified-radius.csv" if out is None else out
    if out.suffix not in (".csv", ".json"):
        raise ValueError(f"--out of radii must end in .csv or .json. Received: --out {out}")
    if len(radii or ()) > 1:
        raise ValueError(f"--radius takes one --eps, the largest to try. Received: {radii}")
    most = subject.domain.width
    high = check_real("--eps", radii[0] if radii else min(HIGHEST, most), 0, most, low_open=True)
    make_folder_of(out)
    with progress_bar("halvings", as_json) as bar:
        given = {**options, "progress": bar, "domain": subject.domain}
        found = certified_radius(subject.network, *images, high, tolerance, **given)
    reached = np.maximum(found, 0)  # misclassified images are told by -1
    rows = [
        {"index": index, "label": int(label), "correct": int(radius >= 0), "radius": float(size)}
        for index, (label, radius, size) in enumerate(zip(images[1], found, reached, strict=True))
    ]
    (write_csv if out.suffix == ".csv" else write_json)(out, rows)
    summary = {
        "target": str(subject.path),
        "dataset": subject.dataset,
        "count": len(rows),
        "natural": float(np.mean(found >= 0)),
        "mean": float(np.mean(reached)),
        "median": float(np.median(reached)),
        "high": high,
        "tolerance": tolerance,
        "file": str(out),
    }
    if as_json:
        print_json(summary)
        return
    console.print(
        f"certified radius of {len(rows)} images: mean {summary['mean']:.4f}, "
        f"median {summary['median']:.4f}, searched up to {high:g}; misclassified images "
        f"({1 - summary['natural']:.1%}) count as 0",
        soft_wrap=True,
    )
    console.print(f"Radii: {out}", soft_wrap=True)

"""Section of docs/benchmarks.md about training steps, and its picture."""

from pathlib import Path

from pictures import save_picture, shows
from provenance import read_json
from tables_format import BACKENDS, NOT_MEASURED, machine, ratio, table

EAGER = "eager-torch"
IMPLEMENTATIONS = {
    **{key: f"keras_taps, {name}" for key, name in BACKENDS.items()},
    EAGER: "eager PyTorch",
}
COLOURS = {"tensorflow": "#D55E00", "jax": "#0072B2", "torch": "#009E73"}  # as keras_taps.plots
PASSES = {"forward": "forward", "input": "input gradient"}
HEAD = [
    "Step",
    "Implementation",
    "Median s",
    "Quartiles s",
    "Minimum s",
    "Median / eager",
    "Ceiling / median",
    "First step s",
    "Peak MiB",
    "above import",
    "Peak / eager",
]


def sections(results):
    """Markdown of every `training_step*.json` in a folder: the text of all machines."""
    files = sorted(Path(results).glob("training_step*.json"))
    found = [_section(path) for path in files if _measurements(path)]
    return "\n\n".join(found) or NOT_MEASURED


def _measurements(path):
    return read_json(path)["measurements"]


def _section(path):
    measurements = _measurements(path)
    rows = [row for measurement in measurements for row in _rows(measurement)]
    picture = f"![Seconds of a training step against eager PyTorch](images/{path.stem}.png)"
    devices = {r.get("device") for m in measurements for r in m["results"]} - {None}
    on = [f"Computed on {', '.join(sorted(devices))}, whose memory is given."] if devices else []
    places = machine([measurement["provenance"] for measurement in measurements])
    return "\n\n".join([picture, table(HEAD, rows), *on, places])


def _eager(measurement):
    """The result of eager PyTorch, or None."""
    results = measurement["results"]
    return next((r for r in results if r["implementation"] == EAGER), None)


def _peak(result):
    """Peak MiB, of the accelerator where there is one."""
    return result.get("peak_device_mib", result["peak_mib"])


def _rows(measurement):
    name = measurement["configuration"]["name"]
    eager, ceiling = _eager(measurement), measurement["ceiling"]
    rows = []
    for r in measurement["results"]:
        low, high = r["quartiles_s"]
        rows.append(
            [
                name,
                IMPLEMENTATIONS[r["implementation"]],
                f"{r['median_s']:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{r['minimum_s']:.3f}",
                ratio(r["median_s"], eager and eager["median_s"]),
                f"{ceiling['seconds'] / r['median_s']:.2f}" if ceiling else "-",
                f"{r['first_step_s']:.1f}",
                f"{_peak(r):.0f}",
                "-" if "device" in r else f"{_peak(r) - r['baseline_mib']:.0f}",
                ratio(_peak(r), eager and _peak(eager)),
            ]
        )
    if ceiling:
        seconds = ceiling["seconds"]
        against = ratio(seconds, eager and eager["median_s"])
        what = f"products alone, {ceiling['gflop']:.1f} GFLOP"
        rows.append([name, what, f"{seconds:.3f}", "-", "-", against, "1.00", *["-"] * 4])
    return rows


def changes(records):
    """Section of `training_changes.json`: what each change of the step won, and what did not."""
    if not records:
        return NOT_MEASURED
    rows = [
        [r["change"], r["where"], f"{r['before']:g}", f"{r['after']:g}", "yes" * r["kept"] or "no"]
        for r in records
    ]
    found = table(["Change", "Measured", "Before", "After", "Kept"], rows)
    return "\n\n".join([found, machine([r["provenance"] for r in records])])


def precision(content):
    """Section of `precision.json`."""
    if not content:
        return NOT_MEASURED
    rows = []
    for r in content["records"]:
        reference, *others = r["seconds"].values()
        name = BACKENDS[r["library"]]
        what = f"{r['kind']}, {PASSES[r['pass']]}"
        rows.append([what, name, f"{1000 * reference:.2f}", *(ratio(s, reference) for s in others)])
    _, *lower = content["records"][0]["seconds"]
    head = ["Product", "Library", "float32 ms", *(f"{dtype} / float32" for dtype in lower)]
    rows.sort(key=lambda row: row[:1])
    text = f"The products of the latent attack of `{content['configuration']}`."
    return "\n\n".join([text, table(head, rows), machine([content["provenance"]])])


def pictures(results, folder):
    """Write the pictures of a folder of results, `training_step*.png`."""
    for path in _drawn(results):
        data = _points(_measurements(path))
        save_picture(_draw(data), folder / f"{path.stem}.png", data)


def stale_pictures(results, folder):
    """Paths of the pictures that do not show the results."""
    found = {folder / f"{path.stem}.png": _measurements(path) for path in _drawn(results)}
    return [path for path, measured in found.items() if not shows(path, _points(measured))]


def _drawn(results):
    files = sorted(Path(results).glob("training_step*.json"))
    return [path for path in files if _points(_measurements(path))]


def _points(measurements):
    """`[(configuration, {implementation or "ceiling": seconds / eager seconds})]`."""
    points = []
    for m in measurements:
        eager = _eager(m)
        if eager is None:
            continue
        ratios = {r["implementation"]: r["median_s"] / eager["median_s"] for r in m["results"]}
        del ratios[EAGER]
        if m["ceiling"]:
            ratios["ceiling"] = m["ceiling"]["seconds"] / eager["median_s"]
        points.append((m["configuration"]["name"], ratios))
    return points


def _draw(points):
    """Figure: a line for each configuration, marks at the ratios, those further left are faster."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = Figure(layout="constrained", dpi=120, figsize=(8, 1.5 + 0.3 * len(points)))
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    places = range(len(points))
    marks = {
        **{key: (f"keras_taps, {name}", "o", COLOURS[key]) for key, name in BACKENDS.items()},
        "ceiling": ("products alone", "|", "black"),
    }
    for key, (label, mark, colour) in marks.items():
        y = [place for place in places if key in points[place][1]]
        if y:
            x = [points[place][1][key] for place in y]
            axis.scatter(x, y, marker=mark, color=colour, label=label, zorder=3)
    axis.axvline(1, color="grey", lw=1)
    axis.set(xscale="log", xlabel="seconds of a step / those of eager PyTorch")
    ratios = [0.5, 2, *(value for _, found in points for value in found.values())]
    axis.set_xlim(min(ratios) / 1.2, max(ratios) * 1.2)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter("")
    axis.set_yticks(places, [name for name, _ in points])
    axis.set_ylim(len(points) - 0.5, -0.5)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure

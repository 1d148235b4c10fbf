"""Figures, one function each; they return a matplotlib figure and neither show nor save it.

All are in one file, long as it is, because they share colours, markers and the order of verdicts.
"""

from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.domain import radius_text
from keras_taps.radii import radii_of, radii_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # safe for the colour-blind
_VERDICTS = {  # what each verdict looks like in every figure
    "certified": "#009E73",
    "unknown": "#999999",
    "falsified": "#D55E00",
    "misclassified": "#56B4E9",
}
_STAGES = {"bab": "branch and bound", "milp": "integer programming"}  # others by their own names
_MARKERS = "osD^v"
_MEASURES = {  # of trials
    "val_natural_accuracy": "natural accuracy",
    "val_certified_accuracy": "certified accuracy",
    "val_taps_accuracy": "TAPS accuracy, an estimate,",
}
_BINS = 40


def subplots(*args: Any, **options: Any) -> "tuple[Figure, Any]":
    """A figure and its axes, as `matplotlib.pyplot.subplots`.

    By the object interface: a library must not touch pyplot's global state or pick a screen.
    """
    figure = _figure_class()(layout="constrained", dpi=150, figsize=options.pop("figsize"))
    return figure, figure.subplots(*args, **options)


@cache
def _figure_class():
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        """A figure that notebooks show, whether or not pyplot has been imported."""

        def _repr_png_(self):
            content = BytesIO()
            self.savefig(content, format="png", dpi=80)
            return content.getvalue()

    return NotebookFigure


def tidy(axes: Any) -> None:
    """Remove the upper and right frame of one or more axes, and add a faint grid."""
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)


def training_curves(histories: Any) -> "Figure":
    """Radius, loss and accuracies over the epochs of one or more runs.

    Args:
        histories: Dictionary from the name of a run to its history: a list with one dictionary an
            epoch, or the `history` dictionary of lists that `fit` returns. Also what `fit` returns,
            for a single run.

    Returns:
        matplotlib `Figure`; dashed lines are validation figures.

    Example:

    >>> figure = training_curves({"TAPS": {"eps": [0.0, 0.1], "loss": [2.3, 1.0]}})
    >>> len(figure.axes)
    5
    """
    panels = {
        "eps": "training radius",
        "loss": "loss",
        "natural_accuracy": "natural accuracy",
        "taps_accuracy": "TAPS accuracy",
        "ibp_certified_accuracy": "IBP-certified accuracy",
    }
    figure, axes = subplots(1, len(panels), figsize=(16, 3.2))
    for colour, (name, history) in zip(COLOURS, _named(histories).items(), strict=False):
        columns = _columns(history)
        for axis, key in zip(axes, panels, strict=True):
            for prefix, style in (("", "-"), ("val_", "--")):
                values = columns.get(prefix + key)
                if values is not None and prefix + key != "val_eps" and prefix + key != "val_loss":
                    label = name + (", validation" if prefix else "")
                    epochs = np.arange(1, len(values) + 1)
                    axis.plot(epochs, values, style, color=colour, label=label, lw=1.6)
    for axis, title in zip(axes, panels.values(), strict=True):
        axis.set(title=title, xlabel="epoch")
    axes[1].set_yscale("log")
    if axes[2].lines:
        axes[2].legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure


def _named(histories):
    """Histories by the names of their runs; a single one is called 'training'."""
    histories = getattr(histories, "history", histories)  # the object that `fit` returns
    single = all(np.asarray(values).dtype.kind in "biuf" for values in histories.values())
    return {"training": histories} if single else histories


def _columns(history):
    if isinstance(history, dict):
        return {name: np.asarray(values, float) for name, values in history.items()}
    names = dict.fromkeys(name for row in history for name in row)
    return {n: np.array([row.get(n, np.nan) for row in history], float) for n in names}


def margin_bounds(
    images: np.ndarray,
    labels: np.ndarray,
    bounds: Mapping[str, np.ndarray],
    attacked: Mapping[str, np.ndarray],
    eps: ArrayLike,
) -> "Figure":
    """Images with, for each wrong class, what is proved and what an attack reaches.

    Args:
        images: Array `(count, height, width, channels)` of pixels in [0, 1].
        labels: Integer array `(count,)`.
        bounds: Dictionary from the name of a network to its upper bounds `(count, classes - 1)` of
            the margins; below 0 the class is ruled out for the whole box.
        attacked: Dictionary with the same names: margins `(count, classes - 1)` at the worst points
            that an attack found.
        eps: Radius of the box in pixel units.

    Returns:
        matplotlib `Figure`: a column an image; bars reach from attack to bound.
    """
    rows, count = 1 + len(bounds), len(images)
    figure, axes = subplots(
        rows, count, figsize=(1.9 * count, 1.9 * rows), squeeze=False, sharey="row"
    )
    classes = next(iter(bounds.values())).shape[1] + 1
    for column, (image, label) in enumerate(zip(images, labels, strict=True)):
        axes[0, column].imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
        axes[0, column].set(title=f"class {label}", xticks=[], yticks=[])
        wrong = [i for i in range(classes) if i != label]
        for axis, name in zip(axes[1:, column], bounds, strict=True):
            low, high = attacked[name][column], bounds[name][column]
            colours = [
                "#009E73" if h < 0 else "#999999" if a < 0 else "#D55E00"
                for a, h in zip(low, high, strict=True)
            ]
            axis.bar(wrong, np.maximum(high - low, 0.05), bottom=low, color=colours, width=0.8)
            axis.axhline(0, color="black", lw=0.8)
            axis.set_xticks(range(classes), labels=[str(i) for i in range(classes)], fontsize=7)
            axis.set_xlim(-0.6, classes - 0.4)
            state = "certified" if max(high) < 0 else "attacked" if max(low) >= 0 else "open"
            axis.set_title(state, fontsize=9)
    for axis, name in zip(axes[1:, 0], bounds, strict=True):
        axis.set_ylabel(f"{name}: margin")
    tidy(axes[1:])
    figure.suptitle(
        f"Margins of the wrong classes over all images within {radius_text(eps)}: from the worst "
        "attack (bottom of a bar) to the IBP bound (top).\n"
        "Green: proved below 0. Grey: neither proved nor broken. Orange: broken."
    )
    return figure


def certification(reports: Any) -> "Figure":
    """What each stage decided, as one stacked bar a report.

    Args:
        reports: `Report` of `certify`, or a dictionary from names to reports, for instance of
            several models or radii.

    Returns:
        matplotlib `Figure`. From the left: certified inputs, a shade a stage, cheapest darkest;
        unknown; falsified, a shade a stage; misclassified.
    """
    if not isinstance(reports, dict):
        reports = {f"eps {radii_text(radii_of(reports), 4)}": reports}
    figure, axis = subplots(1, 1, figsize=(9, 2.1 + 0.45 * len(reports)))
    shares = {name: _shares(report) for name, report in reports.items()}
    left = np.zeros(len(reports))
    for verdict, stage, shade in _parts(reports.values(), shares.values()):
        width = np.array([share.get((verdict, stage), 0.0) for share in shares.values()])
        label = f"{verdict}: {_STAGES.get(stage, stage)}" if stage else verdict
        colour = _lightened(_VERDICTS[verdict], shade)
        bars = axis.barh(list(shares), 100 * width, left=left, color=colour, label=label)
        texts = [f"{100 * w:.1f}" if w >= 0.035 else "" for w in width]
        axis.bar_label(bars, texts, label_type="center", fontsize=8)
        left = left + 100 * width
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="inputs in %")
    if axis.containers:
        figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    tidy(axis)
    axis.set_axisbelow(True)
    axis.grid(axis="y", visible=False)
    return figure


def _parts(reports, shares):
    """Verdict, stage and shade of everything that the bars are made of, in its order."""
    stages = list(dict.fromkeys(s for r in reports for s in r.header.get("stages", ())))
    found = {part for share in shares for part in share}
    for verdict in _VERDICTS:
        decided = [stage for stage in (*stages, None) if (verdict, stage) in found]
        shades = np.linspace(0, 0.7, max(len(decided), 2))
        yield from ((verdict, *part) for part in zip(decided, shades, strict=False))


def _shares(report):
    found = {}
    for record in report.records:
        decided = record["verdict"] in ("certified", "falsified")
        key = record["verdict"], record["stage"] if decided else None
        found[key] = found.get(key, 0) + 1 / len(report.records)
    return found


def _lightened(colour, share):
    from matplotlib.colors import to_rgb

    return tuple(1 - (1 - part) * (1 - share) for part in to_rgb(colour))


def margin_histogram(report: Any) -> "Figure":
    """Histogram of the upper bounds on the margins, coloured by verdict.

    Args:
        report: `Report` of `certify`. Inputs without a bound, such as misclassified ones, are left
            out.

    Returns:
        matplotlib `Figure`. Bounds that lie far out are counted in the outermost bars.
    """
    figure, axis = subplots(1, 1, figsize=(6.4, 3.4))
    found = {
        verdict: [
            record["bound"]
            for record in report.records
            if record["verdict"] == verdict and record["bound"] is not None
        ]
        for verdict in _VERDICTS
    }
    bounds = {verdict: np.array(of) for verdict, of in found.items() if of}
    title = f"eps {radii_text(radii_of(report), 4)}"
    if bounds:
        edges = _edges(bounds)
        axis.hist(
            [np.clip(found, edges[0], edges[-1]) for found in bounds.values()],
            edges,
            stacked=True,
            color=[_VERDICTS[verdict] for verdict in bounds],
            label=[f"{verdict} ({len(found)})" for verdict, found in bounds.items()],
        )
        axis.legend(frameon=False, fontsize=8)
        every = np.concatenate(list(bounds.values()))
        beyond = np.sum((every < edges[0]) | (every > edges[-1]))
        title += f"; {beyond} bounds beyond the axis are in the outermost bars" if beyond else ""
    axis.axvline(0, color="black", lw=0.8)
    axis.set_title(title, fontsize=9)
    axis.set(
        xlabel="upper bound on the largest margin of a wrong class; below 0 is proved",
        ylabel="inputs",
    )
    tidy(axis)
    return figure


def _edges(bounds):
    """Bins over most bounds; 0 is an edge, so that no bar straddles it.

    A falsified input left with the bound of whatever stage came before, which may be huge and says
    little, so it does not stretch the axis if others are there.
    """
    telling = [found for verdict, found in bounds.items() if verdict != "falsified"]
    telling = np.concatenate(telling or list(bounds.values()))
    low = min(np.percentile(telling, 1, method="lower"), 0)
    high = max(np.percentile(telling, 99, method="higher"), -low / 3)
    width = (high - low or 1.0) / _BINS
    return width * np.arange(np.floor(low / width), np.ceil(high / width) + 1)


def certified_curve(points: Mapping[float, Mapping[str, float]]) -> "Figure":
    """Natural, adversarial and certified accuracy against the radius.

    Args:
        points: Dictionary from radii in pixel units to what `Report.accuracies` gives.

    Returns:
        matplotlib `Figure`; between the two lower lines nothing is known.

    Example:

    >>> shares = {"natural": 0.9, "adversarial": 0.8, "certified": 0.7}
    >>> len(certified_curve({0.1: shares, 0.2: shares}).axes[0].lines)
    3
    """
    figure, axis = subplots(1, 1, figsize=(5.2, 3.4))
    radii = sorted(points)
    lines = {
        name: [100 * points[eps][name] for eps in radii]
        for name in ("natural", "adversarial", "certified")
    }
    colours = dict(zip(lines, ("#0072B2", "#D55E00", "#009E73"), strict=True))
    axis.fill_between(radii, lines["certified"], lines["adversarial"], color="#999999", alpha=0.25)
    for name, values in lines.items():
        # Where the gap is closed, the dashes above show both lines.
        style, order = ("o--", 4) if name == "adversarial" else ("o-", 3)
        axis.plot(radii, values, style, color=colours[name], label=name, lw=1.6, ms=4, zorder=order)
    axis.set(xlabel="eps in pixel units", ylabel="accuracy in %", ylim=(0, 102))
    axis.legend(frameon=False, fontsize=8)
    tidy(axis)
    return figure


def pareto(fronts: Any) -> "Figure":
    """Trials of a search by natural and certified accuracy, and the front that none dominates.

    Args:
        fronts: `ParetoFront`, or a dictionary from names to fronts of the same measures, for
            instance of several methods.

    Returns:
        matplotlib `Figure`: a colour and a legend entry with the hypervolume a front; filled points
        lie on it and have the number of their trial, hollow ones are dominated.

    Raises:
        ValueError: If there is no front.

    Example:

    >>> rows = [{"natural": 0.9, "certified": 0.5}, {"natural": 0.8, "certified": 0.6}]
    >>> figure = pareto(kt.tuning.ParetoFront(rows, ("natural", "certified")))
    >>> figure.axes[0].get_xlabel()
    'natural in %'
    """
    fronts = fronts if isinstance(fronts, dict) else {"": fronts}
    if not all(hasattr(front, "front") for front in fronts.values()) or not fronts:
        raise ValueError(
            "`fronts` must be a ParetoFront, or a dictionary from names to one or more of them. "
            f"Received: {list(fronts.values())!r}"
        )
    figure, axis = subplots(1, 1, figsize=(5.6, 4.2))
    for number, (name, front) in enumerate(fronts.items()):
        colour = COLOURS[number % len(COLOURS)]
        marker = _MARKERS[number // len(COLOURS) % len(_MARKERS)]
        worse = [front.point(row) for row in front.trials if row.get("dominated")]
        beaten, best = (
            100 * np.array(points).reshape(-1, 2)
            for points in (worse, [front.point(row) for row in front.front])
        )
        axis.scatter(*beaten.T, s=20, marker=marker, facecolors="none", edgecolors=colour)
        # Steps, for between two networks there is none.
        label = f"{name}: {front.hypervolume():.3f}".removeprefix(": ")
        for row, place in zip(front.front, best, strict=True):
            if "trial" in row:
                axis.annotate(
                    f" {row['trial']}", place, color=colour, fontsize=7, va="bottom", ha="left"
                )
        axis.step(*best.T, where="pre", marker=marker, color=colour, ms=5, lw=1.2, label=label)
    x, y = (f"{_MEASURES.get(measure, measure)} in %" for measure in front.measures)
    axis.set(xlabel=x, ylabel=y)
    axis.legend(title="hypervolume", frameon=False, fontsize=8, title_fontsize=8)
    tidy(axis)
    return figure

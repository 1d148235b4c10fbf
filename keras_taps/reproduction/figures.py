"""Figures of the targets, drawn from their results alone, beside the paper's if there are any."""

import numpy as np

from keras_taps.plots import COLOURS, subplots, tidy
from keras_taps.reproduction.published import KEY, published, published_errors, published_splits
from keras_taps.reproduction.results import means, relus, summary, tested_splits, without_remark

_LINES = {
    "natural": "natural",
    "adversarial": "adversarial",
    "certified": "certified, complete",
    "certified_crown_ibp": "certified, CROWN-IBP",
    "certified_ibp": "certified, IBP",
    "taps": "TAPS accuracy",
}
_BOUNDS = ("IBP", "PGD", "SABR", "TAPS", "STAPS")


def weights(content):
    """Accuracies over the weight of the TAPS gradient (Tables 2 and 14)."""
    rows, title = summary(content), "weight of the TAPS gradient"
    paper = published(content["target"].removeprefix("table"))
    keys = [tuple(row[name] for name in KEY) for row in rows]
    panels = {
        "ours": [(_short(row["setting"]), means(row)) for row in rows],
        "paper": [(_short(key[-1]), paper.get(key, {})) for key in keys],
    }
    return _lines(content, panels, title)


def splits(content):
    """Accuracies over the ReLUs after the split (Tables 11 and 12, Figure 7)."""
    paper, panels = published("11") | published("12"), {}
    for eps, rows in _by_eps(content).items():
        panels[f"eps {eps}, ours"] = [(relus(row["setting"]), means(row)) for row in rows]
        dataset = rows[0]["dataset"]
        panels[f"eps {eps}, paper"] = [
            (relus(key[-1]), found) for key, found in paper.items() if key[:2] == (dataset, eps)
        ]
    return _lines(content, panels, "ReLUs in the classifier")


def connector(content):
    """Accuracies over the parameter c of the gradient connector (Figure 8)."""
    panels = {
        f"eps {eps}": [(float(row["setting"].removeprefix("c=")), means(row)) for row in rows]
        for eps, rows in _by_eps(content).items()
    }
    return _lines(content, panels, "c: 0 is the binary connector, 1 the linear one")


def split_matrix(content):
    """TAPS accuracy over the split of the test, a line a split of the training (Figures 10, 11)."""
    panels = {}
    for eps, rows in _by_eps(content).items():
        panels[f"eps {eps}, ours"] = {
            relus(row["setting"]): tested_splits(row["figures"]) for row in rows
        }
        paper = {}
        for (trained, tested), share in published_splits(rows[0]["dataset"], eps).items():
            paper.setdefault(trained, {})[tested] = 100 * share
        panels[f"eps {eps}, paper"] = paper
    figure, axes = subplots(1, len(panels), figsize=(3.4 * len(panels), 3.4), squeeze=False)
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for trained, line in sorted(lines.items()):
            colour = f"C{trained}"
            label = "IBP (0)" if trained == 0 else str(trained)
            axis.plot(*zip(*sorted(line.items()), strict=True), "o-", ms=3, lw=1.2, color=colour,
                      label=label)  # fmt: skip
            if trained in line:  # the split it was trained for
                axis.plot(trained, line[trained], "s", ms=7, mfc="none", color=colour)
        axis.set(title=title, xlabel="ReLUs in the classifier of the test")
        axis.locator_params(axis="x", integer=True)
    axes[0, 0].set_ylabel("TAPS accuracy in %")
    handles = {}
    for axis in axes[0]:
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, line)
    figure.legend(handles.values(), handles, title="in training; a square: tested as trained",
                  loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8,
                  title_fontsize=8)  # fmt: skip
    return _finished(figure, axes, content)


def goodness(content):
    """TAPS accuracy against what it stands for (Table 10)."""
    figure, axes = subplots(1, 2, figsize=(8, 3.8))
    found = content["correlations"]
    for axis, (name, quantity) in zip(
        axes, (("adv", "adversarial"), ("cert", "certified")), strict=True
    ):
        low, high = 100, 0
        for colour, dataset in zip(COLOURS, _unique(content["records"], "dataset"), strict=False):
            own = [record for record in content["records"] if record["dataset"] == dataset]
            x, y = ([record[each] for record in own] for each in (quantity, "taps"))
            value = found.get(dataset, {}).get(f"corr_taps_{name}")
            label = dataset if value is None else f"{dataset}, correlation {value:.4f}"
            axis.scatter(x, y, s=16, color=colour, label=label)
            low, high = min(low, *x, *y), max(high, *x, *y)
        axis.plot([low, high], [low, high], color="black", lw=0.8)
        axis.set(xlabel=f"{quantity} accuracy in %", ylabel="TAPS accuracy in %")
        axis.legend(frameon=False, fontsize=8)
    return _finished(figure, axes, content)


def approximation(content):
    """Histograms of the errors of each bound, a row a training method (Figures 1, 5 and 9)."""
    records = content["records"]
    trained = _unique(records, "method")
    names = [name for name in _BOUNDS if name != "STAPS"]
    paper = published_errors()
    figure, axes = subplots(
        len(trained), len(names), figsize=(2.7 * len(names), 1.8 * len(trained)), squeeze=False
    )
    for line, method in zip(axes, trained, strict=True):
        record = next(each for each in records if each["method"] == method)
        for axis, colour, name in zip(line, COLOURS, names, strict=False):
            error = record["errors"][name]
            _bars(axis, error["histogram"], colour)
            axis.axvline(0, color="black", lw=0.8)
            left = sum(error["histogram"][end] for end in ("low", "high")) > 0  # away from 0
            place = {"x": 0.03, "ha": "left"} if not left else {"x": 0.97, "ha": "right"}
            axis.set_ylim(top=1.45 * axis.dataLim.ymax)  # the numbers stand above the bars
            theirs = paper.get((method, name))
            for height, whose, own in ((0.95, "", error), (0.81, "paper ", theirs)):
                if own:
                    text = f"{whose}{own['mean_error']:+.3f} ± {own['std_error']:.3f}"
                    colour = "0.45" if whose else "black"
                    axis.text(y=height, s=text, transform=axis.transAxes, fontsize=8, va="top",
                              color=colour, **place)  # fmt: skip
            axis.set_yticks([])
            axis.locator_params(axis="x", nbins=4)
        line[0].set_ylabel(f"trained by {method}", fontsize=8)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(f"bound by {name}")
    for axis in axes[-1]:
        axis.set_xlabel("bound - exact margin")
    return _finished(figure, axes, content, first=True)


def differences(content):
    """How much lower the latent attack is than the bound it replaces (Figure 6)."""
    records = content["records"]
    pairs = list(records[0]["differences"])
    figure, axes = subplots(1, len(pairs), figsize=(4.4 * len(pairs), 3.4))
    for axis, pair in zip(axes, pairs, strict=True):
        first = {}
        for record in records:
            first.setdefault(record["method"], record)
        for colour, (method, record) in zip(COLOURS, first.items(), strict=False):
            found = record["differences"][pair]
            _bars(axis, found["histogram"], colour, f"{method}: {found['mean_error']:.3f}", 0.5)
        axis.set(title=pair, xlabel="difference of the worst-case margins", yticks=[])
        axis.legend(title="trained by: mean", frameon=False, fontsize=8, title_fontsize=8)
    return _finished(figure, axes, content, first=True)


def _bars(axis, histogram, colour, label=None, alpha=1.0):
    edges = np.linspace(histogram["low"], histogram["high"], len(histogram["counts"]) + 1)
    # Each of the same height: the spike of one would flatten the others beside it.
    heights = np.array(histogram["counts"]) / max(*histogram["counts"], 1)
    axis.stairs(heights, edges, fill=True, color=colour, alpha=alpha, label=label)


def _lines(content, panels, label):
    """One panel each, a line a quantity over what the rows differ in.

    Args:
        content: What `reproduce` returns.
        panels: Dictionary from titles to lists of `(place, {quantity: number})`.
        label: Of the horizontal axis.
    """
    names = [name for name in _LINES if name in content["quantities"]]
    if "certified_ibp" in names:
        names.insert(names.index("certified_ibp"), "certified_crown_ibp")
    figure, axes = subplots(1, len(panels), figsize=(3.6 * len(panels), 3.5), squeeze=False)
    for axis, (title, points) in zip(axes[0], panels.items(), strict=True):
        for colour, name in zip((*COLOURS, "black"), names, strict=False):
            own = [(place, found[name]) for place, found in points if name in found]
            if own:
                axis.plot(*zip(*own, strict=True), "o-", color=colour, ms=4, lw=1.4,
                          label=_LINES[name])  # fmt: skip
        axis.set(title=title, xlabel=label)
        if points and isinstance(points[0][0], str):
            axis.tick_params("x", rotation=60, labelsize=8)
        elif points and isinstance(points[0][0], int):
            axis.locator_params(axis="x", integer=True)
    axes[0, 0].set_ylabel("%")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=len(names), frameon=False, fontsize=8)  # fmt: skip
    return _finished(figure, axes, content)


def _finished(figure, axes, content, first=False):
    """Add the title; `first` says that of several seeds the first alone is drawn."""
    tidy(axes)
    count = len(content["seeds"])
    seeds = f"{count} seed{'s' * (count > 1)}"
    if first and count > 1:
        seeds = f"seed {content['seeds'][0]} of {count} seeds"
    figure.suptitle(
        f"{content['title']}: scale {content['scale']}, {seeds}, {content['backend']}", fontsize=9
    )
    return figure


def _short(setting):
    return without_remark(setting).replace(" loss only", " alone")


def _unique(records, name):
    return list(dict.fromkeys(record[name] for record in records))


def _by_eps(content):
    rows = summary(content)
    return {eps: [row for row in rows if row["eps"] == eps] for eps in _unique(rows, "eps")}

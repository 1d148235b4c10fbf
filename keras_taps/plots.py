"""Figures, one function each; they return a matplotlib figure and neither show nor save it."""

import numpy as np

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # safe for the colour-blind


def _subplots(*args, **options):
    # The object interface: a library must not touch pyplot's global state or pick a screen.
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", dpi=150, figsize=options.pop("figsize"))
    return figure, figure.subplots(*args, **options)


def _tidy(axes):
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)


def training_curves(histories):
    """Radius, loss and accuracies over the epochs of one or more runs.

    Args:
        histories: Dictionary from the name of a run to its history: a list with one dictionary an
            epoch, or the `history` dictionary of lists that `fit` returns.

    Returns:
        matplotlib `Figure`; dashed lines are validation figures.

    Example:

    >>> figure = training_curves({"TAPS": {"eps": [0.0, 0.1], "loss": [2.3, 1.0]}})
    >>> len(figure.axes)
    4
    """
    panels = {
        "eps": "training radius",
        "loss": "loss",
        "natural_accuracy": "natural accuracy",
        "taps_accuracy": "TAPS accuracy",
    }
    figure, axes = _subplots(1, 4, figsize=(13, 3.2))
    for colour, (name, history) in zip(_COLOURS, histories.items(), strict=False):
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
    _tidy(axes)
    return figure


def _columns(history):
    if isinstance(history, dict):
        return {name: np.asarray(values, float) for name, values in history.items()}
    names = dict.fromkeys(name for row in history for name in row)
    return {n: np.array([row.get(n, np.nan) for row in history], float) for n in names}


def margin_bounds(images, labels, bounds, attacked, eps):
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
    figure, axes = _subplots(
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
            state = "certified" if max(high) < 0 else "attacked" if max(low) >= 0 else "open"
            axis.set_title(state, fontsize=9)
    for axis, name in zip(axes[1:, 0], bounds, strict=True):
        axis.set_ylabel(f"{name}: margin")
    _tidy(axes[1:])
    figure.suptitle(
        f"Margins of the wrong classes over all images within {eps:g}: from the worst attack "
        "(bottom of a bar) to the IBP bound (top).\n"
        "Green: proved below 0. Grey: neither proved nor broken. Orange: broken."
    )
    return figure

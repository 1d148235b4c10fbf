"""The results of a target as tables of texts, ours before the paper's."""

from keras_taps.reproduction.published import KEY
from keras_taps.reproduction.results import (
    published_correlations,
    reference,
    remark,
    summary,
    without_remark,
)

# Parts of the names of what a table shows of a figure without quantities of its own.
_PARTS = {
    "approximation": ("_error", "fraction", "exact_robust"),
    "differences": ("difference",),
    "split_matrix": ("taps,",),
}


def table_of(target, content):
    """A table of texts.

    Args:
        target: `Target`.
        content: What `reproduce` returns.

    Returns:
        `(head, rows)`: names of the columns, and lists of cells. A column "paper" comes after
        each of ours of which the paper has a number.
    """
    if target.kind == "goodness":
        return _correlation_table(content)
    rows = summary(content)
    quantities = _quantities(target, rows)
    if len(quantities) > 6:  # a long table reads better downwards
        uneven = _uneven(rows)
        head = ["eps", "method", "setting", *["seeds"] * uneven, "quantity", "ours", "paper"]
        cells = [
            [*_shown(row, uneven)[1:], name, *_pair(target, row, name)]
            for row in rows
            for name in quantities
            if name in row["figures"]
        ]
        return head, cells
    return _columns(target, rows, quantities)


def tables_of(target, content):
    """The same in tables for a page: a long one becomes one for each statistic.

    Args:
        target: `Target`.
        content: What `reproduce` returns.

    Returns:
        Dictionary from captions to `(head, rows)`. A target whose quantities are of the form
        'IBP: mean_error' has a table for each statistic, with a column for each method; others
        have one table, without a caption.
    """
    if target.kind != "approximation":
        return {"": table_of(target, content)}
    rows, names, tables = summary(content), {}, {}
    for quantity in _quantities(target, rows):
        names.setdefault(quantity.rpartition(": ")[2], []).append(quantity)
    for statistic, quantities in names.items():
        head, cells = _columns(target, rows, quantities)
        head = [name.removesuffix(f": {statistic}") for name in head]
        tables[statistic.replace("_", " ")] = (head, cells)
    return tables


def _quantities(target, rows):
    """Names of what a target shows of the figures of its rows."""
    found = dict.fromkeys(name for row in rows for name in row["figures"])
    parts = _PARTS.get(target.figure, ())
    return target.quantities or [name for name in found if any(part in name for part in parts)]


def _uneven(rows):
    """Whether rows differ in their number of seeds."""
    return len({row["seeds"] for row in rows}) > 1


def _columns(target, rows, quantities):
    """A table with a column for each quantity, from the rows of `summary`."""
    uneven = _uneven(rows)
    head = [*KEY, *["seeds"] * uneven]
    columns = list(zip(*(_shown(row, uneven) for row in rows), strict=True))
    for name in quantities:
        ours, theirs = zip(*(_pair(target, row, name) for row in rows), strict=True)
        head.append(name)
        columns.append(ours)
        if set(theirs) != {"-"}:
            head.append("paper")
            columns.append(theirs)
    return head, [list(cells) for cells in zip(*columns, strict=True)]


def _shown(row, with_seeds):
    """What names a row, as cells, and its number of seeds where rows differ in it."""
    names = [*(row[name] for name in KEY[:-1]), without_remark(row["setting"])]
    return [*names, str(row["seeds"])] if with_seeds else names


def _pair(target, row, quantity):
    """Cells of a quantity: ours and the paper's."""
    paper = reference(target, tuple(row[name] for name in KEY))
    own = row["figures"].get(quantity, (None, None))
    theirs = _number(paper.get(quantity), paper.get(f"{quantity}_std"), quantity)
    mark = "*" if remark(row["setting"]) and theirs != "-" else ""
    return _number(*own, quantity), theirs + mark


def remarks(content):
    """What the paper says of numbers that `table_of` marks with a star; "" if there are none."""
    if "correlations" in content:  # a table without settings
        return ""
    settings = dict.fromkeys(record["setting"] for record in content["records"])
    found = [f"{without_remark(each)}: {remark(each)}" for each in settings if remark(each)]
    return f"* In the paper: {'; '.join(found)}." if found else ""


def _number(value, deviation, quantity):
    if value is None:
        return "-"
    digits = 4 if ":" in quantity else 2
    digits = 0 if quantity in ("train_seconds", "certify_seconds") else digits
    text = f"{value:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"


def images_text(content):
    """How many test images the records are of, and for how many exact margins were not found.

    Example:

    >>> images_text({"records": [{"count": 1000, "open": 2}, {"count": 1000}]})
    '1000 test images, 2 exact margins left open'
    """
    counts = sorted({record["count"] for record in content["records"]})
    left = sum(record.get("open", 0) for record in content["records"])
    text = f"{' or '.join(map(str, counts))} test images"
    return text + f", {left} exact margins left open" * bool(left)


def training_seconds(content):
    """Seconds of training of all networks of a target, each counted once."""
    found = {record["model"]: record["train_seconds"] for record in content["records"]}
    return sum(found.values())


def _correlation_table(content):
    head = ["dataset", "networks", "quantity", "ours", "paper"]
    paper = published_correlations()
    rows = [
        [
            dataset,
            str(found["networks"]),
            name,
            "-" if value is None else f"{value:.4f}",
            f"{paper[dataset][name]:.4f}" if dataset in paper else "-",
        ]
        for dataset, found in content["correlations"].items()
        for name, value in found.items()
        if name != "networks"
    ]
    return head, rows
